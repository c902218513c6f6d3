"""How often the engine process may be started again before something else must be done."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass
class RestartBudget:
    """At most so many restarts in so many seconds; room comes back as time goes by.

    Args:
        restarts: How many.
        window_s: In how many seconds.
    """

    restarts: int = 5
    window_s: float = 60.0
    _spent_ns: deque[int] = field(default_factory=deque, init=False, repr=False)

    def take(self, now_ns: int) -> bool:
        """Spends a restart; False if there is none left."""
        while self._spent_ns and now_ns - self._spent_ns[0] >= self.window_s * 1e9:
            self._spent_ns.popleft()
        if len(self._spent_ns) >= self.restarts:
            return False
        self._spent_ns.append(now_ns)
        return True

    def fresh(self) -> RestartBudget:
        """Returns the same budget with nothing spent."""
        return RestartBudget(self.restarts, self.window_s)
