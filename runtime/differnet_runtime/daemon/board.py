"""The newest verdict of every camera, its picture, and how many there were of each."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque

from ..events import InspectionEvent
from ..web.live import LivePicture
from .judging import Judged

_RATE_OVER = 64
"""Verdicts over which the rate is taken."""
_RATE_WITHIN_NS = 10_000_000_000


class Seen:
    """What is known of one camera; written by its thread, read by any."""

    def __init__(self) -> None:
        self.picture = LivePicture()
        self.last: InspectionEvent | None = None
        self._lock = threading.Lock()
        self._verdicts: Counter[str] = Counter()
        self._at_ns: deque[int] = deque(maxlen=_RATE_OVER)

    def put(self, judged: Judged) -> None:
        """Takes a verdict."""
        if judged.frame is not None:
            self.picture.put(judged.event, judged.frame, judged.inspection, judged.metadata)
        with self._lock:
            self.last = judged.event
            self._verdicts[judged.event.verdict] += 1
            self._at_ns.append(time.monotonic_ns())

    def show(self, judged: Judged) -> None:
        """Shows a frame without counting a verdict."""
        if judged.frame is not None:
            self.picture.put(judged.event, judged.frame, judged.inspection, None)
        self.last = judged.event

    @property
    def verdicts(self) -> dict[str, int]:
        """How many of each verdict."""
        with self._lock:
            return dict(self._verdicts)

    @property
    def rate(self) -> float | None:
        """Verdicts a second over the last ten; None where there were none."""
        now_ns = time.monotonic_ns()
        with self._lock:
            lately = [at for at in self._at_ns if now_ns - at < _RATE_WITHIN_NS]
        if len(lately) < 2:
            return None
        return (len(lately) - 1) / max(1e-9, (lately[-1] - lately[0]) / 1e9)


class Board:
    """One `Seen` a camera."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cameras: dict[str, Seen] = {}

    def of(self, camera: str) -> Seen:
        """Returns what is known of a camera; it may be nothing yet."""
        with self._lock:
            seen = self._cameras.get(camera)
            if seen is None:
                seen = self._cameras[camera] = Seen()
            return seen

    def forget(self, camera: str) -> None:
        """Drops what is known of a camera that is no longer there."""
        with self._lock:
            self._cameras.pop(camera, None)
