"""The feature cache: right numbers, never a damaged entry, every unreadable picture named."""

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from differnet_runtime.errors import DataError
from differnet_runtime.images import read_image
from differnet_runtime.inspection.image_checks import look
from differnet_runtime.inspection.preprocess import preprocess
from differnet_runtime.model_file.contract import InputContract, Region
from differnet_training.datasets import ImageFile
from differnet_training.extractors import build_extractor
from differnet_training.features import FeatureReader, ViewPlan, default_cache_folder
from tests.drawn import write_parts

CONTRACT = InputContract(size=64)
RIGHT = ViewPlan.fixed((0.0, 90.0, 180.0, 270.0))


@pytest.fixture(scope="module")
def extractor():
    return build_extractor("efficientnet_lite0", tap=2)


def pictures(folder: Path, count: int = 3) -> list[ImageFile]:
    return [ImageFile(path) for path in write_parts(folder, count)]


def entries(cache: Path) -> list[Path]:
    return sorted(cache.rglob("*.features"))


class CountingReader(FeatureReader):
    """Counts how often the extractor runs."""

    extracted = 0

    def extract(self, images):
        self.extracted += 1
        return super().extract(images)


def test_a_second_run_extracts_nothing_and_gives_the_same_bits(tmp_path, extractor):
    data = pictures(tmp_path / "data")
    first = CountingReader(extractor, CONTRACT, tmp_path / "cache")
    second = CountingReader(extractor, CONTRACT, tmp_path / "cache")
    values = first.read(data, RIGHT, "x").values
    assert np.array_equal(second.read(data, RIGHT, "x").values, values)
    assert (first.extracted, second.extracted) == (3, 0)
    assert values.shape == (3, 4, extractor.spec.features)


def test_features_do_not_depend_on_the_company(tmp_path, extractor):
    data = pictures(tmp_path / "data", 4)
    reader = FeatureReader(extractor, CONTRACT, None)
    together = reader.read(data, RIGHT, "x").values
    alone = reader.read(data[2:3], RIGHT, "x").values
    assert np.array_equal(together[2:3], alone)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "other"])
def test_a_damaged_entry_is_computed_again(tmp_path, extractor, damage, caplog):
    data = pictures(tmp_path / "data", 1)
    reader = CountingReader(extractor, CONTRACT, tmp_path / "cache")
    expected = reader.read(data, RIGHT, "x").values
    (entry,) = entries(tmp_path / "cache")
    whole = entry.read_bytes()
    damaged = {
        "flip": whole[:100] + bytes([whole[100] ^ 1]) + whole[101:],
        "cut": whole[: len(whole) // 2],
        "empty": b"",
        "other": b"x" * len(whole),
    }[damage]
    entry.write_bytes(damaged)
    with caplog.at_level(logging.WARNING):
        assert np.array_equal(reader.read(data, RIGHT, "x").values, expected)
    assert "damaged" in caplog.text
    assert reader.extracted == 2
    assert entry.read_bytes() == whole


@pytest.mark.parametrize(
    "change",
    [
        {"height": 96, "width": 96},
        {"fit": "letterbox"},
        {"region": Region(x=0, y=0, width=32, height=32)},
        {"white_level": 4095},
    ],
)
def test_another_input_contract_is_another_key(tmp_path, extractor, change):
    data = pictures(tmp_path / "data", 1)
    FeatureReader(extractor, CONTRACT, tmp_path / "cache").read(data, RIGHT, "x")
    changed = InputContract.model_validate({**dict(CONTRACT), **change})
    reader = CountingReader(extractor, changed, tmp_path / "cache")
    reader.read(data, RIGHT, "x")
    assert reader.extracted == 1


@pytest.mark.parametrize("change", [{"height": 96}, {"width": 96}])
def test_either_side_of_the_input_is_in_the_key(tmp_path, extractor, change):
    data, upright = pictures(tmp_path / "data", 1), ViewPlan.fixed((0.0, 180.0))
    FeatureReader(extractor, CONTRACT, tmp_path / "cache").read(data, upright, "x")
    changed = InputContract.model_validate({**dict(CONTRACT), **change})
    reader = CountingReader(extractor, changed, tmp_path / "cache")
    reader.read(data, upright, "x")
    assert reader.extracted == 1


def test_other_weights_and_other_views_are_other_keys(tmp_path, extractor):
    data = pictures(tmp_path / "data", 1)
    FeatureReader(extractor, CONTRACT, tmp_path / "cache").read(data, RIGHT, "x")
    other = build_extractor("efficientnet_lite0", tap=1)
    for changed, views in ((other, RIGHT), (extractor, ViewPlan.fixed((0.0,)))):
        reader = CountingReader(changed, CONTRACT, tmp_path / "cache")
        reader.read(data, views, "x")
        assert reader.extracted == 1


def test_scales_are_those_of_nearest_neighbour(extractor):
    frame = torch.randint(0, 256, (1, 3, 64, 64)).float()
    for scale in (2, 4):
        nearest = torch.nn.functional.interpolate(frame, size=64 // scale)
        assert torch.equal(nearest, frame[:, :, ::scale, ::scale])


def test_normalisation_and_order_of_scales(extractor):
    frame = torch.rand(1, 3, 64, 64) * 255
    features = extractor(frame)
    rgb = frame[:, [2, 1, 0]] / 255
    mean = std = torch.full((1, 3, 1, 1), 0.5)  # what this network was trained with
    channels = extractor.spec.channels
    for position, scale in enumerate((1, 2, 4)):
        x = torch.nn.functional.interpolate((rgb - mean) / std, size=64 // scale)
        expected = extractor.network(x)[0].mean(dim=(2, 3))
        actual = features[:, position * channels : (position + 1) * channels]
        assert torch.allclose(actual, expected, atol=1e-5)


class TestUnreadable:
    def broken(self, folder: Path) -> list[ImageFile]:
        data = pictures(folder, 3)
        data[0].path.write_bytes(data[0].path.read_bytes()[:200])
        data[2].path.write_text("not a picture")
        return data

    def test_every_one_is_listed_with_its_cause(self, tmp_path, extractor):
        data = self.broken(tmp_path)
        with pytest.raises(DataError, match="2 of 3 pictures can't be used") as caught:
            FeatureReader(extractor, CONTRACT, None).read(data, RIGHT, "x")
        message = str(caught.value)
        assert "part0000.png" in message
        assert "part0002.png: not a picture" in message
        assert "--skip-unreadable" in message

    def test_skipping_goes_on_with_the_others_and_still_lists_them(
        self, tmp_path, extractor, caplog
    ):
        data = self.broken(tmp_path)
        reader = FeatureReader(extractor, CONTRACT, None, skip_unreadable=True)
        with caplog.at_level(logging.WARNING):
            kept = reader.read(data, RIGHT, "x")
        assert kept.images == (data[1],)
        assert "part0002.png" in caplog.text

    def test_nothing_readable_is_an_error_even_so(self, tmp_path, extractor):
        path = tmp_path / "x.png"
        path.write_text("no")
        reader = FeatureReader(extractor, CONTRACT, None, skip_unreadable=True)
        with pytest.raises(DataError, match="1 of 1 pictures"):
            reader.read([ImageFile(path)], RIGHT, "x")

    def test_a_region_outside_the_picture_names_the_picture(self, tmp_path, extractor):
        data = pictures(tmp_path, 1)
        contract = InputContract(size=64, region=Region(x=50, y=0, width=32, height=32))
        with pytest.raises(DataError, match=r"part0000\.png.*region of interest"):
            FeatureReader(extractor, contract, None).read(data, RIGHT, "x")


class TestRandomViews:
    def test_angles_depend_on_picture_and_seed_alone(self):
        plan = ViewPlan.random(4, "7")
        assert plan.angles("a") == ViewPlan.random(4, "7").angles("a")
        assert plan.angles("a") != plan.angles("b")
        assert plan.angles("a") != ViewPlan.random(4, "8").angles("a")
        assert all(-180 <= angle <= 180 for angle in plan.angles("a"))

    def test_rotated_features_are_those_of_the_rotated_picture(self, tmp_path, extractor):
        (picture,) = pictures(tmp_path, 1)
        reader = FeatureReader(extractor, CONTRACT, None)
        values = reader.read([picture], RIGHT, "x").values[0]
        image = preprocess(read_image(picture.path), CONTRACT)
        turned = np.stack([np.rot90(image, k) for k in range(4)])
        assert np.array_equal(values, reader.extract(turned))


def test_the_cache_folder_can_be_named(monkeypatch, tmp_path):
    monkeypatch.setenv("DIFFERNET_CACHE", str(tmp_path))
    assert default_cache_folder() == tmp_path
    monkeypatch.delenv("DIFFERNET_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_folder() == tmp_path / "differnet-edge" / "features"


def test_sixteen_bit_pictures_use_one_fixed_scale(tmp_path, extractor):
    dark = (np.arange(64 * 64).reshape(64, 64) % 2000).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "dark.png"), dark)
    picture = [ImageFile(tmp_path / "dark.png")]
    wide = FeatureReader(extractor, CONTRACT, None).read(picture, RIGHT, "x").values
    contract = InputContract(size=64, white_level=4095)
    narrow = FeatureReader(extractor, contract, None).read(picture, RIGHT, "x").values
    assert not np.allclose(wide, narrow)


def deep_pictures(folder: Path, *brightest: int) -> list[ImageFile]:
    """Writes 16-bit pictures, each of which holds its greatest value once."""
    for k, value in enumerate(brightest):
        image = np.full((64, 64), value // 3, np.uint16)
        image[k, k] = value
        cv2.imwrite(str(folder / f"deep{k}.png"), image)
    return [ImageFile(path) for path in sorted(folder.glob("deep*.png"))]


@pytest.mark.parametrize(("brightest", "bits", "white"), [(4090, 12, 4095), (1000, 10, 1023)])
def test_pictures_of_a_narrower_camera_are_warned_of_once(
    tmp_path, extractor, caplog, brightest, bits, white
):
    data = deep_pictures(tmp_path, brightest // 2, brightest, 5)
    FeatureReader(extractor, CONTRACT, None).check([*data, *pictures(tmp_path / "plain")])
    (record,) = caplog.records
    assert f"none of the 3 pictures of 16 bits has a value above {brightest}" in record.getMessage()
    assert f"a {bits}-bit camera" in record.getMessage()
    assert f"--white-level {white}" in record.getMessage()


@pytest.mark.parametrize(
    ("brightest", "white"), [((900, 5000), 65535), ((900, 1000), 4095), ((), 65535)]
)
def test_no_warning_without_need(tmp_path, extractor, caplog, brightest, white):
    data = [*deep_pictures(tmp_path, *brightest), *pictures(tmp_path / "plain")]
    FeatureReader(extractor, InputContract(size=64, white_level=white), None).check(data)
    assert caplog.records == []


def test_how_the_pictures_look_is_measured_where_they_are_checked(tmp_path, extractor):
    data = pictures(tmp_path / "plain")
    kept, measured = FeatureReader(extractor, CONTRACT, None).check(data)
    looks = [look(preprocess(read_image(picture.path), CONTRACT)) for picture in data]
    assert kept == tuple(data)
    assert [one.look for one in measured] == looks
    assert [one.path for one in measured] == [picture.path for picture in data]
