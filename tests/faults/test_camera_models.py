"""Four cameras, three models, two regions: each camera is judged by its own model, always."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from differnet_runtime.inspection.preprocess import golden_frames
from differnet_runtime.model_file.contract import InputContract, Region
from differnet_runtime.model_file.file import write_model_file
from differnet_runtime.model_file.metadata import ModelMetadata, Verification
from differnet_runtime.models.store import ModelStore
from tests.fakes.running import DIFFERNET, RunningStation
from tests.fakes.usage import descendants

WIDTH, HEIGHT, SIDE = 160, 120, 64
LEFT, RIGHT = 70.0, 150.0
"""Mean brightness of the halves of each frame."""
REGIONS = {
    "whole": None,
    "left": Region(x=0, y=0, width=WIDTH // 2, height=HEIGHT),
    "right": Region(x=WIDTH // 2, y=0, width=WIDTH // 2, height=HEIGHT),
}
SCORES = {"whole": (LEFT + RIGHT) / 2, "left": LEFT, "right": RIGHT}
MODEL_OF = {"top": "whole", "side": "whole", "front": "left", "back": "right"}
OTHERS = [camera for camera, model in MODEL_OF.items() if model != "left"]


def nothing(_: Path) -> None:
    """These models are checked by the station."""


def weighty_graph(mebibytes: int) -> onnx.ModelProto:
    """Makes a graph that scores the mean brightness, and has weights of about that size."""
    columns = max(1, mebibytes * 2**20 // (4 * SIDE * SIDE * 3))
    weights = np.full((SIDE * SIDE * 3, columns), 1e-12, np.float32)
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Flatten", ["pixels"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "weights"], ["weighed"]),
        helper.make_node("ReduceMean", ["weighed"], ["little"], axes=[1], keepdims=0),
        helper.make_node("Add", ["mean", "little"], ["score"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", SIDE, SIDE, 3])
    score = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N"])
    constants = [numpy_helper.from_array(weights, "weights")]
    graph = helper.make_graph(nodes, "weighty", [image], [score], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def write_model(path: Path, metadata: ModelMetadata, name: str, mebibytes: int, seed: int) -> Path:
    contract = InputContract(height=SIDE, width=SIDE, region=REGIONS[name])
    golden = tuple(float(frame.mean()) for frame in golden_frames(contract))
    verification = Verification(frames=3, greatest_relative_difference=0.0, golden_scores=golden)
    written = metadata.replaced(
        name=name,
        input=contract,
        verification=verification,
        provenance=metadata.provenance.model_copy(update={"seed": seed}),
    )
    write_model_file(path, weighty_graph(mebibytes).SerializeToString(), written)
    return path


def write_halves(path: Path, seconds: float = 4.0) -> Path:
    """A clip whose left half is dark and whose right half is bright, with noise."""
    random = np.random.RandomState(1)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (WIDTH, HEIGHT))
    for _ in range(int(seconds * 25)):
        frame = random.randint(-30, 31, (HEIGHT, WIDTH, 3)) + LEFT
        frame[:, WIDTH // 2 :] += RIGHT - LEFT
        writer.write(frame.astype(np.uint8))
    writer.release()
    return path


@dataclass
class Line:
    """A station, its store, and the hashes of its models: the first and the second of each name."""

    station: RunningStation
    store: ModelStore
    hashes: dict[str, list[str]]
    environment: dict[str, str]

    def check(self) -> str:
        """Returns what `differnet check` says of the memory."""
        ended = subprocess.run(
            [DIFFERNET, "check", str(self.station.config), "--json"],
            capture_output=True, check=False, env={**os.environ, **self.environment},
        )  # fmt: skip
        findings = json.loads(ended.stdout)["findings"]
        assert {finding["state"] for finding in findings} <= {"ok", "look"}, findings
        return next(one["text"] for one in findings if one["subject"] == "station.memory_mb")

    def by_camera(self, since: int = 0) -> dict[str, list[dict[str, object]]]:
        """Returns each camera's verdicts."""
        events = self.station.events("inspection")[since:]
        return {camera: [e for e in events if e["camera"] == camera] for camera in MODEL_OF}

    def wait_for_all(self, verdicts: int) -> None:
        """Waits until every camera has so many verdicts more, each with a score."""
        since = len(self.station.events("inspection"))

        def enough() -> bool:
            found = self.by_camera(since).values()
            return all(sum(e["score"] is not None for e in one) >= verdicts for one in found)

        self.station.wait(enough, what="verdicts of every camera")


@pytest.fixture
def line(tmp_path: Path, metadata: ModelMetadata, request: pytest.FixtureRequest) -> Iterator[Line]:
    weights = getattr(request, "param", {"whole": 1, "left": 1, "right": 1})
    store = ModelStore(tmp_path / "models", nothing)
    hashes: dict[str, list[str]] = {name: [] for name in REGIONS}
    for name, mebibytes in weights.items():
        for seed in (1, 2):
            path = write_model(tmp_path / "part.onnx", metadata, name, mebibytes, seed)
            hashes[name].append(store.add(path).hash)
        store.activate(hashes[name][0])
    clip = write_halves(tmp_path / "halves.avi")
    tables = "".join(
        f'[camera.{camera}]\nsource = "{clip}"\npaced = true\n'
        + ("" if model == "whole" else f'[camera.{camera}.model]\nstore = "{model}"\n')
        for camera, model in MODEL_OF.items()
    )
    environment = {"DIFFERNET_MODELS": str(store.root)}
    model = 'store = "whole"\nbackend = "onnxruntime-cpu"\nthreads = 1\nthreshold = 500'
    with RunningStation(tmp_path, tables, model=model, environment=environment) as station:
        line = Line(station, store, hashes, environment)
        line.wait_for_all(3)
        yield line


def require_own_models(line: Line) -> int:
    """Looks at every verdict: which model gave it, and whether the score is of that model's region.

    Returns:
        How many verdicts there were.
    """
    judged = 0
    for camera, events in line.by_camera().items():
        name = MODEL_OF[camera]
        for event in events:
            if event["model"] is None:
                continue
            assert event["model"]["name"] == name, event  # type: ignore[index]
            assert event["model"]["hash"] in line.hashes[name], event  # type: ignore[index]
            assert event["score"] == pytest.approx(SCORES[name], abs=8), event
            judged += 1
    return judged


def test_each_camera_has_its_own_model_whatever_becomes_of_the_others(line: Line) -> None:
    one_changes_alone(line)
    too_much_memory_is_refused(line)
    assert require_own_models(line) > 30
    a_reload_gives_a_camera_another_model(line)
    one_engine_that_fails_stops_only_its_own_cameras(line)


def one_changes_alone(line: Line) -> None:
    station = line.station
    assert "engines whole" in line.check()
    first, second = line.hashes["left"]
    assert station.says("engine") is False
    health = station.get("/readyz")[1]
    assert {c: ref["name"] for c, ref in health["models"].items()} == MODEL_OF
    since = len(station.events("inspection"))
    assert station.post("/api/models/activate", {"hash": second})[0] == 200
    others = {camera: line.by_camera(since)[camera] for camera in OTHERS}
    assert all(others.values()), "they judged on while another model was tested"
    line.wait_for_all(3)
    for camera in OTHERS:
        events = line.by_camera(since)[camera]
        assert {event["code"] for event in events} == {None}, camera
        hashes = {event["model"]["hash"] for event in events}  # type: ignore[index]
        assert hashes == {line.hashes[MODEL_OF[camera]][0]}
    assert line.by_camera()["front"][-1]["model"]["hash"] == second  # type: ignore[index]
    assert station.post("/api/models/rollback", {})[0] == 409, "which one was not said"
    assert station.post("/api/models/rollback", {"name": "left"})[0] == 200
    assert station.get("/readyz")[1]["models"]["front"]["hash"] == first
    audited = station.events("audit")[-1]
    assert audited["old"].startswith("left ")
    assert audited["new"].startswith("left ")
    told = {event["component"] for event in station.events("state")}
    assert {"engine", "engine:left", "engine:right", "model:left"} <= told
    by_name = {model["hash"]: model["cameras"] for model in station.get("/api/models")[1]["models"]}
    assert by_name[line.hashes["whole"][0]] == ["top", "side"]
    text = station.get("/metrics")[1]
    assert f'differnet_camera_model_info{{camera="back",hash="{line.hashes["right"][0]}"' in text
    assert 'differnet_engine_up{engine="left"} 1.0' in text


def one_engine_that_fails_stops_only_its_own_cameras(line: Line) -> None:
    station = line.station
    bad = line.store.root / "left" / "files" / f"{line.hashes['left'][0]}.onnx"
    line.store.root.joinpath("left", "active").unlink()
    bad.write_bytes(b"")  # it is read again when its process is started again
    pids = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children(station)}
    engines = [pid for pid, command in pids.items() if line.hashes["left"][0].encode() in command]
    assert len(engines) == 1
    subprocess.run(["kill", "-9", str(engines[0])], check=True)
    station.wait(lambda: station.says("engine:left: "), what="the reason")
    since = len(station.events("inspection"))
    station.wait(lambda: len(line.by_camera(since)["front"]) > 3, what="its camera's verdicts")
    found = line.by_camera(since)
    assert all(event["verdict"] == "NO_DECISION" for event in found["front"])
    assert all(event["score"] is not None for one in ("top", "side") for event in found[one])


def a_reload_gives_a_camera_another_model(line: Line) -> None:
    station = line.station
    text = station.config.read_text()
    changed = text.replace('store = "right"', 'store = "left"\nthreshold = 1')
    station.config.write_text(changed)
    station.signal(signal.SIGHUP)
    station.wait(
        lambda: station.get("/readyz")[1]["models"]["back"]["name"] == "left", what="the change"
    )
    since = len(station.events("inspection"))
    station.wait(
        lambda: any(e["threshold"] == 1.0 for e in line.by_camera(since)["back"]), what="a score"
    )
    events = [event for event in line.by_camera(since)["back"] if event["score"] is not None]
    judged = {(event["model"]["name"], event["threshold"]) for event in events}  # type: ignore[index]
    assert ("left", 1.0) in judged
    assert judged <= {("left", 1.0), ("right", 118.0)}, "to the last by the old one's threshold"
    assert events[-1]["verdict"] == "DEFECT"
    front = [event for event in line.by_camera()["front"] if event["score"] is not None]
    assert front[-1]["threshold"] == 118.0, "the model's own"
    assert line.by_camera()["top"][-1]["threshold"] == 500.0
    views = station.get("/api/overview")[1]["engines"]
    assert [(view["name"], view["cameras"]) for view in views] == [
        ("whole", ["top", "side"]),
        ("left", ["front", "back"]),
    ]
    station.wait(lambda: len(engine_pids(station)) == 2, what="the end of the engine not needed")


def too_much_memory_is_refused(line: Line) -> None:
    station, text = line.station, line.station.config.read_text()
    needed = int(line.check().split("about ")[1].split(" MiB")[0])
    station.config.write_text(text.replace("[station]\n", "[station]\nmemory_mb = 200\n"))
    station.signal(signal.SIGHUP)
    station.wait(lambda: station.says("station.memory_mb: the models need"), what="the reason")
    line.wait_for_all(2)
    limit = f"[station]\nmemory_mb = {needed + 10}\n"
    station.config.write_text(text.replace("[station]\n", limit))
    station.signal(signal.SIGHUP)
    station.wait(lambda: not station.says("station.memory_mb"), what="the reload")
    status, answer = station.post("/api/models/activate", {"hash": line.hashes["left"][1]})
    assert status == 409, answer
    assert "another during the change" in answer["error"]
    line.wait_for_all(2)
    station.config.write_text(text)
    station.signal(signal.SIGHUP)


def children(station: RunningStation) -> list[int]:
    return descendants(station.process.pid)


def engine_pids(station: RunningStation) -> list[int]:
    found = []
    for pid in children(station):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"inference.child" in command:
            found.append(pid)
    return found


def proportional_mib(station: RunningStation) -> float:
    """Returns the station's memory: pages that its processes share count once."""
    total = 0
    for pid in [station.process.pid, *children(station)]:
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += next(int(row.split()[1]) for row in rollup.splitlines() if row.startswith("Pss:"))
    return total / 1024


@pytest.mark.slow
@pytest.mark.parametrize("line", [{"whole": 32, "left": 16, "right": 4}], indirect=True)
def test_ten_minutes_with_a_switch_every_ten_seconds(line: Line) -> None:
    from benchmarks.machine import write

    station, seconds = line.station, float(os.environ.get("DIFFERNET_SOAK_S", "600"))
    since = len(station.events("inspection"))
    budget = int(line.check().split("about ")[1].split(" MiB")[0])
    memory: list[float] = []
    switched: list[tuple[float, float]] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        memory.append(proportional_mib(station))
        begun = time.time()
        body = {"hash": line.hashes["left"][1 - len(switched) % 2]}
        assert station.post("/api/models/activate", body)[0] == 200
        switched.append((begun, time.time()))
        time.sleep(10.0)
    judged = require_own_models(line)
    others = {camera: line.by_camera(since)[camera] for camera in OTHERS}
    during, outside = gaps(others, switched)
    measured = float(np.median(memory))
    found = {
        "seconds": seconds, "verdicts": judged, "by_another_model": 0, "switches": len(switched),
        "of_the_others": {
            "longest_gap_during_switches_s": during, "longest_gap_otherwise_s": outside,
            "undecided": sum(event["verdict"] == "NO_DECISION"
                             for events in others.values() for event in events),
        },
        "memory_mib": {"budget": budget, "median": measured, "greatest": max(memory)},
    }  # fmt: skip
    write("camera_models", {"camera_models": found})
    assert found["of_the_others"]["undecided"] == 0, found  # type: ignore[index]
    assert during < max(2.0, 3 * outside), found
    assert abs(measured / budget - 1) < 0.15, found


def gaps(
    verdicts: dict[str, list[dict[str, object]]], switched: list[tuple[float, float]]
) -> tuple[float, float]:
    """Returns the longest time between two verdicts of a camera, during switches and otherwise."""
    during = outside = 0.0
    for events in verdicts.values():
        for before, after in pairwise(float(str(event["at_s"])) for event in events):
            if any(before < end and begun < after for begun, end in switched):
                during = max(during, after - before)
            else:
                outside = max(outside, after - before)
    return during, outside
