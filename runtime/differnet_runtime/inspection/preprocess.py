"""A camera's frame to the graph's input: the one path for training, calibration and the camera."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import FrameError, ViewsError
from ..model_file.contract import InputContract, Region
from ..records import Image

_NEAR = 1.5
"""A side at most this many times its target length is resized in one step."""


def preprocess(
    image: Image, contract: InputContract, out: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """Cuts the region, brings the size to the contract's height and width, the depth to 8 bits.

    Shrinking averages areas (a large frame is halved first), enlarging interpolates linearly.

    Args:
        image: `(H, W)`, `(H, W, 1)`, `(H, W, 3)` BGR or `(H, W, 4)` BGRA/BGRx; uint8 or uint16.
        contract: The model's input contract.
        out: Where the result is written, `contract.shape` uint8, contiguous; a backend's own buffer
            saves a copy.

    Returns:
        `contract.shape` uint8 BGR or BGRx, contiguous: `out`, where it was given.

    Raises:
        FrameError: The frame's type, channels or size do not fit.
    """
    image = checked(image)
    if contract.region is not None:
        image = _cut(image, contract.region)
    if contract.fit == "crop":
        image = _cut_centre(image, contract)
    if out is None:
        out = np.empty((contract.height, contract.width, len(contract.pixel)), np.uint8)
    fits = image.dtype == np.uint8 and image.shape[2:] == out.shape[2:]
    resized = _resize(image, contract, out if fits else None)
    if resized is not out:
        if resized.dtype == np.uint16:
            resized = cv2.convertScaleAbs(resized, alpha=255.0 / contract.white_level)  # type: ignore[assignment]
        out[...] = _coloured(resized, out.shape[2])
    return out


def checked(image: Image) -> Image:
    """Refuses what is no frame; returns it as `(H, W)` or `(H, W, 3 | 4)`.

    Raises:
        FrameError: Its type, shape or channels are not those of a frame.
    """
    if not isinstance(image, np.ndarray) or image.dtype not in (np.uint8, np.uint16):
        received = getattr(image, "dtype", type(image).__name__)
        raise FrameError(f"a frame must be a uint8 or uint16 array; received {received}")
    if image.size == 0 or image.ndim not in (2, 3):
        raise FrameError(f"a frame must be (H, W) or (H, W, channels); received {image.shape}")
    channels = 1 if image.ndim == 2 else image.shape[2]
    if channels not in (1, 3, 4):
        raise FrameError(f"a frame must have 1, 3 or 4 channels; received {channels}")
    return image[:, :, 0] if image.ndim == 3 and channels == 1 else image


def grey(prepared: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns a prepared picture, `(height, width, 3 | 4) uint8`, in grey: `(height, width)`."""
    code = cv2.COLOR_BGR2GRAY if prepared.shape[2] == 3 else cv2.COLOR_BGRA2GRAY
    return cv2.cvtColor(prepared, code)  # type: ignore[return-value]


def _coloured(image: Image, channels: int) -> Image:
    """Repeats a grey frame, leaves out a fourth channel, or adds one."""
    if image.ndim == 2:
        code = cv2.COLOR_GRAY2BGR if channels == 3 else cv2.COLOR_GRAY2BGRA
        return cv2.cvtColor(image, code)  # type: ignore[return-value]
    if image.shape[2] < channels:
        return cv2.cvtColor(image, cv2.COLOR_BGR2BGRA)  # type: ignore[return-value]
    return image[:, :, :channels]


def _cut(image: Image, region: Region) -> Image:
    height, width = image.shape[:2]
    if region.x + region.width > width or region.y + region.height > height:
        raise FrameError(
            f"the model's region of interest {region} (x,y,width,height) does not lie inside this "
            f"frame of {width} x {height} pixels. Set the camera to the size used in training."
        )
    return image[region.y : region.y + region.height, region.x : region.x + region.width]


def fitted(contract: InputContract, height: int, width: int) -> tuple[int, int]:
    """Returns the area that the input shows, centred on the region: its height and width.

    Both are in the camera's pixels. `stretch` shows the region itself; `crop` the largest part of
    it that has the input's aspect ratio; `letterbox` the smallest area of that ratio around it.

    Args:
        contract: The model's input contract.
        height: Height of the region in pixels; of the whole frame where the contract has no region.
        width: Width of the region in pixels, likewise.
    """
    if contract.fit == "stretch":
        return height, width
    tall = height * contract.width > width * contract.height  # for the input's aspect ratio
    if tall == (contract.fit == "crop"):
        return max(1, round(width * contract.height / contract.width)), width
    return height, max(1, round(height * contract.width / contract.height))


def _cut_centre(image: Image, contract: InputContract) -> Image:
    height, width = fitted(contract, *image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def _resize(image: Image, contract: InputContract, out: NDArray[np.uint8] | None) -> Image:
    """Resizes; into `out`, and returns it, where it is given and no border is needed."""
    height, width = image.shape[:2]
    wanted = contract.height, contract.width
    if (height, width) == wanted:
        return image
    if contract.fit != "letterbox":
        return _scale(image, *wanted, out)
    ratio = min(wanted[0] / height, wanted[1] / width)
    inner_height, inner_width = max(1, round(height * ratio)), max(1, round(width * ratio))
    canvas = np.zeros((*wanted, *image.shape[2:]), image.dtype)
    top, left = (wanted[0] - inner_height) // 2, (wanted[1] - inner_width) // 2
    canvas[top : top + inner_height, left : left + inner_width] = _scale(
        image, inner_height, inner_width
    )
    return canvas


def _scale(image: Image, height: int, width: int, out: NDArray[np.uint8] | None = None) -> Image:
    smaller = min(height, image.shape[0]), min(width, image.shape[1])
    if smaller not in ((height, width), image.shape[:2]):
        image = _scale(image, *smaller)  # enlarged at once, its other side would lose pixels
    halved = _halved(image, height, width)
    shrinks = height < image.shape[0] or width < image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    if halved is not image and max(halved.shape[0] / height, halved.shape[1] / width) <= _NEAR:
        method = cv2.INTER_LINEAR_EXACT  # quicker; at this ratio it leaves no pixel out
    resized = cv2.resize(halved, (width, height), out, 0, 0, method)
    if out is not None and np.may_share_memory(resized, out):
        return out
    return resized  # type: ignore[return-value]


def _halved(image: Image, height: int, width: int) -> Image:
    """Halves a frame along each side that is at least twice its target length.

    Averaging a large frame over areas that are no whole number of pixels takes two to five times
    as long. Halves are computed in integers: each machine gets the same pixels. The last row or
    column of an odd number counts twice: halves of an odd number would lie between the pixels, and
    fine stripes would come and go.
    """
    if image.shape[0] < height or image.shape[1] < width:
        return image
    while True:
        rows, columns = _step(image.shape[0], height), _step(image.shape[1], width)
        if rows == columns == 1:
            return image
        odd = image.shape[0] % rows, image.shape[1] % columns
        if any(odd):
            image = cv2.copyMakeBorder(image, 0, odd[0], 0, odd[1], cv2.BORDER_REPLICATE)  # type: ignore[assignment]
        size = _next(image.shape[1], columns, width), _next(image.shape[0], rows, height)
        image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR_EXACT)  # type: ignore[assignment]


def _step(length: int, goal: int) -> int:
    """Returns 2 where a side is to be halved, else 1: in a short odd one a line is too much."""
    return 1 + (length >= (4 if length % 2 else 2) * goal)


def _next(length: int, step: int, goal: int) -> int:
    """Returns a side's next length; one near its goal goes there while the other is halved."""
    return goal if step == 1 and length <= _NEAR * goal else length // step


def rotation_index(height: int, angle: float, width: int | None = None) -> NDArray[np.int32]:
    """Gives, for every pixel of a rotated picture, the pixel that it is read from.

    Nearest neighbour about the centre, counter-clockwise, the size kept: the pixels that
    Pillow's `Image.rotate(angle)` takes (the original's RandomRotation). Multiples of 90
    degrees are exact.

    Args:
        height: Height of the picture in pixels.
        angle: Degrees, counter-clockwise; 0 or 180 where the picture is not square.
        width: Width of the picture in pixels; None for a square.

    Returns:
        `(height * width,) int32` positions in the flattened picture; `height * width` is black.

    Raises:
        ViewsError: The angle would change the shape of a picture that is not square.
    """
    width = height if width is None else width
    turns, rest = divmod(angle % 360.0, 90.0)
    if height != width and (rest or turns % 2):
        raise ViewsError(
            f"a picture of {height} x {width} pixels (height x width) can't be turned by {angle:g} "
            "degrees: only 0 and 180 keep its shape. Use these, or a square input."
        )
    if rest == 0.0:
        places = np.arange(height * width, dtype=np.int32).reshape(height, width)
        return np.ascontiguousarray(np.rot90(places, int(turns))).reshape(-1)
    return _slanted_index(height, angle)


def _slanted_index(size: int, angle: float) -> NDArray[np.int32]:
    """Gives the index for a square of `size` pixels and an angle that is no right one."""
    black = size * size
    radians = -math.radians(angle % 360.0)
    cosine, sine = round(math.cos(radians), 15), round(math.sin(radians), 15)
    centre = size / 2.0
    # 16.16 fixed point, as Pillow's C code steps through the picture.
    across, down = _fixed(cosine), _fixed(sine)
    x_start = _fixed(centre - cosine * centre - sine * centre + (cosine + sine) * 0.5)
    y_start = _fixed(centre + sine * centre - cosine * centre + (cosine - sine) * 0.5)
    column, row = np.arange(size)[None, :], np.arange(size)[:, None]
    x = (x_start + across * column + down * row) >> 16
    y = (y_start + _fixed(-sine) * column + across * row) >> 16
    inside = (x >= 0) & (x < size) & (y >= 0) & (y < size)
    return np.where(inside, y * size + x, black).astype(np.int32).reshape(-1)


def _fixed(value: float) -> int:
    return math.floor(value * 65536.0 + 0.5)


def rotate(image: NDArray[np.uint8], angle: float) -> NDArray[np.uint8]:
    """Rotates an `(H, W, 3)` uint8 picture by `rotation_index`, filling with black."""
    height, width = image.shape[:2]
    padded = np.concatenate([image.reshape(-1, 3), np.zeros((1, 3), np.uint8)])
    return padded[rotation_index(height, angle, width)].reshape(height, width, 3)


def golden_frames(contract: InputContract, count: int = 3) -> NDArray[np.uint8]:
    """Makes test frames from a seeded formula, so that no picture needs to be shipped.

    Smoothed noise from `numpy.random.RandomState`, whose streams are frozen; integer
    arithmetic only, so every machine makes the same bytes.

    Returns:
        `(count, *contract.shape)` uint8; a fourth channel, which the graph ignores, is 255.
    """
    height, width = contract.height, contract.width
    frames = np.full((count, *contract.shape), 255, np.uint8)
    for seed in range(count):
        coarse = np.random.RandomState(seed).randint(0, 256, (height // 8 + 2, width // 8 + 2, 3))
        fine = np.repeat(np.repeat(coarse, 8, axis=0), 8, axis=1)
        blurred = sum(
            fine[dy : dy + height, dx : dx + width]
            for dy in range(0, 8, 2)
            for dx in range(0, 8, 2)
        )
        frames[seed, :, :, :3] = blurred // 16
    return frames
