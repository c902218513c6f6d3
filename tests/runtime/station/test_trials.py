"""A model is tried on a camera of a running station, whose verdicts stay what they were."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from differnet_runtime.config import Config
from differnet_runtime.config.models import CameraModelConfig
from differnet_runtime.errors import ModelStoreError
from differnet_runtime.inference.process import EngineProcess
from differnet_runtime.models.store import ModelStore
from differnet_runtime.station import shadows as shadows_module
from differnet_runtime.station.station import Station
from tests.drawn import write_noise
from tests.runtime.waiting import wait_for

SOON_S = 30.0


def nothing(_: Path) -> None:
    """These models are checked by the station."""


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_noise(tmp_path_factory.mktemp("clip") / "belt.avi", brightest=150)


@pytest.fixture
def hashes(tmp_path: Path, sound_model: Callable[..., Path]) -> list[str]:
    """Two models of a washer, the first active, the other scoring twice as much; one of a nut."""
    store = ModelStore(tmp_path / "models", nothing)
    found = [
        store.add(sound_model("one.onnx"), "washer").hash,
        store.add(sound_model("two.onnx", factor=2.0), "washer").hash,
        store.add(sound_model("nut.onnx", factor=1.1), "nut").hash,
    ]
    store.activate(found[0])
    return found


@pytest.fixture(params=[()], ids=[""])
def station(
    request: pytest.FixtureRequest, tmp_path: Path, clip: str, hashes: list[str]
) -> Iterator[Station]:
    """Judges with the first model; the cameras of `request.param` have a fake one of their own."""
    camera = {"source": clip, "kind": "video", "paced": True, "interval_ms": 60}
    others = {name: {**camera, "model": {"backend": "fake:1ms"}} for name in request.param}
    model = {"store": "washer", "backend": "onnxruntime-cpu", "threads": 1}
    config = Config.model_validate(
        {
            "station": {"state": tmp_path / "state"},
            "model": model,
            "camera": {"top": camera, **others},
            "evidence": {"keep": "all"},
            "web": {"enabled": False},
        }
    )
    station = Station(config, tmp_path / "models")
    station.start()
    yield station
    station.stop()


def judging(station: Station) -> set[str]:
    """Returns the models of the verdicts on `top`."""
    events = [one.event for one in station.recent.after(camera="top")]
    return {event.model.hash for event in events if event.model}


def test_it_is_tried_used_and_then_no_trial_any_more(station: Station, hashes: list[str]) -> None:
    control, (one, two, _) = station.control, hashes
    assert control.shadow("top") is None
    view = control.start_shadow("top", two)
    assert (view.camera, view.model, view.state) == ("top", two, "starting")

    def judged() -> int:
        shadow = control.shadow("top")
        assert shadow is not None
        assert shadow.state != "failed", shadow.error
        return shadow.only_shadow_rejects

    wait_for(lambda: judged() > 2, SOON_S)
    shadow = control.shadow("top")
    assert shadow is not None
    assert shadow.agree == shadow.only_live_rejects == 0
    assert shadow.differing[0].shadow.score == pytest.approx(2 * shadow.differing[0].live.score)  # type: ignore[operator]
    assert control.shadow_picture("top", shadow.differing[0].id) is not None
    overview = control.overview()
    assert [camera.shadow for camera in overview.cameras] == [two]
    assert [engine.name for engine in overview.engines] == ["washer"]
    assert judging(station) == {one}, "no event is its"
    kept = station.evidence.list(limit=100, camera="top")
    assert {item.model for item in kept if item.verdict != "NO_DECISION"} == {one}
    assert {item.model for item in kept} <= {one, None}, "no model judged a late picture"
    engine = station.models.first.switch.engine
    control.activate(two)
    assert control.shadow("top") is None, "it judges now"
    assert station.models.first.switch.engine is not engine
    wait_for(lambda: judging(station) == {one, two})


def test_a_dead_trial_harms_no_verdict(station: Station, hashes: list[str]) -> None:
    engine = station.models.first.switch.engine
    assert engine.wait_ready(SOON_S)
    pid = engine.status.pid
    station.control.start_shadow("top", hashes[1])
    shadow = station.shadows.of("top")
    assert shadow is not None
    wait_for(lambda: shadow.view().state == "running", SOON_S)
    died = shadow.engine.status.pid
    assert died is not None
    os.kill(died, signal.SIGKILL)
    wait_for(lambda: shadow.view().state == "failed")
    answers = engine.status.answers
    wait_for(lambda: engine.status.answers > answers + 2)
    assert (engine.status.pid, engine.status.restarts, engine.status.faults) == (pid, 0, 0)
    assert station.live()
    assert station.control.health().ready
    assert station.control.stop_shadow("top")
    assert not station.control.stop_shadow("top")


@pytest.mark.parametrize("station", [("side",)], indirect=True)
def test_what_can_not_be_tried_is_refused_and_what_is_ends_with_its_camera(
    station: Station, hashes: list[str]
) -> None:
    one, two, nut = hashes
    start = station.control.start_shadow
    for camera, model, says in (
        ("top", one, "this model judges camera top already"),
        ("top", nut, "is stored as 'nut', but camera top uses 'washer'"),
        ("top", "0" * 64, "names no model"),
        ("side", one, "not one of the store"),
    ):
        with pytest.raises(ModelStoreError, match=says):
            start(camera, model)
    assert station.control.shadow("top") is None
    start("top", two)
    shadow = station.shadows.of("top")
    assert shadow is not None
    cameras = {"side": station.config.camera["side"]}
    station.reconfigure(station.prepare(station.config.model_copy(update={"camera": cameras})))
    assert shadow.ended
    assert station.shadows.of("top") is None


def test_it_keeps_to_the_memory_and_gives_way_to_a_change(
    station: Station, hashes: list[str], sound_model: Callable[..., Path]
) -> None:
    models, two = station.models, hashes[1]
    engine = models.first.switch.engine
    assert engine.wait_ready(SOON_S)
    models.memory_mb = 1
    with pytest.raises(ModelStoreError, match=r"need \d+ MiB .*on trial at top \d+ MiB.* 1 MiB"):
        station.control.start_shadow("top", two)
    needed = sum(share.engine + share.captures for share in models.shares)
    models.memory_mb = (needed + engine.expected_memory) // 2**20 + 80
    station.control.start_shadow("top", two)
    shadow = station.shadows.of("top")
    assert shadow is not None
    third = models.first.store.add(sound_model("three.onnx", factor=1.01), "washer").hash
    station.control.activate(third)
    assert shadow.view().state == "failed"
    assert "its memory was needed" in (shadow.view().error or "")
    assert models.first.switch.engine.model_hash == third


def test_a_look_over_the_trials_ends_none_that_was_begun_meanwhile(
    station: Station, hashes: list[str], sound_model: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    station.control.start_shadow("top", hashes[1])
    store = station.models.first.store
    third = store.add(sound_model("three.onnx", factor=1.01), "washer").hash

    def another_is_begun(*_: object) -> bool:
        monkeypatch.undo()
        station.control.start_shadow("top", third)
        return False  # the model of the one before is not in the store any more

    monkeypatch.setattr(shadows_module, "_of_store", another_is_begun)
    station.shadows.review()
    shadow = station.shadows.of("top")
    assert shadow is not None
    assert (shadow.model, shadow.ended) == (third, False)


def test_no_trial_stays_whose_model_came_to_judge_while_it_was_begun(
    station: Station, hashes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def while_it_is_activated(*arguments: Any, **options: Any) -> EngineProcess:
        station.control.activate(hashes[1])
        return EngineProcess(*arguments, **options)

    monkeypatch.setattr(shadows_module, "EngineProcess", while_it_is_activated)
    station.control.start_shadow("top", hashes[1])
    assert station.shadows.of("top") is None


def test_a_model_under_two_names_is_tried_noted_and_used_under_its_cameras_own(
    station: Station, hashes: list[str], sound_model: Callable[..., Path]
) -> None:
    two, store = hashes[1], station.models.first.store
    assert store.add(sound_model("two.onnx", factor=2.0), "nut").hash == two
    assert station.control.start_shadow("top", two).model == two
    noted = station.control.note_model(two, "of both lines")
    assert noted is not None
    assert (noted.name, noted.note) == ("washer", "of both lines")
    station.control.activate(two)
    assert judged_by(store, "washer") == two
    assert judged_by(store, "nut") is None
    cameras = {
        name: station.config.camera["top"].model_copy(update={"model": model})
        for name, model in (("top", None), ("side", CameraModelConfig(store="nut")))
    }
    station.reconfigure(station.prepare(station.config.model_copy(update={"camera": cameras})))
    with pytest.raises(ModelStoreError, match="several"):
        station.control.activate(two)
    station.control.activate(two, "nut")
    assert judged_by(store, "nut") == two


def judged_by(store: ModelStore, name: str) -> str | None:
    path = store.active(name)
    return None if path is None else path.stem
