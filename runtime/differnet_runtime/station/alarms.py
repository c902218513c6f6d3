"""What the verdicts say about the line: alarms, too many rejects, nothing but rejects, no part."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from ..config import CameraConfig, DecisionConfig
from ..events import InspectionEvent
from ..records import Verdict
from ..web.views import StateView
from .judging import NO_MODEL

ALL_REJECTED_S, FEWEST = 60.0, 5
"""The state `all_rejected` needs this many seconds of nothing but rejects, and this many parts,"""
IN_A_ROW = 20
"""or this many rejected parts in a row, however fast they came."""
_ALL_REJECTED = (
    "every part is rejected: look at the camera, the light and whether this model is for this part"
)
_ONE_OF_ONE = DecisionConfig()


class Alarm(NamedTuple):
    """Too many of the latest frames were not GOOD.

    Args:
        rejects: Number of frames that were not GOOD, NO_DECISION included.
        undecided: Number of those that were NO_DECISION.
        frames: Number of frames looked at.
    """

    rejects: int
    undecided: int
    frames: int


class Smoother:
    """Raises an alarm when k of the last n verdicts are not GOOD.

    NO_DECISION counts as a reject, as at every output. After an alarm the frames are counted
    afresh, and there is no other alarm for `cooldown_s`.

    Args:
        config: `[decision]`: k, n and `cooldown_s`.

    Example:
        >>> smoother = Smoother(DecisionConfig(k=1, n=2))
        >>> smoother.add(Verdict.DEFECT, now_ns=0)
        Alarm(rejects=1, undecided=0, frames=1)
    """

    def __init__(self, config: DecisionConfig) -> None:
        self.config = config
        self._latest: deque[Verdict] = deque(maxlen=config.n)
        self._quiet_until_ns: int | None = None

    def add(self, verdict: Verdict, now_ns: int) -> Alarm | None:
        """Takes the verdict on the next frame at `time.monotonic_ns()`; may return an alarm."""
        self._latest.append(verdict)
        rejects = sum(one is not Verdict.GOOD for one in self._latest)
        quiet = self._quiet_until_ns is not None and now_ns < self._quiet_until_ns
        if rejects < self.config.k or quiet:
            return None
        alarm = Alarm(rejects, self._latest.count(Verdict.NO_DECISION), len(self._latest))
        self._latest.clear()
        self._quiet_until_ns = now_ns + int(self.config.cooldown_s * 1e9)
        return alarm


@dataclass
class _Seen:
    """The latest verdicts of one camera; times by the monotonic clock."""

    latest: deque[bool] = field(default_factory=deque)
    too_many: bool = False
    rejected_since_s: float | None = None
    rejected_parts: int = 0
    part_at_s: float = 0.0


class Alarms:
    """Watches the verdicts of all cameras. Thread-safe.

    Times `now_s` are monotonic seconds; None reads the clock.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cameras: dict[str, _Seen] = {}
        self._smoothers: dict[str, Smoother] = {}
        self._begun_s = time.monotonic()

    def begin(self, name: str, now_s: float | None = None) -> None:
        """Starts afresh for a camera that is opened; no earlier verdict counts."""
        with self._lock:
            self._cameras[name] = _Seen(part_at_s=time.monotonic() if now_s is None else now_s)

    def see(
        self, event: InspectionEvent, decision: DecisionConfig, now_s: float | None = None
    ) -> None:
        """Takes a verdict on a part.

        Args:
            event: The verdict; one without a part, or without a model, is ignored.
            decision: How many rejects are too many.
            now_s: Monotonic time in seconds.
        """
        if event.first_event is None or event.code == NO_MODEL:
            return
        now_s = time.monotonic() if now_s is None else now_s
        with self._lock:
            seen = self._cameras.setdefault(event.camera, _Seen())
            seen.part_at_s = now_s
            if not event.reject:
                seen.rejected_since_s, seen.rejected_parts = None, 0
            else:
                seen.rejected_parts += event.part_frame == 1 or not seen.rejected_parts
                if seen.rejected_since_s is None:
                    seen.rejected_since_s = now_s
            _count(seen, event, decision)

    def smooth(self, event: InspectionEvent, decision: DecisionConfig) -> Alarm | None:
        """Returns an alarm if this verdict completes k of n; None for one of one, the default."""
        if decision == _ONE_OF_ONE:
            return None  # the verdict itself says it
        with self._lock:
            smoother = self._smoothers.get(event.camera)
            if smoother is None or smoother.config != decision:
                smoother = self._smoothers[event.camera] = Smoother(decision)
            return smoother.add(Verdict(event.verdict), time.monotonic_ns())

    def state(
        self,
        name: str,
        camera: CameraConfig,
        decision: DecisionConfig,
        now_s: float | None = None,
        *,
        explained: bool = False,
    ) -> StateView:
        """Returns the state of a camera's parts, the worst problem first.

        Args:
            name: Name of the camera.
            camera: Configuration of the camera.
            decision: How many rejects are too many.
            now_s: Monotonic time in seconds.
            explained: Whether the state of the camera or its engine already says why no part comes
                or is good; then only `too_many_rejects` is reported.
        """
        now_s = time.monotonic() if now_s is None else now_s
        component, no_part_s = f"parts:{name}", camera.no_part_after_s
        with self._lock:
            seen = self._cameras.get(name, _Seen(part_at_s=self._begun_s))
            if _all_rejected(seen) and not explained:
                return StateView(component=component, state="all_rejected", reason=_ALL_REJECTED)
            if seen.too_many and decision != _ONE_OF_ONE:
                return StateView(
                    component=component,
                    state="too_many_rejects",
                    reason=f"at least {decision.k} of {decision.n} consecutive verdicts were not "
                    "good",
                    values={"k": decision.k, "n": decision.n},
                )
            if not explained and 0 < no_part_s <= now_s - seen.part_at_s:
                return StateView(
                    component=component,
                    state="no_part",
                    reason=f"no part for more than {no_part_s:g} s",
                    values={"s": no_part_s},
                )
        return StateView(component=component, state="ok")


def _all_rejected(seen: _Seen) -> bool:
    if seen.rejected_since_s is None:
        return False
    lasted_s = seen.part_at_s - seen.rejected_since_s
    long = lasted_s >= ALL_REJECTED_S and seen.rejected_parts >= FEWEST
    return long or seen.rejected_parts >= IN_A_ROW


def _count(seen: _Seen, event: InspectionEvent, decision: DecisionConfig) -> None:
    """Counts k of n; once there are too many, all of the last n must be good again."""
    if seen.latest.maxlen != decision.n:
        seen.latest = deque(seen.latest, maxlen=decision.n)
    seen.latest.append(event.reject)
    rejects = sum(seen.latest)
    seen.too_many = rejects > 0 if seen.too_many else rejects >= decision.k
