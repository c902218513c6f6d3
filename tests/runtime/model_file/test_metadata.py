import pytest
from pydantic import ValidationError

from differnet_runtime.errors import ViewsError
from differnet_runtime.model_file.contract import InputContract, Region, Views, check_views
from differnet_runtime.model_file.metadata import Appearance, ModelMetadata, Windows

SQUARE = InputContract(height=64, width=64)


def test_views_that_training_saw_are_accepted() -> None:
    check_views(Views(angles=(0.0, 450.0, -90.0), trained=(0.0, 90.0, 270.0)), SQUARE)
    check_views(Views(angles=(12.5,), trained="any"), SQUARE)


def test_views_that_training_never_saw_are_refused_by_name() -> None:
    with pytest.raises(ViewsError, match=r"views 45 degrees were never trained: .* 0, 90 degrees"):
        check_views(Views(angles=(0.0, 45.0), trained=(0.0, 90.0)), SQUARE)


def test_views_must_keep_the_shape_of_an_input_that_is_not_square() -> None:
    wide = InputContract(height=64, width=128)
    quarter = Views(angles=(0.0, 90.0, -180.0, 12.5), trained="any")
    check_views(quarter, SQUARE)
    check_views(Views(angles=(0.0, 180.0, -180.0, 360.0), trained="any"), wide)
    with pytest.raises(ViewsError, match=r"views 90, 12\.5 degrees .* 64 x 128 .* 0 and 180"):
        check_views(quarter, wide)
    with pytest.raises(ViewsError, match="never trained"):
        check_views(Views(angles=(180.0,), trained=(0.0,)), wide)


def test_the_square_sizes_of_older_formats_are_read() -> None:
    assert InputContract(size=64).shape == (64, 64, 3)
    assert (Windows(grid=8).rows, Windows(grid=8).columns) == (8, 8)


def test_unknown_keys_are_refused(metadata: ModelMetadata) -> None:
    fields = metadata.model_dump(mode="json")
    fields["input"]["zoom"] = 2
    with pytest.raises(ValidationError, match=r"input\.zoom"):
        ModelMetadata.model_validate(fields)


def test_metadata_survives_json(metadata: ModelMetadata) -> None:
    assert ModelMetadata.model_validate_json(metadata.model_dump_json()) == metadata


def test_a_replaced_part_is_validated(metadata: ModelMetadata) -> None:
    assert metadata.replaced(name="nut").name == "nut"
    assert metadata.name == "washer"
    with pytest.raises(ValidationError):
        metadata.replaced(score="guess")


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 16},
        {"size": 8196},
        {"size": 64, "fit": "zoom"},
        {"size": 64, "white_level": 1},
        {"height": 64},
        {"height": 64, "width": 70},
        {"height": 64, "width": 96, "tiles": {"rows": 2, "columns": 2}},
    ],
)
def test_an_input_contract_has_limits(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        InputContract(**wrong)


@pytest.mark.parametrize(
    "wrong", [{"darkest": -1}, {"brightest": 256}, {"softest": float("nan")}, {"images": 0}]
)
def test_how_pictures_look_has_limits(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        Appearance(**{"darkest": 1, "brightest": 2, "softest": 3, "images": 4, **wrong})


def test_a_region_reads_as_the_option_takes_it() -> None:
    assert str(Region(x=1, y=2, width=30, height=40)) == "1,2,30,40"
