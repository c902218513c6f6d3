"""The input's size for a set: the aspect ratio of its pictures, and a square's number of pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence

from differnet_runtime.images import read_image
from differnet_runtime.metadata import InputContract
from differnet_training.datasets import Picture

from .sets import Region

PIXELS = 256 * 256
STEP = 32


def input_size(pictures: Sequence[Picture], region: Region | None = None) -> tuple[int, int]:
    """Returns height and width for pictures, or for the region that is cut out of them."""
    if region is not None:
        return size_of([(region[3], region[2])])
    return size_of([read_image(picture.path).shape[:2] for picture in pictures])


def size_of(shapes: Sequence[tuple[int, ...]]) -> tuple[int, int]:
    """Keeps the aspect ratio of the median picture; both sides are multiples of `STEP`.

    Args:
        shapes: Height and width of each picture.
    """
    ratios = sorted(width / height for height, width in shapes)
    ratio = ratios[len(ratios) // 2]
    width = math.sqrt(PIXELS * ratio)
    return _rounded(width / ratio), _rounded(width)


def _rounded(side: float) -> int:
    return max(STEP, STEP * math.floor(side / STEP + 0.5))


def contract_for(size: tuple[int, int], region: Region | None) -> InputContract:
    """Returns how pictures become input; where contracts know squares only, a square of 256."""
    height, width = size
    if "height" not in InputContract.model_fields:
        height = width = math.isqrt(PIXELS)
    values: dict[str, object] = (
        {"size": height} if height == width else {"height": height, "width": width}
    )
    if region is not None:
        values["region"] = dict(zip(("x", "y", "width", "height"), region, strict=True))
    return InputContract.model_validate(values)
