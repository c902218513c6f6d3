"""The state of every component of a station, and the events when one changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from ..backends.selection import AUTO, ORT_CPU
from ..capture.messages import CameraState, CameraStatus
from ..config import ModelConfig
from ..gpu import nvidia_gpu
from ..inference.messages import EngineState, EngineStatus
from ..outbox.delivery import DeliveryStatus
from ..sentences import sentence
from ..web.views import StateView

if TYPE_CHECKING:
    from .station import Station

OK, CONFIGURATION = "ok", "configuration"
_NORMAL = (CameraState.LIVE, CameraState.ENDED)


def states_of(station: Station) -> dict[str, StateView]:
    """Returns the state of every component of a station, by its name."""
    cameras, config, results = station.cameras, station.config, station.results
    found = [camera_state(name, loop.status) for name, loop in cameras.items()]
    for model in station.models.all:
        status, name = model.switch.engine.status, model.components
        found.append(engine_state(status, name["engine"]))
        found.append(gpu_state(model.planned.config, status, name["gpu"]))
        found.append(problem_state(name["model"], model.problem))
    working = inspecting(station, {state.component: state for state in found})
    found += [
        station.reporter.of(camera).alarms.state(config.decision, explained=camera not in working)
        for camera in cameras
    ]
    found += [sink_state(one.status, config.events.degraded_after_s) for one in results.deliveries]
    found.append(problem_state("outbox", results.outbox.status.problem))
    found.append(problem_state("evidence", station.evidence.status.problem))
    found.append(problem_state("labels", station.labelling.book.problem))
    found.append(problem_state(CONFIGURATION, station.configuration_problem))
    return {state.component: state for state in found}


def inspecting(station: Station, states: Mapping[str, StateView]) -> list[str]:
    """Returns the cameras whose parts get verdicts now.

    Args:
        station: The station that is asked.
        states: States by component, at least those of the cameras and engines.
    """
    needed = {
        camera: (f"camera:{camera}", model.components["engine"])
        for camera in station.cameras
        if (model := station.models.of(camera)) is not None  # a reload removes it
    }
    return [
        camera
        for camera, components in needed.items()
        if all(one in states and not states[one].stops for one in components)
    ]


def camera_state(name: str, status: CameraStatus) -> StateView:
    """Returns the state of a camera; one at the end of its file is ok."""
    component = f"camera:{name}"
    if status.state in _NORMAL:
        return problem_state(component)
    return StateView(
        component=component, state=status.state.value, reason=status.reason, stops=True
    )


def engine_state(status: EngineStatus, component: str = "engine") -> StateView:
    """Returns the state of an engine; a fallback gives verdicts, but slower than asked for."""
    if status.state is not EngineState.READY:
        return StateView(
            component=component, state=status.state.value, reason=status.last_fault, stops=True
        )
    if status.fallback:
        reason = sentence("engine_falls_back", backend=status.backend, why=_reasons(status))
        return StateView(component=component, state="fallback", reason=reason)
    return problem_state(component)


def gpu_state(config: ModelConfig, status: EngineStatus, component: str = "gpu") -> StateView:
    """Returns `degraded` if the CPU runs the model although the machine has a GPU.

    Otherwise nobody would notice: `auto` goes on with the CPU, and verdicts only come later. A
    `backend` that names the CPU is taken as wanted; a fallback is the engine's own state.

    Args:
        config: `[model]`, or a camera's own.
        status: Status of its engine.
        component: Name of the state.
    """
    present = nvidia_gpu()
    ready = status.state is EngineState.READY and not status.fallback
    if config.backend != AUTO or not present or not ready or status.backend != ORT_CPU:
        return problem_state(component)
    reason = sentence("gpu_unused", gpu=present, why=_reasons(status), cpu=ORT_CPU)
    return problem_state(component, reason)


def _reasons(status: EngineStatus) -> str:
    return "; ".join(f"{name}: {reason}" for name, reason in status.reasons.items())


@lru_cache(maxsize=256)
def problem_state(component: str, problem: str | None = None) -> StateView:
    """Returns `degraded` if there is a problem; inspection goes on."""
    state = OK if problem is None else "degraded"
    return StateView(component=component, state=state, reason=problem)


def sink_state(status: DeliveryStatus, after_s: float) -> StateView:
    """Returns the state of a sink: `down` if it takes nothing, `limited` if less than configured.

    Args:
        status: Status of its delivery.
        after_s: Seconds for which it may take nothing; shorter outages are not reported.
    """
    component = f"sink:{status.sink}"
    if status.stuck_s is not None and status.stuck_s >= after_s:
        reason = status.problem or sentence("sink_silent", after_s=after_s)
        return StateView(component=component, state="down", reason=reason)
    if status.caution is not None:
        return StateView(component=component, state="limited", reason=status.caution)
    return problem_state(component)


class StateWatch:
    """Reports every change of state once.

    Args:
        tell: Called with the component, its new state and the reason.
    """

    def __init__(self, tell: Callable[[str, str, str | None], None]) -> None:
        self._tell = tell
        self._known: dict[str, tuple[str, str | None]] = {}

    def see(self, states: Mapping[str, StateView]) -> None:
        """Takes the present states; a component that is gone is reported as `removed`."""
        for component, state in states.items():
            # A second mistake in the file is news; a camera's reason may change with every try.
            known = (state.state, state.reason if component == CONFIGURATION else None)
            if self._known.get(component) != known:
                self._known[component] = known
                self._tell(component, state.state, state.reason)
        for component in [name for name in self._known if name not in states]:
            del self._known[component]
            self._tell(component, "removed", None)
