"""The input's size for a set: the aspect ratio of its pictures, and a square's number of pixels."""

from __future__ import annotations

from collections.abc import Sequence

from differnet_runtime.model_file.contract import InputContract
from differnet_training.datasets import ImageFile

from .sets import Region

try:
    from differnet_training.geometry import choose_size, image_sizes
except ImportError:  # 3f18aa6, which knows squares only
    choose_size = picture_sizes = None

SQUARE = 256, 256


def input_size(pictures: Sequence[ImageFile], region: Region | None = None) -> tuple[int, int]:
    """Returns the product's choice of height and width, for pictures or for their region."""
    if choose_size is None:
        return SQUARE
    shapes = image_sizes(pictures) if region is None else [(region[3], region[2])]
    return choose_size(shapes)


def contract_for(size: tuple[int, int], region: Region | None) -> InputContract:
    """Returns how pictures become input."""
    height, width = size
    values: dict[str, object] = (
        {"size": height} if height == width else {"height": height, "width": width}
    )
    if region is not None:
        values["region"] = dict(zip(("x", "y", "width", "height"), region, strict=True))
    return InputContract.model_validate(values)
