"""What is wrong with the station, component by component, and what is told when that changes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

from ..capture import CameraState, CameraStatus
from ..events import StateEvent
from ..inference import EngineState, EngineStatus
from ..outbox import DeliveryStatus
from ..sentences import sentence
from ..web.health_views import Health, StateView

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
