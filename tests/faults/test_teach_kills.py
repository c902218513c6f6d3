"""A station, or its training, is killed at any moment: what it told of is there afterwards."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import pytest

from tests.command_line import differnet
from tests.drawn import draw_part
from tests.fakes.running import RunningStation

NAME = "ring"
LONGEST_S = 3.0
"""A station is killed at most so long after it answers."""
FIRST_TO_GO = "1000"
"""A training's `oom_score_adj`."""


@dataclass
class Told:
    """What the station has confirmed; a request under way when it is killed may hold or not.

    Args:
        models: The model that judges, or the two between which it was changing.
    """

    models: set[str]
    pictures: dict[str, bool] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


class Operator:
    """Does at random what a person does on the pages, and remembers what was confirmed."""

    def __init__(self, folder: Path, station: RunningStation, models: list[str], seed: int) -> None:
        self.folder, self.station, self.models = folder, station, models
        self.told = Told({models[0]})
        self.random = random.Random(seed)
        self._shown = 0

    def show(self) -> None:
        """Puts a part before the camera, every third with a defect."""
        self._shown += 1
        image = draw_part(self._shown, defect=self._shown % 3 == 0)
        path = self.folder / f"{self._shown:05d}.png"
        assert cv2.imwrite(str(path), image)
        path.rename(self.folder / "seen" / path.name)

    def look(self) -> None:
        """Sees what the pages show: collected pictures and counts."""
        status, found = self.station.get(f"/api/teach/{NAME}")
        if status == 200:
            self.told.pictures |= {one["id"]: one["kept"] for one in found["pictures"]}
        parts = self.station.camera("top").get("parts") or {}
        for kind in ("good", "defect"):
            self.told.counts[kind] = max(self.told.counts.get(kind, 0), parts.get(kind) or 0)

    def throw(self) -> None:
        """Throws a picture out, or puts it back."""
        if self.told.pictures:
            number = self.random.choice(sorted(self.told.pictures))
            kept = not self.told.pictures.pop(number)
            if self.station.post(f"/api/teach/{NAME}/pictures/{number}", {"kept": kept})[0] == 200:
                self.told.pictures[number] = kept

    def label(self) -> None:
        """Says of a rejected part what it was."""
        status, found = self.station.get("/api/evidence")
        if status == 200 and found["entries"]:
            entry = self.random.choice(found["entries"])["id"]
            label = self.random.choice(("good", "defect"))
            self.told.labels.pop(entry, None)
            if self.station.post(f"/api/labels/{entry}", {"label": label})[0] == 200:
                self.told.labels[entry] = label

    def change(self) -> None:
        """Has the other model judge."""
        other = next(one for one in self.models if one not in self.told.models or one != self.now())
        self.told.models |= {other}
        if self.station.post("/api/models/activate", {"hash": other})[0] == 200:
            self.told.models = {other}

    def train(self) -> None:
        """Begins a training; refused while one is running, or with too few parts."""
        self.station.post(f"/api/teach/{NAME}/training", {})

    def now(self) -> str:
        """Returns the hash of the model that judges; empty where nobody answers."""
        found: str = (self.station.camera("top").get("model") or {}).get("hash", "")
        return found

    def work(self) -> None:
        """Goes on until the station is dead."""
        does = (self.show, self.show, self.look, self.throw, self.label, self.change, self.train)
        while self.station.process.poll() is None:
            self.random.choice(does)()

    def check(self) -> None:
        """Holds what there is against what was told."""
        station, told = self.station, self.told
        station.wait(lambda: self.now() in told.models, what="the model")
        told.models = {self.now()}
        station.wait(lambda: station.get(f"/api/teach/{NAME}")[0] == 200, what="the data set")
        view = station.get(f"/api/teach/{NAME}")[1]
        there = {one["id"]: one["kept"] for one in view["pictures"]}
        assert {number: there.get(number) for number in told.pictures} == told.pictures
        labels = {one["id"]: one["label"] for one in station.get("/api/labels")[1]["labels"]}
        assert {entry: labels.get(entry) for entry in told.labels} == told.labels
        for kind, count in told.counts.items():
            station.wait(
                lambda kind=kind, count=count: (
                    ((station.camera("top").get("parts") or {}).get(kind) or -1) >= count
                ),
                what=f"{count} {kind} parts",
            )
        assert training_of(view) != "running"
        self.judges()

    def judges(self) -> None:
        """Shows a part, and waits for a verdict on it."""
        before = len(verdicts(self.station))
        self.show()
        self.station.wait(lambda: len(verdicts(self.station)) > before, what="a verdict")


def verdicts(station: RunningStation) -> list[dict[str, Any]]:
    return [one for one in station.events("inspection") if one["verdict"] != "NO_DECISION"]


def training_of(view: dict[str, Any]) -> str | None:
    state: str | None = (view["training"] or {}).get("state")
    return state


def jobs(station: RunningStation) -> list[int]:
    """Returns the processes of a training: its children that are the first to go."""
    found = []
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            pid = int(process.name)
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            adjusted = (process / "oom_score_adj").read_text().strip()
            if parent == station.process.pid and adjusted == FIRST_TO_GO:
                found.append(pid)
    return found


@pytest.mark.parametrize(
    "kills", [3, pytest.param(50, id="fifty", marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]
)
def test_what_a_station_told_of_outlives_a_kill_at_any_moment(
    tmp_path: Path, exported: Path, kills: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIFFERNET_MODELS", str(tmp_path / "models"))
    (tmp_path / "seen").mkdir()
    other = tmp_path / "other.onnx"
    images = tmp_path / "fresh"
    images.mkdir()
    for seed in range(500, 560):
        cv2.imwrite(str(images / f"{seed}.png"), draw_part(seed))
    differnet(
        "calibrate", exported, "--images", images, "--false-reject-rate", "0.3", "--force",
        "--doubtful", "keep", "--output", other, "--backend", "onnxruntime-cpu",
    )  # fmt: skip
    for file in (exported, other):
        differnet("models", "add", file, "--name", NAME)
    differnet("models", "activate", NAME)
    tables = f'[camera.top]\nsource = "{tmp_path / "seen"}"\n[evidence]\nmin_free_bytes = 0\n'
    model = f'store = "{NAME}"\nbackend = "onnxruntime-cpu"\nthreads = 1'
    with RunningStation(tmp_path, tables, model=model) as station:
        station.wait(lambda: station.camera("top"), what="the camera")
        hashes = [one["hash"] for one in station.get("/api/models")[1]["models"]]
        assert len(hashes) == 2
        ours = Operator(tmp_path, station, hashes, seed=kills)
        ours.told.models = {ours.now()}
        made = station.post("/api/teach", {"camera": "top", "name": NAME, "region": None})
        assert made[0] == 201, made
        for _ in range(20):
            ours.show()
        for moment in range(kills):
            station.post(f"/api/teach/{NAME}/collecting", {"on": True})
            ours.judges()
            ours.look()
            if moment % 5 == 2:
                kill_the_training(ours)
                continue
            killer = threading.Timer(ours.random.uniform(0.0, LONGEST_S), station.kill)
            killer.start()
            ours.work()
            killer.join()
            station.start()
            ours.check()
        assert len(ours.told.pictures) > 10
        assert ours.told.labels


def kill_the_training(ours: Operator) -> None:
    """Kills a training at any moment: only it ends, and the station says why."""
    station = ours.station
    station.wait(lambda: len(station.get(f"/api/teach/{NAME}")[1]["pictures"]) >= 12, what="twelve")
    begun = station.post(f"/api/teach/{NAME}/training", {})
    assert begun[0] == 202, begun
    station.wait(lambda: jobs(station), what="the training")
    time.sleep(ours.random.uniform(0.0, LONGEST_S))
    for pid in jobs(station):
        os.kill(pid, signal.SIGKILL)
    station.wait(
        lambda: training_of(station.get(f"/api/teach/{NAME}")[1]) == "failed", what="its end"
    )
    ours.judges()
