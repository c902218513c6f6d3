"""What is wrong with the station, component by component, and what is told when that changes.

From verdicts to an alarm: k of the last n not good, and then silence for a while.

What verdicts say of the line: too many rejects, nothing but rejects, no part at all.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

from ..capture.messages import CameraState, CameraStatus
from ..config import CameraConfig, DecisionConfig
from ..events import InspectionEvent, StateEvent
from ..inference.messages import EngineState, EngineStatus
from ..outbox.records import DeliveryStatus
from ..records import Decision, Verdict
from ..sentences import sentence
from ..web.views import Health, StateView
from .judging import NO_MODEL

OK, CONFIGURATION = "ok", "configuration"
_NORMAL = (CameraState.LIVE, CameraState.ENDED)


@dataclass(frozen=True)
class State:
    """Of a component.

    Args:
        component: `camera:NAME`, `parts:NAME`, `engine`, `gpu`, `sink:NAME`, `outbox`, `evidence`,
            `labels`, `model`, `configuration`; `engine:NAME`, `gpu:NAME` and `model:NAME` of a
            camera's own model.
        state: `ok`, or what is wrong.
        reason: In words.
        stops: Whether no verdicts are given while it lasts.
        values: The figures that `reason` mentions, by name.
    """

    component: str
    state: str = OK
    reason: str | None = None
    stops: bool = False
    values: Mapping[str, float] = field(default_factory=dict, hash=False)


def camera_state(name: str, status: CameraStatus) -> State:
    """Judges a camera; one that is at the end of its file is well."""
    component = f"camera:{name}"
    if status.state in _NORMAL:
        return State(component)
    return State(component, status.state.value, status.reason, stops=True)


def engine_state(status: EngineStatus, component: str = "engine") -> State:
    """Judges an engine; a fallback gives verdicts, but not as fast as was asked for."""
    if status.state is not EngineState.READY:
        return State(component, status.state.value, status.last_fault, stops=True)
    if status.fallback:
        why = "; ".join(f"{name}: {reason}" for name, reason in status.reasons.items())
        return State(
            component, "fallback", sentence("engine_falls_back", backend=status.backend, why=why)
        )
    return State(component)


def problem_state(component: str, problem: str | None) -> State:
    """Judges what either works or has a problem, while inspection goes on."""
    return State(component) if problem is None else State(component, "degraded", problem)


def sink_state(status: DeliveryStatus, after_s: float) -> State:
    """Judges a sink: `down` takes nothing, `limited` takes less than was asked for.

    Args:
        status: Of its delivery.
        after_s: For how long it may take nothing; short outages are no news.
    """
    component = f"sink:{status.sink}"
    if status.stuck_s is not None and status.stuck_s >= after_s:
        reason = status.problem or sentence("sink_silent", after_s=after_s)
        return State(component, "down", reason)
    if status.caution is not None:
        return State(component, "limited", status.caution)
    return State(component)


class StateWatch:
    """Tells of every change of state once.

    Args:
        station: Name, for the events.
        tell: Takes the events.
    """

    def __init__(self, station: str, tell: Callable[[StateEvent], None]) -> None:
        self._station, self._tell = station, tell
        self._known: dict[str, tuple[str, str | None]] = {}

    def see(self, states: Mapping[str, State]) -> None:
        """Takes the present states; a component that is gone is told as `removed`."""
        for event in self._changes(states):
            self._tell(event)

    def _changes(self, states: Mapping[str, State]) -> Iterator[StateEvent]:
        for component, state in states.items():
            # A second mistake in the file is news; a camera's reason may change at every try.
            known = (state.state, state.reason if component == CONFIGURATION else None)
            if self._known.get(component) != known:
                self._known[component] = known
                yield self._event(component, state.state, state.reason)
        for component in [name for name in self._known if name not in states]:
            del self._known[component]
            yield self._event(component, "removed", None)

    def _event(self, component: str, state: str, reason: str | None) -> StateEvent:
        return StateEvent(station=self._station, component=component, state=state, reason=reason)


def health_of(states: Collection[State]) -> Health:
    """Sums the components' states up."""
    wrong = [state for state in states if state.state != OK]
    return Health(
        ready=not any(state.stops for state in wrong),
        degraded=any(not state.stops for state in wrong),
        reasons=[
            f"{state.component}: {state.state}" + (f": {state.reason}" if state.reason else "")
            for state in wrong
        ],
        problems=[StateView.model_validate(vars(state)) for state in wrong],
    )


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
