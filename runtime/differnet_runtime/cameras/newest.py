"""The newest frame of a live source, however slow the reader is."""

from __future__ import annotations

import threading

from ..errors import ImageReadError
from ..records import Frame
from .base import Camera

_CLOSE_S = 2.0


class Newest(Camera):
    """Reads a live source in a thread, and gives what came last; what came before is dropped.

    Read directly, a stream that is faster than its reader piles up, and its frames get older and
    older. A station's capture process does the same, and can be killed besides.

    Args:
        camera: Open and live; it is closed with this one.
    """

    live = True

    def __init__(self, camera: Camera) -> None:
        self._camera = camera
        self._news = threading.Condition()
        self._last: Frame | ImageReadError | None = None
        self._error: Exception | None = None
        self._reading, self._closed = True, False
        self._thread = threading.Thread(target=self._run, name="newest", daemon=True)
        self._thread.start()

    def read(self) -> Frame | None:
        """Waits for a frame that was not given yet; see `Camera.read`."""
        with self._news:
            self._news.wait_for(lambda: self._last is not None or not self._reading)
            last, self._last = self._last, None
        if isinstance(last, ImageReadError):
            raise last
        if last is None and self._error is not None:
            raise self._error
        return last

    def _run(self) -> None:
        try:
            while not self._closed and (last := self._next()) is not None:
                with self._news:
                    self._last = last
                    self._news.notify()
        except Exception as error:
            self._error = error
        with self._news:
            self._reading = False
            self._news.notify()
            closed = self._closed
        if closed:
            self._camera.close()

    def _next(self) -> Frame | ImageReadError | None:
        try:
            return self._camera.read()
        except ImageReadError as error:
            return error

    def close(self) -> None:
        """Releases the source, or lets the thread do it after its present read.

        OpenCV crashes if a capture is released while another thread reads.
        """
        with self._news:
            self._closed, reading = True, self._reading
        if reading:
            self._thread.join(_CLOSE_S)
        else:
            self._camera.close()

    def describe(self) -> str:
        """Returns what the source is; never a password."""
        return self._camera.describe()
