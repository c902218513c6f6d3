"""A mask of a defect's pixels, as the model sees its picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from differnet_runtime.errors import DataError, FrameError, ImageReadError
from differnet_runtime.images import read_image
from differnet_runtime.metadata import InputContract
from differnet_runtime.preprocess import preprocess

_JPEG = (".jpg", ".jpeg")
_HALF = 127
"""JPEG leaves grey values beside an edge; other files mark a defect by any value above 0."""


def read_mask(path: Path, size: tuple[int, ...], contract: InputContract) -> NDArray[np.bool_]:
    """Reads a mask, and brings it to the model's input as its picture was brought.

    Args:
        path: The mask's file; black off the defect.
        size: Height and width of its picture.
        contract: How the picture becomes the input.

    Returns:
        `(contract.height, contract.width) bool`, true where at least half of a pixel is marked, or
        any of it where no pixel is marked by half.

    Raises:
        DataError: It can't be read, has another size than its picture, or marks nothing that the
            model sees; names the file.
    """
    try:
        mask = read_image(path)
    except ImageReadError as error:
        raise DataError(str(error)) from error
    if mask.shape[:2] != size[:2]:
        raise DataError(
            f"{path}: the mask has {mask.shape[1]} x {mask.shape[0]} pixels, its picture "
            f"{size[1]} x {size[0]}"
        )
    above = _HALF if path.suffix.lower() in _JPEG else 0
    marked = np.where(mask > above, 255, 0).astype(np.uint8)
    try:
        covered = preprocess(marked, contract)[:, :, 0]
    except FrameError as error:
        raise DataError(f"{path}: {error}") from error
    if not covered.any():
        raise DataError(f"{path}: the mask marks no pixel that the model sees")
    # A crack thinner than a pixel of the input covers none of them by half.
    seen: NDArray[np.bool_] = covered > (_HALF if covered.max() > _HALF else 0)
    return seen
