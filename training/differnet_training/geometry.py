"""The shape of the network's input, chosen from the pictures: aspect kept, sides multiples of 32."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from differnet_runtime.errors import TrainingError

STEP = 32
"""Sides are multiples of the extractor's greatest stride, so that its maps tile the input."""

PIXELS = 256 * 256
"""About so many pixels have inputs that nobody asked a size for."""

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
