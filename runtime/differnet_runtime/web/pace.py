"""Slows down a sender that asks faster than any page or program needs to."""

from __future__ import annotations

import time
from collections.abc import Callable

PER_S, BURST = 100.0, 300.0
"""Requests that an address may make each second, and how many at once. A page asks for each
camera's picture at most five times a second."""
_MOST_SENDERS = 4096


class Pace:
    """Spreads the requests of each sender with a token bucket; used by one thread.

    A request that comes too early is not refused: it waits, and its connection with it.

    Args:
        clock: Returns monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due_s: dict[str, float] = {}

    def wait_s(self, sender: str) -> float:
        """Counts a request, and returns the seconds that it has to wait.

        Args:
            sender: Identifies the sender, for example by its address.
        """
        now_s = self._clock()
        earliest_s = now_s - BURST / PER_S
        due_s = max(self._due_s.pop(sender, earliest_s), earliest_s)
        if len(self._due_s) >= _MOST_SENDERS:
            self._due_s.pop(next(iter(self._due_s)))  # who has been silent for longest
        self._due_s[sender] = due_s + 1.0 / PER_S
        return max(0.0, round(due_s - now_s, 6))
