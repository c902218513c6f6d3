"""Chooses the shape of the model's input from the images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
from pydantic import ValidationError

from differnet_runtime.errors import DataError, ImageReadError, TrainingError
from differnet_runtime.images import read_image
from differnet_runtime.inspection.preprocess import fitted
from differnet_runtime.model_file.contract import Fit, InputContract, Region, Tiles

from .datasets import ImageFile
from .recipes import Recipe

STEP = 32
"""Sides are multiples of the extractor's greatest stride, so that its maps tile the input."""

PIXELS = 256 * 256
"""Approximate number of pixels of an input if no size was requested."""

LOOKED_AT = 64
"""Most images that are read to choose the shape."""

LONGEST = 2048
"""Longest side that is chosen if no size was requested."""


def choose_size(
    sizes: Sequence[tuple[int, int]], pixels: int = PIXELS, longest: int = LONGEST
) -> tuple[int, int]:
    """Chooses height and width of the input: multiples of 32 near the median aspect ratio.

    Args:
        sizes: Heights and widths of images.
        pixels: Approximate number of pixels of the input.
        longest: Longest side in pixels.
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


def seen_area(contract: InputContract, height: int, width: int) -> tuple[int, int]:
    """Returns height and width, in the camera's pixels, of what the model sees of an image.

    Args:
        contract: How the image becomes the model's input.
        height: The image's height in pixels.
        width: The image's width in pixels.
    """
    region = contract.region
    return fitted(contract, *((region.height, region.width) if region else (height, width)))


def choose_contract(
    recipe: Recipe,
    images: Sequence[ImageFile],
    *,
    size: tuple[int, int] | None = None,
    tiles: Tiles | None = None,
    region: Region | None = None,
    fit: Fit = "stretch",
    white_level: int = 65535,
) -> InputContract:
    """Chooses how frames become the model's input.

    Args:
        recipe: Sets the size, or leaves it to the images.
        images: Up to `LOOKED_AT` of them are read to choose the shape. Those that can't be read
            are skipped here; training lists them.
        size: Requested height and width in pixels.
        tiles: Division of a large input; a chosen height and width are multiples of it.
        region: Region of interest, which is cut out and resized.
        fit: How the region is made to fit the input's shape.
        white_level: Value of 16-bit images that becomes 255.

    Raises:
        TrainingError: Size and tiles don't fit one another, or are out of range.
    """
    if size is None and recipe.size is not None:
        size = (recipe.size, recipe.size)
    if size is None:
        rows, columns = (tiles.rows, tiles.columns) if tiles else (1, 1)
        shapes = [(region.height, region.width)] if region else image_sizes(images)
        height, width = choose_size(
            shapes, PIXELS * rows * columns, min(8192, LONGEST * max(rows, columns))
        )
        down, across = STEP * rows, STEP * columns
        size = max(1, round(height / down)) * down, max(1, round(width / across)) * across
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
        message = "".join(f"{part}: " for part in first["loc"]) + first["msg"].removeprefix(
            "Value error, "
        )
        raise TrainingError(f"--size {size[0]}x{size[1]}: {message}") from error


def image_sizes(images: Sequence[ImageFile]) -> list[tuple[int, int]]:
    """Returns heights and widths of up to `LOOKED_AT` images, spread over all of them.

    Raises:
        DataError: None of them can be read.
    """
    sizes = []
    for image in images[:: max(1, math.ceil(len(images) / LOOKED_AT))]:
        with suppress(ImageReadError):
            height, width = read_image(image.path).shape[:2]
            sizes.append((height, width))
    if not sizes:
        raise DataError(f"none of the {len(images)} pictures can be read")
    return sizes
