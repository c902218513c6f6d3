"""What verdicts say of the line: too many rejects, nothing but rejects, no part at all."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field

from ..config import CameraConfig, DecisionConfig
from ..events import InspectionEvent
from .health import State
from .judging import NO_MODEL

ALL_REJECTED_S, FEWEST = 60.0, 5
"""Nothing but rejects for so long, and at least so many parts; or"""
IN_A_ROW = 20
"""so many parts in a row, however fast they came."""


@dataclass
class _Seen:
    """What one camera's verdicts were lately; times by the monotonic clock."""

    latest: deque[bool] = field(default_factory=deque)
    too_many: bool = False
    rejected_since_s: float | None = None
    rejected_parts: int = 0
    part_at_s: float = 0.0


class Alarms:
    """Watches the verdicts of all cameras. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cameras: dict[str, _Seen] = {}
        self._begun_s = time.monotonic()

    def begin(self, name: str, now_s: float | None = None) -> None:
        """Begins anew with a camera that is opened; nothing of an earlier one counts.

        Args:
            name: The camera's name.
            now_s: By the monotonic clock; None asks it.
        """
        with self._lock:
            self._cameras[name] = _Seen(part_at_s=time.monotonic() if now_s is None else now_s)

    def see(
        self, event: InspectionEvent, decision: DecisionConfig, now_s: float | None = None
    ) -> None:
        """Takes a verdict on a part.

        Args:
            event: The verdict; one without a part, or without a model, says nothing here.
            decision: How many rejects are too many.
            now_s: By the monotonic clock; None asks it.
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

    def state(
        self,
        name: str,
        camera: CameraConfig,
        decision: DecisionConfig,
        now_s: float | None = None,
        *,
        explained: bool = False,
    ) -> State:
        """Returns the state of a camera's parts; the worst that is wrong.

        Args:
            name: The camera's name.
            camera: The camera's configuration.
            decision: How many rejects are too many.
            now_s: By the monotonic clock; None asks it.
            explained: Whether the state of the camera or its engine already says why no part comes
                or is good; then only `too_many_rejects` is reported.
        """
        now_s = time.monotonic() if now_s is None else now_s
        component = f"parts:{name}"
        with self._lock:
            seen = self._cameras.get(name, _Seen(part_at_s=self._begun_s))
            if _all_rejected(seen) and not explained:
                return State(component, "all_rejected", _ALL_REJECTED)
            if seen.too_many and decision != DecisionConfig():
                reason = f"at least {decision.k} of {decision.n} consecutive verdicts were not good"
                values = {"k": decision.k, "n": decision.n}
                return State(component, "too_many_rejects", reason, values=values)
            if not explained and 0 < camera.no_part_after_s <= now_s - seen.part_at_s:
                reason = f"no part for more than {camera.no_part_after_s:g} s"
                return State(component, "no_part", reason, values={"s": camera.no_part_after_s})
        return State(component)


_ALL_REJECTED = (
    "every part is rejected: look at the camera, the light and whether this model is for this part"
)


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
