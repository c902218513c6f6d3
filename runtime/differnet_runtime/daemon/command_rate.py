"""The limit on a camera's commands, and how senders share it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

_SHARED_OVER_S = 1.0
"""Shares are counted over the last second."""


class CommandRate:
    """Limits the commands of one camera with a token bucket that its senders share. Thread-safe.

    `per_second` commands are accepted on average, and as many in a burst. A sender within its equal
    share is accepted even if others have just emptied the bucket: the balance then goes below zero,
    and the others wait until it has recovered.

    Args:
        per_second: Commands per second, at least 1.
        clock: Returns monotonic seconds.
    """

    def __init__(self, per_second: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second, self._clock = per_second, clock
        self._lock = threading.Lock()
        self._left, self._at_s = float(per_second), clock()
        self._taken: deque[tuple[float, str]] = deque()

    def take(self, sender: str) -> bool:
        """Returns whether a command is accepted, and counts it if so.

        Args:
            sender: Identifies the sender, for example by its address.
        """
        with self._lock:
            now_s = self._clock()
            self._pass_time(now_s)
            if self._left < 1.0 and not (self._in_share(sender) and self._left > -self._per_second):
                return False
            self._left -= 1.0
            self._taken.append((now_s, sender))
            return True

    def _pass_time(self, now_s: float) -> None:
        most = float(self._per_second)
        self._left = min(most, self._left + (now_s - self._at_s) * most)
        self._at_s = now_s
        while self._taken and now_s - self._taken[0][0] >= _SHARED_OVER_S:
            self._taken.popleft()

    def _in_share(self, sender: str) -> bool:
        """Whether there are other senders, and this one has used less than its share."""
        senders = {one for _, one in self._taken} | {sender}
        own = sum(one == sender for _, one in self._taken)
        return len(senders) > 1 and own + 1 <= max(1.0, self._per_second / len(senders))
