"""What is said of painted defects, in sentences."""

import pytest
from pydantic import ValidationError

from differnet_runtime.model_file.detection_limits import (
    DetectionLimit,
    DetectionLimits,
    basis,
    outdated,
    said,
    sentences,
    warning,
)
from differnet_runtime.model_file.metadata import ModelMetadata
from tests.fakes.limits import limit, limits


def test_each_kind_is_a_sentence_in_pixels_of_the_picture() -> None:
    assert sentences(limits()) == {
        "dark_spot": "A dark spot is found from 58 pixels on at contrast 20, from 28 at contrast "
        "40, from 15 at contrast 80.",
        "scratch": "A scratch is found from 80 pixels on at contrast 80; at contrast 40 it is not "
        "found.",
        "blur": "A blurred area is found from 112 pixels on.",
    }


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            [limit("stain", 20, None), limit("stain", 40, None)],
            "A stain is not found up to 320 pixels, even at contrast 40.",
        ),
        ([limit("blur", None, None)], "A blurred area is not found up to 320 pixels."),
        (
            [limit("dark_spot", 40, None, painted=0)],
            "A dark spot could not be painted: the good pictures are too dark for it.",
        ),
        (
            [limit("bright_spot", 40, None, painted=0)],
            "A bright spot could not be painted: the good pictures are too bright for it.",
        ),
        (
            [limit("stain", 20, 8), limit("stain", 40, 8), limit("stain", 80, 4)],
            "A stain is found from 20 pixels on at contrast 20, from 10 at contrast 80.",
        ),
    ],
)
def test_what_is_not_found_or_not_painted_is_said(lines, expected) -> None:
    assert list(sentences(limits(*lines)).values()) == [expected]


def test_it_says_that_the_defects_were_painted_and_on_what() -> None:
    text = basis(limits())
    assert (
        "painted by code on 14 good pictures that the judging model (fitted without them)" in text
    )
    assert "From the stated size on, 90% of them are found at the threshold 2." in text
    assert "one pixel of the model's input is 2.5 of them" in text
    assert "Real defects of the same size can be easier or harder to find." in text
    assert "that the model had not seen" in basis(
        limits().model_copy(update={"judged_by": "saved"})
    )


def test_the_warning_comes_last_and_only_where_it_is_due() -> None:
    assert warning(limits()) is None
    assert said(limits()).splitlines()[-1] == "  A blurred area is found from 112 pixels on."
    last = said(limits(usable=False)).splitlines()[-1]
    assert last.startswith("Do not use this model: it misses more than 10% of the painted spots")
    assert "of up to 70 pixels (1 % of the picture's area), even at contrast 80." in last


def test_a_changed_threshold_is_mentioned() -> None:
    assert outdated(limits(), 2.0) is None
    assert outdated(limits(), 2.01) is None
    assert "the threshold 2, which is now 2.6" in str(outdated(limits(), 2.6))


def test_limits_survive_json_and_may_be_absent(metadata: ModelMetadata) -> None:
    assert metadata.detection_limits is None
    known = metadata.replaced(detection_limits=limits())
    assert ModelMetadata.model_validate_json(known.model_dump_json()) == known
    fields = metadata.model_dump(mode="json")
    del fields["detection_limits"]  # as in files written before
    assert ModelMetadata.model_validate(fields) == metadata


@pytest.mark.parametrize(
    "wrong", [{"kind": "dent"}, {"contrast": 256}, {"size": 0}, {"painted": -1}]
)
def test_a_limit_has_a_range(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        DetectionLimit(**{**limit("scratch", 20, 8).model_dump(), **wrong})
    with pytest.raises(ValidationError):
        DetectionLimits(**{**limits().model_dump(), "share": 1.0})
