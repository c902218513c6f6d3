"""How long to wait before a camera is tried again."""

from __future__ import annotations

import random

STEPS_S = (0.0, 0.2, 0.5, 1.0, 2.0)
_JITTER = 0.2


class Backoff:
    """Longer from try to try, up to two seconds; many cameras behind one switch don't march."""

    def __init__(self) -> None:
        self._tries = 0
        self._random = random.Random()  # noqa: S311 - no secret

    def next_s(self) -> float:
        """Returns the seconds to wait, and counts the try."""
        step = STEPS_S[min(self._tries, len(STEPS_S) - 1)]
        self._tries += 1
        return step * (1 - _JITTER * self._random.random())

    def reset(self) -> None:
        """Called when a frame came."""
        self._tries = 0
