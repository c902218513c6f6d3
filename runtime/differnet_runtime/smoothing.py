"""From verdicts to an alarm: k of the last n not good, and then silence for a while."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from .records import Decision, Verdict


@dataclass(frozen=True)
class Alarm:
    """So many of the latest frames were not good.

    Args:
        rejects: How many, NO_DECISION among them.
        undecided: How many of those were NO_DECISION.
        frames: Of how many frames.
    """

    rejects: int
    undecided: int
    frames: int


class Smoother:
    """Raises an alarm when k of the last n decisions are not GOOD.

    NO_DECISION counts as a reject, as it does at every output. After an alarm the frames are
    counted afresh, and for `cooldown_s` there is no other.

    Args:
        k: Decisions that are not GOOD.
        n: Among so many.
        cooldown_s: Seconds without another alarm.

    Raises:
        ValueError: k does not lie within 1..n, or the time is negative.
    """

    def __init__(self, k: int = 1, n: int = 1, cooldown_s: float = 0.0) -> None:
        if not 1 <= k <= n or not cooldown_s >= 0.0:
            raise ValueError(
                f"k of n needs 1 <= k <= n and a time from 0 on; received {k} of {n}, {cooldown_s}"
            )
        self._k, self._cooldown_ns = k, int(cooldown_s * 1e9)
        self._latest: deque[Verdict] = deque(maxlen=n)
        self._quiet_until_ns: int | None = None

    def add(self, decision: Decision, now_ns: int) -> Alarm | None:
        """Takes a decision.

        Args:
            decision: Of the next frame.
            now_ns: `time.monotonic_ns()`.

        Returns:
            An alarm, or None.
        """
        self._latest.append(decision.verdict)
        rejects = sum(verdict is not Verdict.GOOD for verdict in self._latest)
        quiet = self._quiet_until_ns is not None and now_ns < self._quiet_until_ns
        if rejects < self._k or quiet:
            return None
        alarm = Alarm(rejects, self._latest.count(Verdict.NO_DECISION), len(self._latest))
        self._latest.clear()
        self._quiet_until_ns = now_ns + self._cooldown_ns
        return alarm
