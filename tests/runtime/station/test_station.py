"""A whole station but for its processes: what becomes of frames, commands, alarms and labels."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from differnet_runtime.capture.messages import CameraState
from differnet_runtime.config import Config
from differnet_runtime.errors import CameraError, LabelError
from differnet_runtime.events import InspectionEvent
from differnet_runtime.inference.process import EngineProcess
from differnet_runtime.models.store import ModelStore
from differnet_runtime.station import models as models_module
from differnet_runtime.station import shadows as shadows_module
from differnet_runtime.station import station as station_module
from differnet_runtime.station.station import Station
from differnet_runtime.web.model_views import LabelToSet, ThresholdToSet
from differnet_runtime.web.views import CameraView
from tests.fakes.line import FakeCapture, FakeEngine
from tests.runtime.waiting import wait_for

GOOD, DEFECT = 80, 160
"""Brightness of a good and of a defective part; the station's threshold is between them."""
THRESHOLD = 120.0


class Line:
    """A station with a free-running camera `top`, and `side`, which waits for commands."""

    def __init__(self, folder: Path, captures: dict[str, FakeCapture], **tables: Any) -> None:
        self.folder, self.captures = folder, captures
        self.station = Station(self.config(**tables), folder / "models")
        self.station.start()

    def config(self, **tables: Any) -> Config:
        cameras = {
            "top": {"source": "0", "same_part_s": 0.0},
            "side": {"source": "1", "trigger": "command", "deadline_ms": 60_000},
        }
        values = {
            "station": {"name": "line", "state": self.folder / "state"},
            "model": {"backend": "fake", "threshold": THRESHOLD},
            "camera": cameras,
            "evidence": {"keep": "all", "min_free_bytes": 0},
            "jsonl": {"path": self.folder / "events.jsonl"},
        }
        return Config.model_validate(values | tables)

    def reload(self, **tables: Any) -> None:
        self.station.reconfigure(self.station.prepare(self.config(**tables)))

    @property
    def engine(self) -> FakeEngine:
        engine: EngineProcess = self.station.models.first.switch.engine
        assert isinstance(engine, FakeEngine)
        return engine

    def events(self, camera: str = "top") -> list[InspectionEvent]:
        return [one.event for one in self.station.recent.after(camera=camera)]

    def judge(self, *brightness: int, camera: str = "top") -> list[InspectionEvent]:
        """Returns the verdicts on parts that pass a free-running camera."""
        before = len(self.events(camera))
        for number, value in enumerate(brightness, before + 1):
            self.captures[camera].put(value)
            wait_for(lambda number=number: len(self.events(camera)) == number)  # type: ignore[misc]
        return self.events(camera)[before:]

    def view(self, camera: str = "top") -> CameraView:
        overview = self.station.control.overview()
        return next(one for one in overview.cameras if one.name == camera)

    def delivered(self, kind: str) -> list[dict[str, Any]]:
        path = self.folder / "events.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [event for event in map(json.loads, lines) if event["type"] == kind]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Line]]:
    """Returns a function that starts a station; tables of its configuration by keyword."""
    captures: dict[str, FakeCapture] = {}

    def capture(name: str, *args: Any) -> FakeCapture:
        captures[name] = FakeCapture(name, *args)
        return captures[name]

    monkeypatch.setattr(station_module, "CaptureProcess", capture)
    for module in (models_module, shadows_module):
        monkeypatch.setattr(module, "EngineProcess", FakeEngine)
    started: list[Line] = []

    def start(**tables: Any) -> Line:
        started.append(Line(tmp_path, captures, **tables))
        return started[-1]

    yield start
    for line in started:
        line.station.stop()
        assert line.engine.stopped


@pytest.fixture
def line(start: Callable[..., Line]) -> Line:
    return start()


def kinds(events: list[InspectionEvent]) -> list[tuple[str, str | None]]:
    return [(event.verdict, event.code) for event in events]


def test_a_verdict_goes_to_the_page_the_evidence_the_sinks_and_the_metrics(line: Line) -> None:
    good, defect = line.judge(GOOD, DEFECT)
    assert kinds([good, defect]) == [("GOOD", None), ("DEFECT", None)]
    assert (good.threshold, good.trigger, good.reject) == (THRESHOLD, "free", False)
    assert defect.score == pytest.approx(DEFECT, abs=1.0)
    wait_for(lambda: len(line.delivered("inspection")) == 2)
    assert [event["id"] for event in line.delivered("inspection")] == [good.id, defect.id]
    control = line.station.control
    wait_for(lambda: len(control.evidence("top", None, None, 9)) == 2)
    (kept,) = control.evidence("top", "DEFECT", None, 9)
    assert (kept.id, kept.score, kept.threshold) == (defect.evidence, defect.score, THRESHOLD)
    assert control.evidence_file(kept.id, "image") is not None
    view = line.view()
    assert (view.state, view.frames, view.verdicts) == ("running", 2, {"GOOD": 1, "DEFECT": 1})
    assert (view.last.id if view.last else None, view.threshold) == (defect.id, THRESHOLD)
    assert control.jpeg("top", overlay=False) is not None
    registry = line.station.metrics.registry
    labels = {"camera": "top", "verdict": "DEFECT", "code": ""}
    assert registry.get_sample_value("differnet_verdicts_total", labels) == 1.0
    assert registry.get_sample_value("differnet_camera_frames_total", {"camera": "top"}) == 2.0


def test_frames_that_follow_one_another_are_one_part_of_which_the_worst_is_kept(
    line: Line,
) -> None:
    line.reload(camera={"top": {"source": "0", "same_part_s": 3600.0}})
    first, worse, better = line.judge(DEFECT, DEFECT + 30, DEFECT + 10)
    assert {one.first_event for one in (first, worse, better)} == {first.id}
    assert [one.part_frame for one in (first, worse, better)] == [1, 2, 3]
    control = line.station.control
    wait_for(lambda: [one.frames for one in control.evidence("top", None, None, 9)] == [3])
    assert control.evidence("top", None, None, 9)[0].id == worse.id
    wait_for(lambda: (parts := line.view().parts) is not None and parts.defect == 1)
    line.judge(GOOD)
    wait_for(lambda: (parts := line.view().parts) is not None and parts.yield_percent == 50.0)
    control.reset_parts(["top"])
    wait_for(lambda: (parts := line.view().parts) is not None and parts.good == 0)


def test_a_command_is_answered_with_the_verdict_on_its_part(line: Line) -> None:
    wait = line.station.control.trigger("side", "part 7", "10.0.0.9")
    line.captures["side"].put(DEFECT)
    event = wait()
    assert (event.verdict, event.part, event.trigger) == ("DEFECT", "part 7", "http")
    with pytest.raises(CameraError, match="top"):
        line.station.control.trigger("top", None, "10.0.0.9")
    with pytest.raises(CameraError, match="there is no camera 'sidee'"):
        line.station.ask("sidee", None, "http", "10.0.0.9")
    waiting = line.station.ask("side", "part 8", "http", "10.0.0.9")
    line.station.stop()
    assert kinds([waiting.answer.result(0.0)])[0][0] == "NO_DECISION"


def test_a_fault_of_the_engine_is_no_decision_and_rejects(line: Line) -> None:
    line.engine.fault = "timeout"
    (event,) = line.judge(GOOD)
    assert kinds([event]) == [("NO_DECISION", "engine_timeout")]
    assert event.reject
    line.engine.fault = None
    assert kinds(line.judge(GOOD)) == [("GOOD", None)]


def test_a_camera_that_stalls_is_reported_once_and_stops_its_verdicts(line: Line) -> None:
    station, capture = line.station, line.captures["top"]
    assert station.control.health().ready
    capture.reason, capture.state = "no frame for 2 s", CameraState.STALLED
    wait_for(lambda: len(line.events()) == 1)
    assert kinds(line.events()) == [("NO_DECISION", "camera_stalled")]
    health = station.control.health()
    assert (health.ready, health.reasons) == (False, ["camera:top: stalled: no frame for 2 s"])
    assert station.inspecting(station.states()) == ["side"]
    assert station.control.health_answer("/readyz")[0] == 503  # type: ignore[index]
    assert station.control.health_answer("/livez") == (200, b'{"live":true}')
    capture.alive = False
    assert not station.live()
    capture.state = CameraState.LIVE
    assert kinds(line.judge(GOOD)) == [("GOOD", None)]


def test_k_of_n_rejects_are_an_alarm_and_a_state(line: Line) -> None:
    line.reload(decision={"k": 2, "n": 3, "cooldown_s": 3600.0})
    line.judge(DEFECT, GOOD)
    assert line.view().alarm is None
    line.judge(DEFECT, DEFECT)
    wait_for(lambda: len(line.delivered("alarm")) == 1)
    (alarm,) = line.delivered("alarm")
    assert (alarm["camera"], alarm["rejects"], alarm["frames"]) == ("top", 2, 3)
    assert "2 of 3" in (line.view().alarm or "")


def test_a_label_and_a_threshold_that_follows_from_it_change_the_next_verdict(line: Line) -> None:
    control = line.station.control
    (event,) = line.judge(DEFECT)
    wait_for(lambda: len(control.evidence("top", None, None, 9)) == 1)
    assert (
        control.labelling.label(event.id, LabelToSet(label="good", comment="dust"), "page") is None
    )
    (shown,) = control.evidence("top", None, None, 9)
    assert (shown.label, shown.comment) == ("good", "dust")
    assert control.labelling.summary("top").false_rejects == 1
    with pytest.raises(LabelError):
        control.labelling.label("f" * 32, LabelToSet(label="good"), "page")
    control.labelling.set_threshold("top", ThresholdToSet(threshold=170.0), "page")
    assert (line.view().threshold, control.labelling.summary("top").set_by) == (170.0, "station")
    assert kinds(line.judge(DEFECT)) == [("GOOD", None)]
    assert line.view("side").threshold == THRESHOLD, "it is the other camera's"
    control.labelling.undo_threshold("top")
    assert kinds(line.judge(DEFECT)) == [("DEFECT", None)]
    with pytest.raises(LabelError):
        control.labelling.undo_threshold("top")


def test_a_reload_touches_only_what_is_different(line: Line) -> None:
    line.judge(GOOD)
    top, engine = line.station.cameras["top"], line.engine
    cameras = {"top": {"source": "0", "same_part_s": 0.0}, "end": {"source": "2"}}
    line.reload(camera=cameras, model={"backend": "fake", "threshold": 60.0})
    assert [*line.station.cameras] == ["top", "end"]
    assert (line.station.cameras["top"], line.engine) == (top, engine)
    assert kinds(line.judge(GOOD)) == [("DEFECT", None)], "by the new threshold"
    assert kinds(line.judge(GOOD, camera="end")) == [("DEFECT", None)]


def test_a_bug_in_the_reporting_ends_no_camera(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        monkeypatch.undo()
        raise RuntimeError("a bug")

    monkeypatch.setattr(line.station.recent, "add", failing)
    line.captures["top"].put(GOOD)
    wait_for(lambda: bool(line.events()))
    assert kinds(line.events()) == [("NO_DECISION", "exception")]
    assert kinds(line.judge(GOOD)) == [("GOOD", None)]


def test_the_first_model_of_the_store_judges_and_the_next_one_is_tried(
    start: Callable[..., Line], tmp_path: Path, sound_model: Callable[..., Path]
) -> None:
    store = ModelStore(tmp_path / "models", lambda _: None)
    model = {"store": "washer", "backend": "onnxruntime-cpu", "threshold": THRESHOLD}
    line = start(model=model)
    line.captures["top"].put(GOOD)
    wait_for(lambda: bool(line.events()))
    line.captures["top"].put(GOOD)
    wait_for(lambda: not line.captures["top"].wait(0.0))
    assert kinds(line.events()) == [("NO_DECISION", "no_model")], "it is said once"
    control = line.station.control
    one, two = (store.add(sound_model(f"{k}.onnx", factor=1.0 + k), "washer").hash for k in (0, 1))
    control.activate(one)
    assert [(shown.id, shown.active) for shown in control.models()] == [(one, True), (two, False)]
    (event,) = line.judge(DEFECT)
    assert event.model is not None
    assert (event.verdict, event.model.hash) == ("DEFECT", one)
    control.start_shadow("top", two)
    wait_for(lambda: (trial := control.shadow("top")) is not None and trial.state == "running")
    line.judge(DEFECT)
    wait_for(lambda: (trial := control.shadow("top")) is not None and trial.agree == 1)
    control.activate(two)
    assert control.shadow("top") is None, "it judges now"
    control.rollback()
    assert line.engine.model_hash == one
    note = control.note_model(two, "of the other line")
    assert note is not None
    assert note.note == "of the other line"
