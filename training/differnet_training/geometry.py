"""Chooses the input's shape from the pictures: same aspect ratio, sides multiples of 32."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from differnet_runtime.errors import DataError, ImageReadError, TrainingError
from differnet_runtime.images import read_image
from differnet_runtime.model_file.contract import Fit, InputContract, Region, Tiles

from .datasets import ImageFile
from .recipes import Recipe

STEP = 32
"""Sides are multiples of the extractor's greatest stride, so that its maps tile the input."""

PIXELS = 256 * 256
"""About how many pixels an input has if no size was requested."""

LOOKED_AT = 64
"""The most pictures that are read to choose the shape."""

LONGEST = 2048
"""Longest side that is chosen if no size was requested."""


def choose_size(
    sizes: Sequence[tuple[int, int]], pixels: int = PIXELS, longest: int = LONGEST
) -> tuple[int, int]:
    """Returns height and width of the input for pictures of these heights and widths.

    The input keeps the median aspect ratio as closely as multiples of 32 allow, at about `pixels`
    pixels.
    """
    aspect = float(np.median([height / width for height, width in sizes]))
    ideal = math.sqrt(pixels * aspect)
    best, least = (STEP, STEP), math.inf
    for height in range(STEP, longest + 1, STEP):
        for wanted in (STEP * math.floor(height / aspect / STEP + k) for k in (0, 1)):
            width = min(max(wanted, STEP), longest)
            distortion = abs(math.log(height / width / aspect))
            growth = abs(math.log(height * width / pixels))
            if 2 * distortion + growth < least and height <= max(STEP, 2 * ideal):
                best, least = (height, width), 2 * distortion + growth
    return best


def parse_size(text: str) -> tuple[int, int]:
    """Reads `HEIGHTxWIDTH`, or one number for a square.

    Raises:
        TrainingError: The text is neither.
    """
    parts = text.lower().split("x")
    if len(parts) not in (1, 2) or not all(part.strip().isdigit() for part in parts):
        raise TrainingError(
            f"--size takes HEIGHTxWIDTH in pixels (640x256), or one number for a square; "
            f"received {text!r}"
        )
    return int(parts[0]), int(parts[-1])


def parse_tiles(text: str, overlap: int = 64) -> Tiles:
    """Reads `ROWSxCOLUMNS`.

    Raises:
        TrainingError: The text has another form, or asks for more than 16 x 16 tiles.
    """
    parts = text.lower().split("x")
    try:
        rows, columns = (int(part) for part in parts)
        return Tiles(rows=rows, columns=columns, overlap=overlap)
    except ValueError as error:
        raise TrainingError(
            f"--tiles takes ROWSxCOLUMNS, 1x1 to 16x16 (2x3); received {text!r}"
        ) from error


def choose_contract(
    recipe: Recipe,
    pictures: Sequence[ImageFile],
    *,
    size: tuple[int, int] | None = None,
    tiles: Tiles | None = None,
    region: Region | None = None,
    fit: Fit = "stretch",
    white_level: int = 65535,
) -> InputContract:
    """Returns how frames become input.

    Args:
        recipe: Sets the size, or leaves it to the pictures.
        pictures: Of good parts; up to `LOOKED_AT` of them are read to choose the shape. Those that
            can't be read are skipped here; training lists them.
        size: Requested height and width.
        tiles: See `metadata.Tiles`; a chosen height and width are made to fit it.
        region: The region of interest, which is cut out and resized.
        fit: How the region is made to fit the input's shape.
        white_level: The value of 16-bit pictures that becomes 255.

    Raises:
        TrainingError: Size and tiles don't fit one another, or are out of range.
    """
    if size is None and recipe.size is not None:
        size = (recipe.size, recipe.size)
    if size is None:
        rows, columns = (tiles.rows, tiles.columns) if tiles else (1, 1)
        shapes = [(region.height, region.width)] if region else picture_sizes(pictures)
        height, width = choose_size(
            shapes, PIXELS * rows * columns, min(8192, LONGEST * max(rows, columns))
        )
        size = _multiple(height, STEP * rows), _multiple(width, STEP * columns)
    try:
        return InputContract(
            height=size[0],
            width=size[1],
            tiles=tiles,
            region=region,
            fit=fit,
            white_level=white_level,
        )
    except ValidationError as error:
        first = error.errors()[0]
        which = "".join(f"{part}: " for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise TrainingError(f"--size {size[0]}x{size[1]}: {which}{message}") from error


def picture_sizes(pictures: Sequence[ImageFile]) -> list[tuple[int, int]]:
    """Returns heights and widths of up to `LOOKED_AT` pictures, spread over all of them.

    Raises:
        DataError: None of them can be read.
    """
    step = max(1, math.ceil(len(pictures) / LOOKED_AT))
    found = [_size_of(picture.path) for picture in pictures[::step]]
    sizes = [size for size in found if size is not None]
    if not sizes:
        raise DataError(f"none of the {len(pictures)} pictures can be read")
    return sizes


def _size_of(path: Path) -> tuple[int, int] | None:
    try:
        height, width = read_image(path).shape[:2]
    except ImageReadError:
        return None
    return height, width


def _multiple(length: int, step: int) -> int:
    return max(step, round(length / step) * step)
