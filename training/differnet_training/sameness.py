"""Refuses good pictures that are all alike: what they teach is nothing but rounding."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from differnet_runtime.errors import DataError


def check_varied(values: NDArray[np.float32], least: int) -> None:
    """Refuses pictures of which too few differ, though their files do.

    Args:
        values: `(N, ...) float32` features; those of equal pixels are equal bit for bit.
        least: So many pictures must differ.

    Raises:
        DataError: Fewer differ.
    """
    different = len({hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in values})
    if different < least:
        raise DataError(
            f"of the {len(values)} good pictures only {different} differ; the others equal one of "
            f"them pixel for pixel. At least {least} different ones are needed: take pictures of "
            "different parts."
        )
