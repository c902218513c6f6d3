"""Waits between attempts."""

from __future__ import annotations

import random
from collections.abc import Sequence

STEPS_S = (0.0, 0.2, 0.5, 1.0, 2.0)
"""Waits before the attempts to open a camera."""


class Backoff:
    """Backoff up to a limit, jittered so that many clients do not retry in lockstep.

    Args:
        steps_s: The longest wait before each attempt, in seconds; the last one is repeated.
        jitter: Largest share of a wait that is left out at random, 0..1.

    Example:
        >>> backoff = Backoff()
        >>> while not connect():
        ...     time.sleep(backoff.next_s())
        >>> backoff.reset()
    """

    def __init__(self, steps_s: Sequence[float] = STEPS_S, jitter: float = 0.2) -> None:
        self._steps_s, self._jitter = steps_s, jitter
        self._attempts = 0

    def next_s(self) -> float:
        """Returns the seconds to wait before the next attempt, and counts it."""
        step = self._steps_s[min(self._attempts, len(self._steps_s) - 1)]
        self._attempts += 1
        return step * (1 - self._jitter * random.random())  # noqa: S311 - no secret

    def reset(self) -> None:
        """Begins again with the first step, after a success."""
        self._attempts = 0
