"""What a reload does to cameras that judge meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from differnet_runtime.config import Config
from differnet_runtime.errors import ModelFileError
from differnet_runtime.events import InspectionEvent
from differnet_runtime.outbox.delivery import Delivery
from differnet_runtime.station.station import Station
from tests.drawn import write_noise
from tests.runtime.waiting import wait_for

Tables = dict[str, Any]


@pytest.fixture
def clip(tmp_path: Path) -> str:
    return write_noise(tmp_path / "belt.avi", frames=50, brightest=200)


def config_of(tmp_path: Path, cameras: dict[str, Tables], **others: Tables) -> Config:
    return Config.model_validate(
        {
            "station": {"state": tmp_path / "state"},
            "model": {"backend": "fake:1ms", "threshold": 5.0},
            "camera": cameras,
            "evidence": {"keep": "none"},
            "web": {"enabled": False},
            **others,
        }
    )


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Callable[[dict[str, Tables]], Station]]:
    """Starts a station with some cameras."""
    started: list[Station] = []

    def start(cameras: dict[str, Tables]) -> Station:
        station = Station(config_of(tmp_path, cameras))
        started.append(station)
        station.start()
        return station

    yield start
    for station in started:
        station.stop()


def scored(station: Station, camera: str) -> list[InspectionEvent]:
    found = [one.event for one in station.recent.after(camera=camera)]
    return [event for event in found if event.score is not None]


@pytest.mark.parametrize("backend", ["fake:1ms", "fake:2ms"])
@pytest.mark.parametrize("after", ["another model", "nothing, it is removed"])
def test_a_camera_that_changes_its_model_is_judged_by_its_own_threshold_to_the_last(
    after: str,
    backend: str,
    clip: str,
    tmp_path: Path,
    running: Callable[[dict[str, Tables]], Station],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    top = {"source": clip, "kind": "video", "paced": True}
    own = {**top, "model": {"backend": backend, "threshold": 7.0}}
    station = running({"top": top, "side": own})
    wait_for(lambda: len(scored(station, "side")) > 2)
    close, seen = station._close, list[InspectionEvent]()

    def late(names: list[str]) -> None:
        number = station.recent.number
        wait_for(lambda: len(station.recent.after(number, camera="side")) > 3)
        seen.extend(one.event for one in station.recent.after(number, camera="side"))
        close(names)

    monkeypatch.setattr(station, "_close", late)
    moved = {**top, "model": {"backend": "fake:3ms", "threshold": 8.0}}
    cameras = {"top": top, "side": moved} if after == "another model" else {"top": top}
    station.reconfigure(station.prepare(config_of(tmp_path, cameras)))
    assert {(event.code, event.threshold) for event in seen} == {(None, 7.0)}


def test_a_camera_is_opened_anew_for_its_certificate_though_its_threshold_changes_too(
    tmp_path: Path, running: Callable[[dict[str, Tables]], Station]
) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_text("one")
    top = {"source": "https://127.0.0.1:9/stream", "tls": {"ca": authority}}
    station = running({"top": top})
    before = station.cameras["top"]
    other = {**top, "model": {"threshold": 3.0}}
    station.reconfigure(station.prepare(config_of(tmp_path, {"top": other})))
    assert station.cameras["top"] is before, "another threshold alone is no reason"
    authority.write_text("two")
    another = {**top, "model": {"threshold": 4.0}}
    station.reconfigure(station.prepare(config_of(tmp_path, {"top": another})))
    assert station.cameras["top"] is not before


def test_a_camera_that_comes_later_is_not_late_with_its_first_part(
    clip: str, tmp_path: Path, running: Callable[[dict[str, Tables]], Station]
) -> None:
    top = {"source": clip, "kind": "video", "paced": True}
    station = running({"top": top})
    dark = {"source": "rtsp://127.0.0.1:9/", "no_part_after_s": 60.0}
    station.reconfigure(station.prepare(config_of(tmp_path, {"top": top, "side": dark})))
    assert station.states()["parts:side"].state == "ok"


def test_a_model_that_can_not_be_used_is_known_before_anything_is_touched(
    clip: str, tmp_path: Path, running: Callable[[dict[str, Tables]], Station]
) -> None:
    top = {"source": clip, "kind": "video", "paced": True}
    station = running({"top": top})
    other = {**top, "model": {"path": tmp_path / "none.onnx", "backend": "onnxruntime-cpu"}}
    with pytest.raises(ModelFileError, match=r"none\.onnx"):
        station.prepare(config_of(tmp_path, {"top": top, "side": other}))
    station.reconfigure(station.prepare(config_of(tmp_path, {"top": top, "end": top})))
    assert [*station.cameras] == ["top", "end"]


def test_a_camera_is_never_judged_by_the_model_that_gives_way_for_another_camera(
    clip: str,
    tmp_path: Path,
    running: Callable[[dict[str, Tables]], Station],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    top = {"source": clip, "kind": "video", "paced": True}
    first, second, third = (
        {**top, "model": {"backend": f"fake:{ms}ms", "threshold": float(ms)}} for ms in (2, 3, 4)
    )
    station = running({"top": top, "one": first, "two": second, "three": second})
    wait_for(lambda: all(scored(station, name) for name in station.cameras))
    giving_way = station.models.of("one")
    assert giving_way is not None
    changing = giving_way._changing
    with changing:  # the new model takes its time
        cameras = {"top": top, "one": third, "two": second, "three": third}
        station.reconfigure(station.prepare(config_of(tmp_path, cameras)))
        assert station.models.of("three") is giving_way
        number = station.recent.number

        def since(camera: str) -> set[tuple[str | None, float | None]]:
            events = [one.event for one in station.recent.after(number, camera=camera)]
            return {(event.code, event.threshold) for event in events}

        wait_for(lambda: bool(since("one")) and bool(since("three")))
        assert since("one") == {(None, 2.0)}
        assert since("three") == {("engine_starting", None)}
    wait_for(lambda: (None, 4.0) in since("three"))


def test_a_station_lives_on_while_a_receiver_is_changed(
    clip: str,
    tmp_path: Path,
    running: Callable[[dict[str, Tables]], Station],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cameras = {"top": {"source": clip, "kind": "video", "paced": True}}
    station = running(cameras)
    alive = []
    for name in ("one", "two"):
        receiver = {"path": tmp_path / f"{name}.jsonl"}
        renewal = station.prepare(config_of(tmp_path, cameras, jsonl=receiver))
        station.reconfigure(renewal)
        for step in ("start", "stop"):
            took = getattr(Delivery, step)

            def watched(self: Delivery, *limits: float, took: Any = took) -> None:
                alive.append(station.live())
                took(self, *limits)
                alive.append(station.live())

            monkeypatch.setattr(Delivery, step, watched)
    assert len(alive) == 4
    assert all(alive)
