"""The state of every component of a station, and whether all its stages are alive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from .gpu import gpu_state
from .health import CONFIGURATION, State, camera_state, engine_state, problem_state, sink_state

if TYPE_CHECKING:
    from .station import Station


def states_of(station: Station) -> dict[str, State]:
    """Returns the state of every component, by its name."""
    cameras, config = station.cameras, station.config
    alarms, results = station.reporter.alarms, station.results
    found = [camera_state(name, loop.status) for name, loop in cameras.items()]
    for model in station.models:
        status, name = model.switch.engine.status, model.planned.component
        found.append(engine_state(status, name("engine")))
        found.append(gpu_state(model.config, status, name("gpu")))
        found.append(problem_state(name("model"), model.problem))
    working = inspecting(station, {state.component: state for state in found})
    found += [
        alarms.state(camera, loop.config, config.decision, explained=camera not in working)
        for camera, loop in cameras.items()
    ]
    after_s = config.events.degraded_after_s
    found += [sink_state(one.status, after_s) for one in results.deliveries]
    found.append(problem_state("outbox", results.outbox.status.problem))
    found.append(problem_state("evidence", station.evidence.status.problem))
    found.append(problem_state("labels", station.labelling.book.problem))
    found.append(problem_state(CONFIGURATION, station.configuration_problem))
    return {state.component: state for state in found}


def goes_on(station: Station) -> bool:
    """Returns whether every stage goes on: what hangs or has died asks for a restart."""
    results = station.results
    return (
        all(loop.live for loop in station.cameras.values())
        and all(model.switch.engine.alive for model in station.models)
        and station.evidence.alive
        and results.outbox.alive
        and all(delivery.alive for delivery in results.deliveries)
    )


def inspecting(station: Station, states: Mapping[str, State]) -> list[str]:
    """Returns the cameras whose parts get verdicts now.

    Args:
        station: The station.
        states: States by component; those of the cameras and engines must be among them.
    """
    return [name for name in station.cameras if _inspects(station, name, states)]


def _inspects(station: Station, camera: str, states: Mapping[str, State]) -> bool:
    model = station.models.of(camera)
    if model is None:  # a reload removes it
        return False
    needed = (states.get(f"camera:{camera}"), states.get(model.planned.component("engine")))
    return all(state is not None and not state.stops for state in needed)
