"""Recognises frames that repeat one that was saved: what differs between them is only noise.

While pictures are collected there is no set to measure by yet, as `examination.parts_of` has one.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ..model_file.contract import InputContract
from ..records import Image
from .capture_record import CaptureRecord
from .examination import detail_of, distances
from .preprocess import grey, preprocess

_SAME = 0.05
"""Greatest distance between frames of one scene."""
_BLOCK, _NOISE = 8, 0.125
"""Averaged over blocks of 8 x 8 pixels, noise keeps 1/64 of its energy; this share is too much."""
REMEMBERED = 32
"""Number of saved frames that a new one is compared with: a part that has left does not return."""
_LARGEST_SIDE = 256
"""Side in pixels of the frames that are compared, unless the camera's are smaller."""


class Scene(NamedTuple):
    """A prepared picture, for comparing it with others that are as large.

    Args:
        grey: `(height, width) float32`.
        detail: `(4096,) float32`; see `examination.detail_of`.
    """

    grey: NDArray[np.float32]
    detail: NDArray[np.float32]

    @classmethod
    def of(cls, prepared: NDArray[np.uint8]) -> Scene:
        """Returns what is compared of a picture `(height, width, 3 | 4) uint8`."""
        return cls(grey(prepared).astype(np.float32), detail_of(prepared))

    def same_as(self, other: Scene) -> bool:
        """Says whether two pictures differ by nothing but noise and exposure."""
        distance = distances(self.detail[None], other.detail[None])[0, 0]
        return bool(distance <= _SAME) and _only_noise(self.grey, other.grey)


def _only_noise(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    """Says whether the difference has no structure: averaged over blocks, noise vanishes."""
    difference = one - other * float(one.sum() / max(float(other.sum()), 1.0))
    height, width = (side // _BLOCK * _BLOCK for side in difference.shape)
    blocks = cv2.resize(
        difference[:height, :width],
        (width // _BLOCK, height // _BLOCK),
        interpolation=cv2.INTER_AREA,
    )
    return bool(np.mean(blocks * blocks) <= _NOISE * max(np.mean(difference * difference), 0.05))


class Repeats:
    """Recognises frames that differ from one of the last saved frames by noise only.

    Args:
        record: The capture's record; only its region of interest is compared.

    Example:
        >>> record = CaptureRecord(source="0", frame_size=(64, 64), created="2030-01-01T00:00:00Z")
        >>> frame = np.random.RandomState(0).randint(0, 256, (64, 64, 3)).astype(np.uint8)
        >>> repeats = Repeats(record)
        >>> repeats.seen_before(frame), repeats.seen_before(frame)
        (False, True)
    """

    def __init__(self, record: CaptureRecord) -> None:
        self.left_out = 0
        self._contract = comparing(record)
        self._last: deque[Scene] = deque(maxlen=REMEMBERED)

    def seen_before(self, image: Image) -> bool:
        """Returns whether a frame `(H, W, 3)` is a repeat; remembers one that is not."""
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
    width, height = (
        (record.roi.width, record.roi.height) if record.roi is not None else record.frame_size
    )
    width, height = (max(32, min(_LARGEST_SIDE, side) // 32 * 32) for side in (width, height))
    return InputContract(region=record.roi, fit=record.fit, height=height, width=width)
