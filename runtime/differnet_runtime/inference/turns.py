"""A lock that is given in the order in which it was asked for, so no camera starves."""

from __future__ import annotations

import threading
import time
from collections import deque


class Turns:
    """One thread at a time, first come first served; a thread that holds it may take it again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[threading.Event] = deque()
        self._holder: int | None = None
        self._depth = 0

    def take(self, timeout_s: float) -> bool:
        """Waits for this thread's turn; False if it did not come in time."""
        me = threading.get_ident()
        with self._lock:
            if self._holder in (None, me):
                self._holder, self._depth = me, self._depth + 1
                return True
            called = threading.Event()
            self._waiting.append(called)
        called.wait(max(0.0, timeout_s))
        with self._lock:
            if called.is_set():  # even if it came just after the time
                self._holder, self._depth = me, 1
                return True
            self._waiting.remove(called)
            return False

    def give_back(self) -> None:
        """Ends this thread's turn; the one that has waited longest is next."""
        with self._lock:
            self._depth -= 1
            if self._depth:
                return
            if self._waiting:
                self._holder = -1  # promised to the one that is called
                self._waiting.popleft().set()
            else:
                self._holder = None


def remaining_s(until_ns: int) -> float:
    """Returns the seconds left, at least 0."""
    return max(0.0, (until_ns - time.monotonic_ns()) / 1e9)
