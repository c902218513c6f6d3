import numpy as np
import pytest

from differnet_runtime.cameras.base import convert
from differnet_runtime.config.models import PixelFormat
from differnet_runtime.errors import CameraError

BGR = {"b": 200, "g": 100, "r": 30}


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "grbg", "gbrg"])
def test_a_mosaic_gives_its_colours(pattern: str, depth: type) -> None:
    mosaic = np.zeros((16, 24), depth)
    for at, letter in enumerate(pattern):  # as cameras name it: row by row, from the corner
        mosaic[at // 2 :: 2, at % 2 :: 2] = BGR[letter]
    pixels: PixelFormat = f"bayer_{pattern}"  # type: ignore[assignment]
    colour = convert(mosaic, pixels)
    assert colour.dtype == depth
    assert colour.shape == (16, 24, 3)
    assert (colour[2:-2, 2:-2] == list(BGR.values())).all()


def test_a_mosaic_in_three_equal_channels_is_read_too() -> None:
    mosaic = np.full((8, 8), 100, np.uint8)
    assert (convert(np.dstack([mosaic] * 3), "bayer_rggb") == 100).all()


def test_colours_are_no_mosaic() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    image[..., 2] = 9
    with pytest.raises(CameraError, match=r"bayer_rggb.*gives colours"):
        convert(image, "bayer_rggb")


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_mono_is_one_channel(depth: type) -> None:
    grey = np.arange(48, dtype=depth).reshape(6, 8)
    assert np.array_equal(convert(grey, "mono"), grey)
    assert np.array_equal(convert(grey[..., None], "mono"), grey)
    assert np.array_equal(convert(np.dstack([grey] * 3), "mono"), grey)
    assert np.array_equal(convert(grey, "auto"), grey)
