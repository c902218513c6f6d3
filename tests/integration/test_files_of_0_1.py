"""What version 0.1 (3f18aa6) wrote on a device is read: models, store, events, evidence, settings.

`tests/data/files_of_0_1` was made by that commit from drawn parts: a tiny model of the recipe
`edge-global` (folder and file) and one of `edge` (file), a station's configuration and its state
folder. Its broker could not be reached, so that all its events were still to be sent; `scores.json`
has its scores of four drawn parts.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import cv2
import pytest

from differnet_export import export
from differnet_runtime import Detector
from differnet_runtime.config import load_config
from differnet_runtime.models.store import ModelStore
from tests.broker import Broker, listening
from tests.drawn import draw_part
from tests.fakes.running import RunningStation

FILES = Path(__file__).parents[1] / "data" / "files_of_0_1"
SCORES = json.loads((FILES / "scores.json").read_text())
PARTS = [draw_part(number, defect=number % 2 == 1) for number in (300, 301, 302, 303)]


@pytest.mark.parametrize("name", ["part", "windowed"])
def test_a_model_file_gives_the_scores_that_it_gave(name: str) -> None:
    detector = Detector(FILES / f"{name}.onnx", backend="onnxruntime-cpu", threads=1)
    results = [detector(part) for part in PARTS]
    assert [one.value for one in results] == pytest.approx(SCORES[name]["scores"], rel=1e-5)
    assert {one.threshold for one in results} == {SCORES[name]["threshold"]}
    assert [one.verdict.name for one in results] == ["GOOD", "DEFECT", "GOOD", "DEFECT"]


def test_a_model_folder_is_exported_with_the_scores_that_it_gave(tmp_path: Path) -> None:
    export(FILES / "model", output=tmp_path / "part.onnx", precision="fp32")
    detector = Detector(tmp_path / "part.onnx", backend="onnxruntime-cpu", threads=1)
    scores = [detector(part).value for part in PARTS]
    assert scores == pytest.approx(SCORES["part"]["scores"], rel=1e-4)


def test_a_store_has_its_active_model() -> None:
    (model,) = ModelStore(FILES / "station" / "state" / "models").list()
    assert model.name == "rings"
    assert model.active


def test_a_station_goes_on_with_its_configuration_and_its_state(tmp_path: Path) -> None:
    shutil.copytree(FILES / "station", tmp_path / "station", symlinks=True)
    folder = tmp_path / "station"
    write_belt(folder / "belt.avi")
    events, pictures = left_behind(folder / "state")
    with Broker(tmp_path / "broker") as broker, listening(broker.port) as listener:
        station = RunningStation(
            folder, "", environment={"DIFFERNET_MODELS": str(folder / "state" / "models")}
        )
        text = (FILES / "station" / "line.toml").read_text()
        text = text.replace("port = 1\n", f"port = {broker.port}\n")
        station.config.write_text(text.replace("port = 0\n", f"port = {station.port}\n"))
        assert load_config(station.config).config.camera["top"].paced
        with station:
            station.wait(lambda: events <= listener.ids(), what="the events of before")
            station.wait(station.ready, what="readiness")
            status, kept = station.get("/api/evidence?limit=100")
    assert status == 200
    assert pictures <= {entry["id"] for entry in kept["entries"]}


def write_belt(path: Path) -> None:
    """Writes the video of drawn parts that the station watched."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 4, (128, 128))
    for number in range(300, 308):
        writer.write(cv2.resize(draw_part(number, defect=number % 2 == 1), (128, 128)))
    writer.release()


def left_behind(state: Path) -> tuple[set[str], set[str]]:
    """Returns the ids of the events and of the pictures in a state folder."""
    found = []
    for file, table in (("outbox.sqlite", "event"), ("evidence/index.sqlite", "picture")):
        with closing(sqlite3.connect(state / file)) as connection:
            found.append({one for (one,) in connection.execute(f"SELECT id FROM {table}")})
    events, pictures = found
    assert len(events) > 20
    assert len(pictures) > 10
    return events, pictures


def test_the_files_are_small() -> None:
    sizes = [path.stat().st_size for path in FILES.rglob("*") if path.is_file()]
    assert sum(sizes) < 1e6
