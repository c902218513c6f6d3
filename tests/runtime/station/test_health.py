"""What is wrong, in words; every change of it told once."""

from differnet_runtime.capture.messages import CameraState, CameraStatus
from differnet_runtime.inference.messages import EngineState, EngineStatus
from differnet_runtime.station.health import (
    StateWatch,
    camera_state,
    engine_state,
    problem_state,
)
from differnet_runtime.web.views import Health, StateView


def camera(state: CameraState, reason: str | None = None) -> CameraStatus:
    return CameraStatus(state, reason, 0, 0, None, None, None, None, (), None, "0")


def engine(state: EngineState, *, fallback: bool = False) -> EngineStatus:
    reasons = {"tensorrt": "no driver"}
    return EngineStatus(
        state, "onnxruntime-cpu", reasons, fallback, "part", "ab", 0, 0, 0, "timeout: it hung", 7
    )


def test_a_camera_is_well_while_it_gives_frames_and_at_the_end_of_its_file() -> None:
    for state in CameraState:
        found = camera_state("top", camera(state, "why"))
        well = state in (CameraState.LIVE, CameraState.ENDED)
        assert (found.state == "ok") is well
        assert found.stops is not well
    assert camera_state("top", camera(CameraState.STALLED, "why")).reason == "why"


def test_a_fallback_gives_verdicts_and_says_why_it_runs() -> None:
    assert engine_state(engine(EngineState.READY)) == StateView(component="engine", state="ok")
    found = engine_state(engine(EngineState.READY, fallback=True))
    assert (found.state, found.stops) == ("fallback", False)
    assert "tensorrt: no driver" in (found.reason or "")
    for state in set(EngineState) - {EngineState.READY}:
        assert engine_state(engine(state)).stops


def test_what_stops_inspection_is_not_ready_and_what_does_not_is_degraded() -> None:
    assert (
        Health.of(
            [StateView(component="engine", state="ok"), problem_state("outbox", None)]
        ).reasons
        == []
    )
    health = Health.of([problem_state("outbox", "the disk is full")])
    assert (health.ready, health.degraded) == (True, True)
    assert health.reasons == ["outbox: degraded: the disk is full"]
    told = health.problems[0]
    assert (told.component, told.state, told.reason) == ("outbox", "degraded", "the disk is full")
    health = Health.of([StateView(component="camera:top", state="stalled", stops=True)])
    assert (health.ready, health.degraded) == (False, False)


def test_a_change_of_state_is_told_once() -> None:
    told: list[tuple[str, str, str | None]] = []
    watch = StateWatch(lambda *change: told.append(change))
    stalled = StateView(
        component="camera:top", state="stalled", reason="no frame for 2 s", stops=True
    )
    for states in (
        {"camera:top": StateView(component="camera:top", state="ok")},
        {"camera:top": StateView(component="camera:top", state="ok")},
        {"camera:top": stalled},
        {"camera:top": stalled},
        {},
    ):
        watch.see(states)
    assert told == [
        ("camera:top", "ok", None),
        ("camera:top", "stalled", "no frame for 2 s"),
        ("camera:top", "removed", None),
    ]
