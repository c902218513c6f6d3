"""Recognises frames that show the same part again, when pictures are collected."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from ..capture_record import CaptureRecord
from ..metadata import InputContract
from ..preprocess import preprocess
from ..records import Image
from .similar import Scene

REMEMBERED = 32
"""Number of saved frames that a new one is compared with: a part that has left does not return."""
_SIDE = 256


class Repeats:
    """Recognises frames that differ from one of the last saved frames by noise only.

    Args:
        record: The capture's record; only its region of interest is compared.
    """

    def __init__(self, record: CaptureRecord) -> None:
        self.left_out = 0
        self._contract = comparing(record)
        self._last: deque[Scene] = deque(maxlen=REMEMBERED)

    def seen_before(self, image: Image) -> bool:
        """Returns whether a frame `(H, W, 3)` is a repeat; a new one is remembered."""
        prepared = self.prepared(image)
        if self.knows(prepared):
            self.left_out += 1
            return True
        self.remember(prepared)
        return False

    def prepared(self, image: Image) -> NDArray[np.uint8]:
        """Returns a frame as it is compared, `(height, width, 3) uint8`."""
        return preprocess(image, self._contract)

    def knows(self, prepared: NDArray[np.uint8]) -> bool:
        """Returns whether a prepared frame shows the same as a remembered one."""
        scene = Scene.of(prepared)
        return any(scene.same_as(one) for one in reversed(self._last))

    def remember(self, prepared: NDArray[np.uint8]) -> None:
        """Remembers a prepared frame, to compare new ones with it."""
        self._last.append(Scene.of(prepared))


def comparing(record: CaptureRecord) -> InputContract:
    """Returns how pictures are compared: small frames as they are, others at 256 x 256 pixels."""
    width, height = record.frame_size
    if record.roi is not None:
        width, height = record.roi.width, record.roi.height
    sides = {
        name: max(32, min(_SIDE, side) // 32 * 32)
        for name, side in (("height", height), ("width", width))
    }
    return InputContract(region=record.roi, fit=record.fit, **sides)
