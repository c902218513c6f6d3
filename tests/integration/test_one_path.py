"""A picture gets one verdict, whoever asks: `Detector`, `differnet run`, a station, evaluation."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import cv2
import numpy as np

import differnet_export
import differnet_runtime
import differnet_training
from differnet_runtime import Detector
from differnet_training.datasets import DataSet, ImageFile
from differnet_training.evaluation import evaluate
from tests.command_line import differnet
from tests.conftest import Trained
from tests.drawn import draw_part
from tests.fakes.running import READY_S, RunningStation

Verdicts = dict[str, tuple[str, str | None]]
"""Verdict and code of each picture, by its name."""

PICTURES = 500
FAULTS = (
    "whole", "scratched", "black", "white", "dim", "soft", "blurred", "grey", "deep", "clear",
    "small", "wide", "tall", "noise", "plain", "jpeg", "cut", "empty", "text",
)  # fmt: skip


def draw(kind: str, seed: int) -> np.ndarray:
    """Draws a part as a camera with a fault would show it."""
    random = np.random.RandomState(seed)
    part = draw_part(1000 + seed, defect=kind == "scratched")
    if kind in ("black", "white"):
        return np.full_like(part, {"black": 0, "white": 255}[kind])
    if kind == "dim":
        return (part * random.uniform(0.02, 0.3)).astype(np.uint8)
    if kind in ("soft", "blurred"):
        return cv2.GaussianBlur(part, (0, 0), random.uniform(*((0.3, 2), (4, 9))[kind != "soft"]))
    if kind == "grey":
        return part[:, :, 0]
    if kind == "deep":
        return part.astype(np.uint16) * 257
    if kind == "clear":
        return np.dstack([part, np.full(part.shape[:2], 200, np.uint8)])
    if kind == "small":
        return cv2.resize(part, (16, 12))
    if kind in ("wide", "tall"):
        return cv2.resize(part, (96, 64) if kind == "wide" else (64, 65))
    if kind == "noise":
        return random.randint(0, 256, part.shape).astype(np.uint8)
    return np.full_like(part, random.randint(256)) if kind == "plain" else part


def write(folder: Path, kind: str, seed: int) -> None:
    """Writes a picture, or what is left of one."""
    path = folder / f"{seed:03d}_{kind}.{'jpg' if kind == 'jpeg' else 'png'}"
    data = cv2.imencode(path.suffix, draw(kind, seed))[1].tobytes()
    if kind == "cut":
        data = data[: int(len(data) * np.random.RandomState(seed).uniform(0.1, 0.9))]
    path.write_bytes({"empty": b"", "text": b"no picture"}.get(kind, data))


def by_detector(model: Path, folder: Path) -> Verdicts:
    with Detector(model) as detector:
        results = {path.name: detector(path) for path in folder.iterdir()}
    return {name: (result.verdict.value, result.code) for name, result in results.items()}


def by_run(model: Path, folder: Path) -> Verdicts:
    output = folder.parent / "run.jsonl"
    assert differnet("run", "--model", model, "--source", folder, "--output", output) == 0
    records = [json.loads(line) for line in output.read_text().splitlines()]
    return {record["name"]: (record["verdict"], record["code"]) for record in records}


def by_station(model: Path, folder: Path) -> Verdicts:
    line = folder.parent / "line"
    line.mkdir()
    tables = f'[camera.top]\nsource = "{line}"\ndeadline_ms = 60000\n'
    settings = f'path = "{model}"\nbackend = "onnxruntime-cpu"\nthreads = 1\ndeadline_ms = 60000'
    paths = sorted(folder.iterdir())
    with RunningStation(folder.parent, tables, model=settings) as station:
        station.wait(station.ready, within_s=READY_S, what="the start")
        for path in paths:
            (line / path.name).hardlink_to(path)
        station.wait(
            lambda: len(station.events("inspection")) >= len(paths), within_s=120.0, what="verdicts"
        )
        events = station.events("inspection")
    return {
        event["frame"]["name"]: (event["verdict"], event["code"])
        for event in events
        if event["frame"] is not None
    }


def by_evaluation(trained: Trained, folder: Path) -> Verdicts:
    """Judges them with torch's scores; pictures that can't be read are no part of a data set."""
    data = DataSet("faults", (), tuple(map(ImageFile, sorted(folder.iterdir()))))
    report = evaluate(trained.folder, data, cache=None, skip_unreadable=True)
    return {Path(one.path).name: (one.verdict, one.code) for one in report.results}


def test_all_ways_agree(trained: Trained, exported: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(PICTURES):
        write(folder, FAULTS[seed % len(FAULTS)], seed)
    expected = by_detector(exported, folder)
    assert len(expected) == PICTURES
    codes = Counter(code for _, code in expected.values())
    assert {"black", "blown_out", "blurred", "wrong_size", "unreadable", None} <= codes.keys()
    assert {"GOOD", "DEFECT"} <= {verdict for verdict, _ in expected.values()}
    assert by_run(exported, folder) == expected
    assert by_station(exported, folder) == expected
    readable = {name: one for name, one in expected.items() if one[1] != "unreadable"}
    assert by_evaluation(trained, folder) == readable


def test_no_other_code_goes_the_whole_way() -> None:
    """Whoever prepares frames and decides on them himself leaves out the check between."""
    parts = (r"\bpreprocess\(", r"\bdecide\(")
    packages = (differnet_runtime, differnet_training, differnet_export)
    sources = [path for one in packages for path in Path(one.__path__[0]).rglob("*.py")]
    both = [
        path.name for path in sources if all(re.search(part, path.read_text()) for part in parts)
    ]
    assert both == ["verdict.py"]
