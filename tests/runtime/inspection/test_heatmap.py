"""Where a heatmap lies on the camera's frame, and its colours."""

import numpy as np
import pytest

from differnet_runtime.inspection.drawing import blended, on_frame, resized
from differnet_runtime.inspection.preprocess import preprocess
from differnet_runtime.model_file.contract import InputContract, Region
from differnet_runtime.model_file.metadata import Windows

CORNER = np.zeros((4, 4), np.float32)
CORNER[0, 0] = 1.0


def test_it_covers_the_frame_where_the_input_was_stretched():
    heat = on_frame(CORNER, 40, 80, InputContract(size=64))
    assert heat.shape == (40, 80)
    assert heat[0, 0] == heat[4, 9] == 1.0
    assert heat[-1, -1] == 0.0


def test_it_lies_in_the_region():
    region = Region(x=20, y=8, width=16, height=16)
    heat = on_frame(CORNER, 40, 60, InputContract(size=64, region=region))
    assert heat[8, 20] == 1.0
    assert heat[23, 35] == 0.0
    outside = np.ones((40, 60), bool)
    outside[8:24, 20:36] = False
    assert np.isnan(heat[outside]).all()
    assert not np.isnan(heat[~outside]).any()


@pytest.mark.parametrize(("height", "width"), [(40, 80), (80, 40), (41, 80)])
def test_a_crop_was_the_middle_square(height, width):
    heat = on_frame(CORNER, height, width, InputContract(size=64, fit="crop"))
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    assert np.isnan(heat).sum() == height * width - side * side
    np.testing.assert_array_equal(
        heat[top : top + side, left : left + side], resized(CORNER, side, side)
    )


@pytest.mark.parametrize(("height", "width"), [(40, 80), (80, 40), (41, 80)])
def test_a_letterboxs_border_is_cut_off(height, width):
    heat = on_frame(CORNER, height, width, InputContract(size=64, fit="letterbox"))
    side = max(height, width)
    top, left = -((height - side) // 2), -((width - side) // 2)
    expected = resized(CORNER, side, side)[top : top + height, left : left + width]
    np.testing.assert_array_equal(heat, expected)


@pytest.mark.parametrize("fit", ["stretch", "crop", "letterbox"])
@pytest.mark.parametrize("frame", [(60, 200), (200, 60), (120, 120)])
def test_an_input_that_is_not_square_is_undone(fit, frame):
    """A bright block of the frame is bright in the input, and comes back where it was."""
    contract = InputContract(height=32, width=96, fit=fit)
    image = np.zeros((*frame, 3), np.uint8)
    y, x = frame[0] // 2, frame[1] // 2
    image[y - 4 : y + 6, x - 8 : x + 12] = 255
    heat = on_frame(preprocess(image, contract)[:, :, 0].astype(np.float32), *frame, contract)
    assert heat.shape == frame
    seen = ~np.isnan(heat)
    assert seen.all() == (fit != "crop")
    error = np.abs(heat - image[:, :, 0])[seen]
    assert error.mean() < 6.0
    assert heat[y, x] > 150.0


def test_windows_may_have_other_rows_than_columns():
    scores = np.zeros((2, 6), np.float32)
    scores[1, 5] = 1.0
    heat = on_frame(scores, 40, 120, InputContract(height=32, width=96))
    assert heat[-1, -1] == 1.0
    assert heat[:20, :100].max() < 0.51


def test_colours_are_the_models_not_the_pictures():
    picture = np.full((8, 8, 3), 100, np.uint8)
    heat = np.full((8, 8), 5.0, np.float32)
    scale = Windows(grid=8, low=1.0, high=11.0)
    once = blended(picture, heat, scale)
    heat[0, 0] = 1000.0
    again = blended(picture, heat, scale)
    np.testing.assert_array_equal(once[1:], again[1:])
    assert (once[0, 0] != again[0, 0]).any()
    heat[:] = np.nan
    np.testing.assert_array_equal(blended(picture, heat, scale), picture)
    heat[:] = np.inf
    assert (blended(picture, heat, scale) != picture).any()


def test_without_a_scale_nothing_is_drawn():
    picture = np.full((8, 8, 3), 100, np.uint8)
    heat = np.ones((8, 8), np.float32)
    np.testing.assert_array_equal(blended(picture, heat, Windows(grid=8)), picture)
