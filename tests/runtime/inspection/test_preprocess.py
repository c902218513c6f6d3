import hashlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from differnet_runtime.errors import FrameError, ViewsError
from differnet_runtime.inspection.preprocess import (
    fitted,
    golden_frames,
    preprocess,
    rotate,
    rotation_index,
)
from differnet_runtime.model_file.contract import InputContract, Region


def noise(height: int, width: int, dtype: type = np.uint8) -> np.ndarray:
    return (
        np.random.RandomState(0)
        .randint(0, np.iinfo(dtype).max + 1, (height, width, 3))
        .astype(dtype)
    )


@settings(max_examples=200)
@given(size=st.integers(1, 70), angle=st.floats(-720, 720, allow_nan=False))
def test_rotation_takes_pillows_pixels(size: int, angle: float) -> None:
    image = noise(size, size)
    expected = np.asarray(PillowImage.fromarray(image).rotate(angle))
    np.testing.assert_array_equal(rotate(image, angle), expected)


@pytest.mark.parametrize("size", [224, 448])
@pytest.mark.parametrize("angle", [0, 7.5, 30, 45, 90, 137.3, 180, 225, 270, 359.99])
def test_rotation_takes_pillows_pixels_at_the_sizes_in_use(size: int, angle: float) -> None:
    image = noise(size, size)
    expected = np.asarray(PillowImage.fromarray(image).rotate(angle))
    np.testing.assert_array_equal(rotate(image, angle), expected)


def test_four_quarter_turns_are_none() -> None:
    quarter = rotation_index(31, 90.0)
    turned = np.arange(31 * 31)
    for _ in range(4):
        turned = turned[quarter]
    np.testing.assert_array_equal(turned, np.arange(31 * 31))


@pytest.mark.parametrize(("height", "width"), [(32, 64), (64, 32), (7, 9)])
def test_a_picture_that_is_not_square_is_turned_by_180_degrees_only(
    height: int, width: int
) -> None:
    image = noise(height, width)
    np.testing.assert_array_equal(rotate(image, 360.0), image)
    np.testing.assert_array_equal(rotate(image, -180.0), image[::-1, ::-1])
    for angle in (90.0, 270.0, 1.0):
        with pytest.raises(ViewsError, match=rf"{height} x {width} pixels .* only 0 and 180"):
            rotation_index(height, angle, width)


def test_a_frame_of_the_right_size_is_left_alone() -> None:
    image = noise(64, 64)
    np.testing.assert_array_equal(preprocess(image, InputContract(size=64)), image)


@pytest.mark.parametrize("shape", [(100, 60), (60, 100), (7, 9), (640, 480), (65, 64)])
@pytest.mark.parametrize("fit", ["stretch", "letterbox", "crop"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_fit_gives_the_contracts_square(shape: tuple, fit: str, dtype: type) -> None:
    result = preprocess(noise(*shape, dtype), InputContract(size=64, fit=fit))
    assert result.shape == (64, 64, 3)
    assert result.dtype == np.uint8
    assert result.flags.c_contiguous


@pytest.mark.parametrize("shape", [(100, 60), (60, 100), (32, 64), (7, 9), (480, 640), (96, 97)])
@pytest.mark.parametrize("fit", ["stretch", "letterbox", "crop"])
def test_every_fit_gives_the_contracts_height_and_width(shape: tuple, fit: str) -> None:
    result = preprocess(noise(*shape), InputContract(height=32, width=96, fit=fit))
    assert result.shape == (32, 96, 3)


def test_a_wide_inputs_letterbox_keeps_the_aspect_and_pads_with_black() -> None:
    white = np.full((64, 64, 3), 255, np.uint8)
    result = preprocess(white, InputContract(height=32, width=96, fit="letterbox"))
    columns = result.min(axis=(0, 2))
    assert (columns[32:64] == 255).all()
    assert (columns[:32] == 0).all()
    assert (columns[64:] == 0).all()


def test_a_wide_inputs_crop_has_its_aspect() -> None:
    image = np.zeros((96, 96, 3), np.uint8)
    image[32:64] = 255
    assert (preprocess(image, InputContract(height=32, width=96, fit="crop")) == 255).all()


@given(
    region=st.tuples(st.integers(8, 3000), st.integers(8, 3000)),
    height=st.sampled_from([32, 64, 200, 1024]),
    width=st.sampled_from([32, 64, 200, 1024]),
)
def test_a_crop_lies_inside_and_a_letterbox_outside_the_region(
    region: tuple[int, int], height: int, width: int
) -> None:
    sizes = {"height": height, "width": width}
    assert fitted(InputContract(**sizes, fit="stretch"), *region) == region
    for fit in ("crop", "letterbox"):
        tall, wide = fitted(InputContract(**sizes, fit=fit), *region)
        assert tall == region[0] or wide == region[1]
        inside = tall <= region[0] and wide <= region[1]
        outside = tall >= region[0] and wide >= region[1]
        assert inside if fit == "crop" else outside
        assert abs(tall * width - wide * height) <= max(height, width)


def test_letterbox_keeps_the_aspect_and_pads_with_black() -> None:
    white = np.full((50, 100, 3), 255, np.uint8)
    result = preprocess(white, InputContract(size=64, fit="letterbox"))
    rows = result.min(axis=(1, 2))
    assert (rows[16:48] == 255).all()
    assert (result[:16] == 0).all()
    assert (result[48:] == 0).all()


def test_crop_takes_the_middle_and_stretch_takes_all() -> None:
    image = np.zeros((64, 192, 3), np.uint8)
    image[:, 64:128] = 255
    assert (preprocess(image, InputContract(size=64, fit="crop")) == 255).all()
    assert preprocess(image, InputContract(size=64, fit="stretch")).mean() == pytest.approx(
        85, abs=2
    )


def test_the_region_is_cut_before_anything_else() -> None:
    image = noise(100, 120)
    region = Region(x=11, y=5, width=64, height=64)
    np.testing.assert_array_equal(
        preprocess(image, InputContract(size=64, region=region, fit="crop")), image[5:69, 11:75]
    )


@pytest.mark.parametrize(("x", "y"), [(57, 0), (0, 37), (1000, 1000)])
def test_a_region_outside_the_frame_names_both(x: int, y: int) -> None:
    contract = InputContract(size=64, region=Region(x=x, y=y, width=64, height=64))
    with pytest.raises(FrameError, match=rf"{x},{y},64,64 .* 120 x 100 pixels.*camera"):
        preprocess(noise(100, 120), contract)


@given(st.integers(0, 65535), st.sampled_from([1023, 4095, 65535]))
@settings(max_examples=60)
def test_16_bit_has_one_fixed_scale(value: int, white: int) -> None:
    """A picture's own extremes must not move its other pixels."""
    contract = InputContract(size=32, white_level=white)
    alone = np.full((32, 32, 3), value, np.uint16)
    beside = alone.copy()
    beside[0, 0] = 65535
    expected = min(255.0, value * 255.0 / white)
    assert abs(int(preprocess(alone, contract)[5, 5, 0]) - expected) <= 0.5 + 1e-6
    assert preprocess(beside, contract)[5, 5, 0] == preprocess(alone, contract)[5, 5, 0]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_is_three_equal_channels_and_a_fourth_is_dropped(dtype: type) -> None:
    contract = InputContract(size=32)
    image = noise(48, 48, dtype)
    grey = np.ascontiguousarray(image[:, :, 0])
    for form in (grey, grey[:, :, None]):
        result = preprocess(form, contract)
        assert (result == result[:, :, :1]).all()
    four = np.dstack([image, noise(48, 48, dtype)[:, :, :1]])
    np.testing.assert_array_equal(preprocess(four, contract), preprocess(image, contract))


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (None, "received NoneType"),
        ([[1, 2]], "received list"),
        (np.zeros((8, 8, 3), np.float32), "received float32"),
        (np.zeros((8, 8, 3), np.int16), "received int16"),
        (np.zeros((0, 8, 3), np.uint8), r"received \(0, 8, 3\)"),
        (np.zeros((8,), np.uint8), r"received \(8,\)"),
        (np.zeros((2, 8, 8, 3), np.uint8), r"received \(2, 8, 8, 3\)"),
        (np.zeros((8, 8, 2), np.uint8), "1, 3 or 4 channels; received 2"),
        (np.zeros((8, 8, 5), np.uint8), "1, 3 or 4 channels; received 5"),
    ],
)
def test_what_is_no_frame_is_refused_with_what_it_is(frame: object, message: str) -> None:
    with pytest.raises(FrameError, match=message):
        preprocess(frame, InputContract(size=32))  # type: ignore[arg-type]


def test_the_frame_is_not_changed() -> None:
    image = noise(100, 120)
    copy = image.copy()
    preprocess(image, InputContract(size=64, fit="letterbox"))
    np.testing.assert_array_equal(image, copy)


def test_shrinking_averages() -> None:
    """A checkerboard of single pixels becomes even grey, not stripes."""
    board = np.indices((256, 256)).sum(axis=0) % 2 * np.uint8(255)
    result = preprocess(
        cv2.cvtColor(board.astype(np.uint8), cv2.COLOR_GRAY2BGR), InputContract(size=64)
    )
    assert result.min() >= 126
    assert result.max() <= 129


def test_golden_frames_never_change() -> None:
    """Exported files hold scores of these very bytes."""
    digest = hashlib.sha256(golden_frames(InputContract(size=224)).tobytes()).hexdigest()
    assert digest == "c5bdfd6c92084e81d0470a692d959d29e44da2fbd6d41b7b821fbac029e497c8"
    contract = InputContract(size=64)
    np.testing.assert_array_equal(golden_frames(contract, 5)[:2], golden_frames(contract, 2))


def test_golden_frames_have_the_inputs_height_and_width() -> None:
    frames = golden_frames(InputContract(height=32, width=100, pixel="bgrx"), 2)
    assert frames.shape == (2, 32, 100, 4)
    assert (frames[..., 3] == 255).all()
    assert frames[..., :3].std(axis=(1, 2)).min() > 5.0


@pytest.mark.parametrize("fit", ["stretch", "letterbox", "crop"])
@pytest.mark.parametrize("shape", [(70, 50), (70, 50, 1), (70, 50, 3), (70, 50, 4), (64, 64, 4)])
def test_bgrx_has_the_pixels_of_bgr_and_one_byte_more(fit: str, shape: tuple[int, ...]) -> None:
    image = np.random.RandomState(0).randint(0, 256, shape).astype(np.uint8)
    contract = InputContract(size=64, fit=fit)
    three = preprocess(image, contract)
    four = preprocess(image, contract.model_copy(update={"pixel": "bgrx"}))
    assert (three.shape, four.shape) == ((64, 64, 3), (64, 64, 4))
    np.testing.assert_array_equal(four[:, :, :3], three)


@pytest.mark.parametrize("image", [noise(70, 50), noise(64, 64), noise(30, 64, np.uint16)])
def test_a_buffer_that_is_given_is_written(image: np.ndarray) -> None:
    contract = InputContract(size=64)
    out = np.zeros(contract.shape, np.uint8)
    assert preprocess(image, contract, out) is out
    np.testing.assert_array_equal(out, preprocess(image, contract))


@given(
    height=st.integers(8, 900), width=st.integers(8, 900), channels=st.sampled_from([None, 3, 4])
)
@settings(max_examples=150)
def test_shrinking_is_the_average_of_areas(height: int, width: int, channels: int | None) -> None:
    """What is quicker than averaging over areas must give nearly the same pixels."""
    shape = (height, width) if channels is None else (height, width, channels)
    coarse = np.random.RandomState(0).randint(0, 256, (5, 5, *shape[2:])).astype(np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    contract = InputContract(size=64, pixel="bgrx" if channels == 4 else "bgr")
    found = preprocess(image, contract).astype(int)[:, :, :3]
    shrunk = cv2.resize(image, (min(64, width), min(64, height)), interpolation=cv2.INTER_AREA)
    expected = cv2.resize(shrunk, (64, 64)).reshape(64, 64, -1)[:, :, :3]
    difference = np.abs(found - expected)
    assert difference.mean() < 1.5
    assert difference.max() <= 10


@pytest.mark.parametrize("shape", [(4000, 70), (70, 4000), (3001, 999), (65, 1999)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_fine_stripes_become_even_grey_at_any_ratio(shape: tuple, dtype: type) -> None:
    """A step that leaves pixels out would show them as coarse stripes."""
    white = np.iinfo(dtype).max
    image = np.zeros((*shape, 3), dtype)
    longer = int(shape[1] > shape[0])
    image[(slice(None), slice(None, None, 2)) if longer else slice(None, None, 2)] = white
    result = preprocess(image, InputContract(size=32)).astype(int)
    assert abs(result - 127.5).max() <= 16


@pytest.mark.parametrize(
    "shape",
    [
        *[(720, 1280), (480, 640), (1080, 1920), (600, 520), (300, 300), (1081, 1921)],
        *[(200, 1280), (255, 2048), (2048, 200)],  # enlarged along one side
    ],
)
@pytest.mark.parametrize("axis", [0, 1])
def test_every_line_of_a_frame_leaves_a_trace(shape: tuple[int, int], axis: int) -> None:
    """A scratch of one pixel must not come and go with its position."""
    sums = []
    for position in {*range(0, shape[axis], 7), shape[axis] - 1}:
        image = np.zeros((*shape, 3), np.uint8)
        image[(slice(None),) * axis + (position,)] = 255
        small = preprocess(image, InputContract(size=256)).astype(int)
        sums.append(small.sum(axis=axis).mean())
    even = 255 * 256 / shape[axis]
    assert min(sums) >= 0.75 * even
    assert max(sums) <= (2.1 if shape[axis] % 2 else 1.5) * even  # the last of an odd number


def test_twice_the_size_halved_again_and_again_is_exact() -> None:
    """Whole numbers of pixels are averaged as they are, but for the rounding of each step."""
    image = noise(1024, 1024)
    exact = image.reshape(64, 16, 64, 16, 3).mean(axis=(1, 3))
    assert np.abs(preprocess(image, InputContract(size=64)) - exact).max() <= 2.0
