"""How many commands a camera takes, and how its senders share them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

_SHARED_OVER_S = 1.0


class CommandRate:
    """Bounds the commands of one camera, so that no sender takes the engine from others.

    On average `per_second` are taken, and as many at once. A sender within its equal share of them
    is taken even when another has just used them up; what it so takes in advance is refused to the
    others afterwards. Thread-safe.

    Args:
        per_second: At least 1.
        clock: Gives monotonic seconds.
    """

    def __init__(self, per_second: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second, self._clock = per_second, clock
        self._lock = threading.Lock()
        self._left, self._at_s = float(per_second), clock()
        self._taken: deque[tuple[float, str]] = deque()

    def take(self, sender: str) -> bool:
        """Returns whether a command may be taken now, and counts it if so.

        Args:
            sender: Who sends it, such as an address.
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
        """Whether a sender beside others has had less than its share of the last second."""
        senders = {one for _, one in self._taken} | {sender}
        own = sum(one == sender for _, one in self._taken)
        return len(senders) > 1 and own + 1 <= max(1.0, self._per_second / len(senders))
