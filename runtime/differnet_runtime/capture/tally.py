"""The state of a camera as it is told, and its counts."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import replace

from ..cameras.settings import Setting
from .messages import Captured
from .records import CameraState, CameraStatus

_OVER_S = 5.0
_MOST_STAMPS = 500


class Tally:
    """Written by the thread that listens to the process, read by any.

    Args:
        source: What is read; never a password.
    """

    def __init__(self, source: str) -> None:
        self._lock = threading.Lock()
        self._stamps: deque[int] = deque(maxlen=_MOST_STAMPS)
        self._frames = 0
        self._newest: Captured | None = None
        # Of the frames it says nothing yet: `status` adds that, since most are never asked for.
        self._status = CameraStatus(
            CameraState.STOPPED, None, 0, 0, None, None, None, None, (), None, source
        )

    @property
    def status(self) -> CameraStatus:
        """At this moment."""
        with self._lock:
            newest = self._newest
            if newest is None:
                return self._status
            height, width = newest.shape[:2]
            return replace(
                self._status,
                frames=self._frames,
                last_frame_ns=newest.captured_ns,
                fps=self._fps(),
                width=width,
                height=height,
                waiting=newest.waiting,
            )

    def _fps(self) -> float | None:
        now = time.monotonic_ns()
        recent = [stamp for stamp in self._stamps if now - stamp < _OVER_S * 1e9]
        if len(recent) < 2 or recent[-1] <= recent[0]:
            return None
        return (len(recent) - 1) / ((recent[-1] - recent[0]) / 1e9)

    def starting(self) -> None:
        """The camera is to be opened for the first time."""
        with self._lock:
            self._status = replace(self._status, state=CameraState.STARTING, reason=None)

    def process(self, pid: int | None) -> None:
        """The capture process was started, or has ended."""
        with self._lock:
            self._status = replace(self._status, pid=pid)

    def opened(self, settings: tuple[Setting, ...], live: bool) -> None:
        """The source is open; one that is not live, as a folder, may have nothing to give."""
        with self._lock:
            self._status = replace(self._status, settings=settings)
            if not live:
                self._live()

    def frame(self, message: Captured) -> None:
        """A frame came."""
        with self._lock:
            self._live()
            self._frames += 1
            self._stamps.append(message.captured_ns)
            self._newest = message

    def _live(self) -> None:
        status = self._status
        if status.state is CameraState.LIVE and status.reason is None:
            return
        back = status.state in (CameraState.STALLED, CameraState.LOST) and self._frames > 0
        reconnects = status.reconnects + back
        self._status = replace(status, state=CameraState.LIVE, reason=None, reconnects=reconnects)

    def absent(self, state: CameraState, reason: str) -> None:
        """No frames come; a camera that is LOST stays so until they do, whatever it tries."""
        with self._lock:
            if self._status.state is CameraState.LOST:
                state = CameraState.LOST
            self._status = replace(self._status, state=state, reason=reason)

    def over(self, state: CameraState) -> None:
        """The source has ended, or was stopped."""
        with self._lock:
            self._status = replace(self._status, state=state, reason=None, pid=None)
