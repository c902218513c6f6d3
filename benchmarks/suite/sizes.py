"""The input's size for a set: the aspect ratio of its pictures, and a square's number of pixels."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from differnet_runtime.images import read_image
from differnet_runtime.metadata import InputContract
from differnet_training.datasets import Picture

from .sets import Region

try:
    from differnet_training.geometry import choose_size
except ImportError:
    choose_size = None

PIXELS = 256 * 256
STEP = 32


def input_size(pictures: Sequence[Picture], region: Region | None = None) -> tuple[int, int]:
    """Returns height and width for pictures, or for the region that is cut out of them."""
    if region is not None:
        return size_of([(region[3], region[2])])
    return size_of([read_image(picture.path).shape[:2] for picture in pictures])


def size_of(shapes: Sequence[tuple[int, ...]]) -> tuple[int, int]:
    """Keeps the median aspect ratio; both sides are multiples of `STEP`.

    The product's own choice, where it makes one; an older checkout gets the same rule from here.

    Args:
        shapes: Height and width of each picture.
    """
    sizes = [(shape[0], shape[1]) for shape in shapes]
    if choose_size is not None:
        return choose_size(sizes)
    aspect = statistics.median(height / width for height, width in sizes)
    heights = range(STEP, STEP * math.ceil(2 * math.sqrt(PIXELS * aspect) / STEP), STEP)
    near = [
        (height, STEP * (math.floor(height / aspect / STEP) + k))
        for height in heights
        for k in (0, 1)
    ]
    return min((size for size in near if size[1]), key=lambda size: _cost(size, aspect))


def _cost(size: tuple[int, int], aspect: float) -> float:
    """Weighs distortion twice as heavily as another number of pixels."""
    height, width = size
    return 2 * abs(math.log(height / width / aspect)) + abs(math.log(height * width / PIXELS))


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
