"""The shape of the input, chosen from the pictures: aspect kept, sides multiples of 32."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from differnet_runtime.errors import DataError, ImageReadError, TrainingError
from differnet_runtime.images import read_image
from differnet_runtime.metadata import Fit, InputContract, Region, Tiles

from .datasets import Picture
from .recipes import Recipe

STEP = 32
"""Sides are multiples of the extractor's greatest stride, so that its maps tile the input."""

PIXELS = 256 * 256
"""About so many pixels have inputs that nobody asked a size for."""

LOOKED_AT = 64
"""So many pictures tell the shape of all."""

LONGEST = 2048
"""Longest side that is chosen without being asked for."""


def choose_size(sizes: Sequence[tuple[int, int]], pixels: int = PIXELS) -> tuple[int, int]:
    """Returns height and width of the input for pictures of these heights and widths.

    The median aspect is kept as well as multiples of 32 can, with about `pixels` pixels.
    """
    aspect = float(np.median([height / width for height, width in sizes]))
    ideal = math.sqrt(pixels * aspect)
    best, least = (STEP, STEP), math.inf
    for height in range(STEP, LONGEST + 1, STEP):
        for width in (STEP * math.floor(height / aspect / STEP + k) for k in (0, 1)):
            if not STEP <= width <= LONGEST:
                continue
            distortion = abs(math.log(height / width / aspect))
            growth = abs(math.log(height * width / pixels))
            if 2 * distortion + growth < least and height <= 2 * ideal:
                best, least = (height, width), 2 * distortion + growth
    return best


def parse_size(text: str) -> tuple[int, int]:
    """Reads `HEIGHTxWIDTH`, or one number for a square.

    Raises:
        TrainingError: It is neither.
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
        TrainingError: It is something else, or more tiles than 16 x 16.
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
    pictures: Sequence[Picture],
    *,
    size: tuple[int, int] | None = None,
    tiles: Tiles | None = None,
    region: Region | None = None,
    fit: Fit = "stretch",
    white_level: int = 65535,
) -> InputContract:
    """Returns how frames become input.

    Args:
        recipe: Has a size of its own, or leaves it to the pictures.
        pictures: Of good parts; up to `LOOKED_AT` of them tell the shape. Those that can't be read
            are passed over here; training names them.
        size: Height and width that were asked for.
        tiles: See `metadata.Tiles`; height and width that are chosen fit it.
        region: Of interest; it is what is resized.
        fit: How the region's shape becomes the input's.
        white_level: Of 16-bit pictures.

    Raises:
        TrainingError: Size and tiles don't fit one another, or are out of range.
    """
    if size is None and recipe.size is not None:
        size = (recipe.size, recipe.size)
    if size is None:
        rows, columns = (tiles.rows, tiles.columns) if tiles else (1, 1)
        shapes = [(region.height, region.width)] if region else picture_sizes(pictures)
        height, width = choose_size(shapes, PIXELS * rows * columns)
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


def picture_sizes(pictures: Sequence[Picture]) -> list[tuple[int, int]]:
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
