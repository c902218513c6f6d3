"""A station gives the frames that it judges to whoever teaches, and no verdict is lost by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from differnet_runtime.config import Config
from differnet_runtime.images import write_image
from differnet_runtime.station.station import Station
from differnet_runtime.teaching.dataset import Dataset
from differnet_runtime.teaching.files import FOLDER, DatasetFiles
from differnet_runtime.teaching.records import Record, now
from tests.fakes.teaching import frame_of_part
from tests.runtime.waiting import wait_for

PARTS, FRAMES = 12, 3


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    """Of a station before a folder of twelve parts, with three noisy pictures of each."""
    for seed in range(PARTS):
        for noise in range(FRAMES):
            path = tmp_path / "line" / f"{seed:03d}-{noise}.png"
            write_image(path, frame_of_part(seed, noise=noise, size=64).image)
    return {
        "station": {"state": tmp_path / "state"},
        "model": {"backend": "fake:1ms", "threshold": 5.0},
        "camera": {"top": {"source": str(tmp_path / "line")}},
        "evidence": {"keep": "none", "min_free_bytes": 0},
        "web": {"enabled": False},
    }


@pytest.fixture
def station(tmp_path: Path, config: dict[str, Any]) -> Iterator[Station]:
    """It was told to collect before it was started."""
    record = Record(name="ring", camera="top", source="line", created=now(), collecting=True)
    DatasetFiles(tmp_path / "state" / FOLDER / "ring").write(record)
    station = Station(Config.model_validate(config), tmp_path / "models")
    station.start()
    yield station
    station.stop()


def test_every_part_of_a_folder_is_collected_while_it_is_judged(station: Station) -> None:
    wait_for(lambda: sum(station.reporter.of("top").verdicts.values()) == PARTS * FRAMES, 60)
    wait_for(lambda: station.teaching.dataset("ring").repeats == PARTS * (FRAMES - 1), 60)
    assert station.teaching.dataset("ring").parts == PARTS
    assert not station.teaching.take("ring").taken  # the page still shows the last of them


def test_a_reload_that_switches_teaching_off_ends_the_collecting(
    station: Station, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_for(lambda: bool(station.teaching.dataset("ring").pictures), 60)
    renewal = station.prepare(Config.model_validate({**config, "teach": {"enabled": False}}))
    station.reconfigure(renewal)
    considered: list[object] = []
    monkeypatch.setattr(Dataset, "consider", lambda *_: considered.append(_))
    for seed in range(5):  # of a folder, each would wait until the one before was considered
        station.teaching.offer("top", frame_of_part(seed))
    assert not considered
    assert "switched off" in str(station.teaching.view().reason)


def test_a_camera_that_is_judged_by_a_file_says_what_to_set_before_a_training(
    tmp_path: Path, config: dict[str, Any], sound_model: Callable[..., Path]
) -> None:
    model = {"path": str(sound_model()), "backend": "onnxruntime-cpu", "threads": 1}
    station = Station(Config.model_validate({**config, "model": model}), tmp_path / "models")
    station.start()
    try:
        said = str(station.teaching.create("ring", "top", None).obstacle)
        assert said.startswith("[model] names a model file")
        assert 'set store = "ring" in [model] in place of path' in said
        added = station.teaching.add_model("ring", sound_model()).model
        judged_by = {"store": "ring", "backend": "onnxruntime-cpu", "threads": 1}
        renewal = station.prepare(Config.model_validate({**config, "model": judged_by}))
        station.reconfigure(renewal)  # as it was told
        assert station.teaching.dataset("ring").obstacle is None
        assert station.models.first.switch.engine.wait_ready(30.0), "the file judges on"
        assert added is not None
        station.control.activate(added.id)
        assert station.models.first.switch.engine.model_hash == added.id
    finally:
        station.stop()
