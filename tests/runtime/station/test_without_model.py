"""A station whose store has no model yet: it shows its cameras, and begins with the first model."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from differnet_runtime.config import Config
from differnet_runtime.errors import DifferNetError, LabelError, ModelFileError
from differnet_runtime.events import InspectionEvent
from differnet_runtime.models.store import ModelStore
from differnet_runtime.station.metrics import Metrics
from differnet_runtime.station.model_set import StationModels
from differnet_runtime.station.station import Station
from differnet_runtime.web.model_views import ThresholdToSet
from tests.drawn import write_noise
from tests.runtime.waiting import wait_for

Start = Callable[..., Station]


def nothing(_: Path) -> None:
    """These models are checked by the station."""


@pytest.fixture
def clip(tmp_path: Path) -> str:
    return write_noise(tmp_path / "belt.avi")


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """Not there: nobody has added a model."""
    return ModelStore(tmp_path / "models", nothing)


@pytest.fixture
def start(tmp_path: Path, store: ModelStore) -> Iterator[Start]:
    """Starts a station with some cameras, judged by the models `washer` of the store."""
    started: list[Station] = []

    def run(cameras: dict[str, dict[str, Any]], **tables: Any) -> Station:
        model = {"store": "washer", "backend": "onnxruntime-cpu", "threads": 1}
        config = Config.model_validate(
            {
                "station": {"state": tmp_path / "state"},
                "model": model,
                "camera": cameras,
                "evidence": {"keep": "none"},
                "web": {"enabled": False},
                **tables,
            }
        )
        station = Station(config, store.root)
        started.append(station)
        station.start()
        return station

    yield run
    for station in started:
        station.stop()


def events(station: Station, camera: str) -> list[InspectionEvent]:
    return [one.event for one in station.recent.after(camera=camera)]


def judged(station: Station, camera: str) -> list[InspectionEvent]:
    return [event for event in events(station, camera) if event.score is not None]


def test_it_shows_its_cameras_and_says_that_no_model_judges(clip: str, start: Start) -> None:
    station = start({"top": {"source": clip, "kind": "video", "paced": True}})
    live = station.reporter.of("top").picture
    wait_for(lambda: live.jpeg(overlay=True) is not None)
    first = live.jpeg(overlay=False)
    assert first is not None
    wait_for(lambda: (now := live.jpeg(overlay=False)) is not None and now.number > first.number)
    assert (first.event.verdict, first.event.code) == ("NO_DECISION", "no_model")
    told = events(station, "top")
    assert len(told) == 1, "the line is told once, as of a lost camera"
    assert (told[0].verdict, told[0].code, told[0].reject) == ("NO_DECISION", "no_model", True)
    assert told[0].first_event is None, "it counts as no part"
    health = station.control.health()
    assert not health.ready
    assert health.models == {}
    said = next(reason for reason in health.reasons if reason.startswith("engine: no_model"))
    assert "no model judges yet" in said
    assert "models add FILE --name washer" in said
    assert station.live(), "nothing that a restart could mend"
    overview = station.control.overview()
    assert (overview.engine.state, overview.engine.model) == ("no_model", "")
    assert (overview.cameras[0].state, overview.cameras[0].model) == ("running", None)
    assert overview.threshold is None
    assert "no model" in station.control.judging()[0]


def test_labels_and_figures_do_without_a_model(clip: str, start: Start) -> None:
    station = start({"top": {"source": clip, "kind": "video", "paced": True}})
    assert station.control.labelling.summary("top").threshold is None
    with pytest.raises(LabelError, match="no model judges camera top yet"):
        station.control.labelling.set_threshold("top", ThresholdToSet(threshold=1.0), "anybody")
    assert isinstance(station.metrics, Metrics)
    names = {
        sample.name for metric in station.metrics.registry.collect() for sample in metric.samples
    }
    assert "differnet_ready" in names
    assert "differnet_model_info" not in names


@pytest.mark.parametrize("by", ["the page", "the command"])
def test_the_first_model_judges_without_a_restart(
    by: str, clip: str, start: Start, store: ModelStore, sound_model: Callable[..., Path]
) -> None:
    station = start({"top": {"source": clip, "kind": "video", "paced": True}})
    wait_for(lambda: len(events(station, "top")) > 0)
    added = store.add(sound_model(), "washer")
    if by == "the page":
        station.control.activate(added.hash)
    else:
        store.activate(added.hash)
    wait_for(lambda: len(judged(station, "top")) > 3, 30.0)
    assert {event.model.hash for event in judged(station, "top") if event.model} == {added.hash}
    assert station.control.health().models["top"].hash == added.hash
    assert store.active("washer") == added.path


def test_a_first_model_that_fails_is_refused_and_the_next_one_taken(
    clip: str, start: Start, store: ModelStore, sound_model: Callable[..., Path]
) -> None:
    station = start({"top": {"source": clip, "kind": "video", "paced": True}})
    bad = store.add(sound_model("bad.onnx", golden=3.0), "washer")
    with pytest.raises(DifferNetError, match="golden"):
        station.control.activate(bad.hash)
    assert not judged(station, "top")
    store.activate(bad.hash)  # by a command that checks nothing
    wait_for(lambda: "was refused" in (station.states()["model"].reason or ""), 30.0)
    good = store.add(sound_model("good.onnx"), "washer")
    store.activate(good.hash)
    wait_for(lambda: len(judged(station, "top")) > 0, 30.0)
    wait_for(lambda: station.states()["model"].state == "ok")


def test_pictures_of_a_folder_are_shown_and_then_judged_each_once(
    start: Start,
    store: ModelStore,
    pictures: Callable[..., Path],
    sound_model: Callable[..., Path],
) -> None:
    folder = pictures(*range(100, 130))
    for path in folder.iterdir():
        os.utime(path, (1.7e9, 1.7e9))  # they are complete
    station = start({"top": {"source": str(folder), "kind": "folder", "after": "keep"}})
    live = station.reporter.of("top").picture
    wait_for(lambda: (now := live.jpeg(overlay=False)) is not None and now.number > 2, 20.0)
    station.control.activate(store.add(sound_model(), "washer").hash)
    wait_for(lambda: len(judged(station, "top")) >= 30, 30.0)
    names = [event.frame.name for event in judged(station, "top") if event.frame]
    assert len({Path(name).name for name in names}) == 30
    assert len(names) == 30


def test_one_camera_without_a_model_does_not_concern_the_others(clip: str, start: Start) -> None:
    source = {"source": clip, "kind": "video", "paced": True}
    station = start(
        {"top": source, "side": {**source, "model": {"backend": "fake:1ms"}}},
    )
    wait_for(lambda: len(judged(station, "side")) > 3)
    assert not judged(station, "top")
    assert station.inspecting(station.states()) == ["side"]
    assert set(station.control.health().models) == {"side"}


def test_whoever_asks_for_a_verdict_gets_an_answer(clip: str, start: Start) -> None:
    source = {"source": clip, "kind": "video", "paced": True, "trigger": "command"}
    station = start({"top": source})
    wait_for(lambda: station.cameras["top"].status.last_frame_ns is not None)
    event = station.control.trigger("top", "A-1", "plc")()
    assert (event.verdict, event.code, event.part) == ("NO_DECISION", "no_model", "A-1")


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    model = {"path": tmp_path / "none.onnx"}
    config = Config.model_validate({"model": model, "camera": {"top": {"source": "0"}}})
    with pytest.raises(ModelFileError):
        StationModels(config, lambda *_: None)


def test_nothing_runs_where_there_is_no_model(clip: str, start: Start) -> None:
    station = start({"top": {"source": clip, "kind": "video", "paced": True}})
    engine = station.models.first.switch.engine
    wait_for(lambda: len(events(station, "top")) > 0)
    assert engine.status.pid is None
    assert not any(thread.name == "engine" for thread in threading.enumerate())
