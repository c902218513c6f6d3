"""Finds pictures that show the same part, not only parts of the same kind.

`parts_of` groups the pictures of a set: `detail_of` makes a vector of what a picture shows, without
its exposure and its shading, and pictures of one part lie close together as distances in the set
go. `Repeats` compares frames while they are collected, where there is no set to measure by yet:
between frames of one scene there is nothing but noise.

A perceptual hash was tried and left out: different castings have equal ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ..model_file.contract import InputContract
from ..records import Image
from .capture_record import CaptureRecord
from .preprocess import grey, preprocess

_SIDE, _SHADING = 64, 4.0
"""Side of the picture that is compared, and the sigma above which structure counts as shading."""
NEAR = 0.1
"""Share of the set's median distance within which two pictures are near-identical."""
_APART = 2.0
"""All other pictures must be this many times as far away as the farthest two of the part: without
that, parts that each differ a little from the next would form one endless chain."""
_EQUAL = 5e-4
"""Distance within which two pictures are near-identical in every set, even of one part alone."""
_SAME = 0.05
"""Greatest distance between frames of one scene."""
_BLOCK, _NOISE = 8, 0.125
"""Averaged over blocks of 8 x 8 pixels, noise keeps 1/64 of its energy; this share is too much."""
_ROWS = 1024
"""Number of pictures that are compared with all others at once."""
REMEMBERED = 32
"""Number of saved frames that a new one is compared with: a part that has left does not return."""
_LARGEST_SIDE = 256
"""Side in pixels of the frames that are compared, unless the camera's are smaller."""


def detail_of(prepared: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Returns what a picture shows as `(4096,) float32` of mean 0 and mean square 1.

    Args:
        prepared: `(height, width, 3 | 4) uint8`, as `preprocess` gives it.

    Returns:
        The grey picture at 64 x 64 pixels without its slow changes; zeros where nothing is left.
    """
    small = cv2.resize(
        grey(prepared).astype(np.float32), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA
    )
    detail = small.astype(np.float32)
    detail -= cv2.GaussianBlur(detail, (0, 0), _SHADING)
    detail -= detail.mean()
    deviation = float(np.sqrt(np.mean(detail * detail)))
    if deviation < 1e-3:
        return np.zeros(_SIDE * _SIDE, np.float32)
    found: NDArray[np.float32] = (detail / deviation).ravel()
    return found


def parts_of(details: Sequence[NDArray[np.float32]]) -> list[int]:
    """Returns the part that each picture shows, numbered from 0 in the order of appearance.

    The distance of two pictures is 1 minus the correlation of their details. Those closer than
    `NEAR` of the median distance are linked; what is linked shows one part if it lies well apart
    from all other pictures.

    Args:
        details: One `(4096,) float32` for each picture, from `detail_of`.
    """
    if not details:
        return []
    rows = np.stack(details)
    near = max(NEAR * _median_distance(rows), _EQUAL)
    part, equal = _linked(rows, near), _linked(rows, _EQUAL)
    for number in np.unique(part):
        inside = part == number
        if not _lies_apart(rows, inside):
            part[inside] = len(rows) + equal[inside]
    numbers: dict[int, int] = {}
    return [numbers.setdefault(int(one), len(numbers)) for one in part]


def _linked(rows: NDArray[np.float32], near: float) -> NDArray[np.intp]:
    """Numbers pictures so that those within a distance, and all linked by them, have one number."""
    part = np.arange(len(rows))
    for begin in range(0, len(rows), _ROWS):
        close = _distances(rows[begin : begin + _ROWS], rows) <= near
        for one, alike in enumerate(close, begin):
            joined = np.unique(part[:one][alike[:one]])
            if joined.size:
                part[np.isin(part, joined)] = part[one] = joined[0]
    return part


def _lies_apart(rows: NDArray[np.float32], inside: NDArray[np.bool_]) -> bool:
    """Says whether all other pictures are far from a part's, as its own distances go."""
    farthest, nearest = _EQUAL, np.inf
    chosen = rows[inside]
    for begin in range(0, len(chosen), _ROWS):
        found = _distances(chosen[begin : begin + _ROWS], rows)
        farthest = max(farthest, float(found[:, inside].max()))
        nearest = min(nearest, float(found[:, ~inside].min(initial=np.inf)))
    return nearest >= _APART * farthest


def _median_distance(rows: NDArray[np.float32]) -> float:
    """Returns the median distance between two pictures, of at most `_ROWS` of them."""
    some = rows[np.linspace(0, len(rows) - 1, min(len(rows), _ROWS)).round().astype(int)]
    between = _distances(some, some)[np.triu_indices(len(some), 1)]
    return float(np.median(between)) if between.size else 0.0


def _distances(some: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = 1.0 - some @ others.T / some.shape[1]
    return found


class Scene(NamedTuple):
    """A prepared picture, for comparing it with others that are as large.

    Args:
        grey: `(height, width) float32`.
        detail: `(4096,) float32`; see `detail_of`.
    """

    grey: NDArray[np.float32]
    detail: NDArray[np.float32]

    @classmethod
    def of(cls, prepared: NDArray[np.uint8]) -> Scene:
        """Returns what is compared of a picture `(height, width, 3 | 4) uint8`."""
        return cls(grey(prepared).astype(np.float32), detail_of(prepared))

    def same_as(self, other: Scene) -> bool:
        """Says whether two pictures differ by nothing but noise and exposure."""
        distance = _distances(self.detail[None], other.detail[None])[0, 0]
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
