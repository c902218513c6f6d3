"""What it gains that frames of several cameras go through one engine together.

    python -m benchmarks.batching                (about 3 minutes)
    python -m benchmarks.batching --runs 1 --seconds 3 --no-write

Four cameras of a whole station share a model: videos of 320 x 240 pixels that play faster than the
engine judges. The fake engine takes t(N) = 10 + 2 N ms for N frames. At most one and at most four
frames go together, by turns. The latency is from the moment at which a camera has a frame and asks
for the engine until its verdict, the wait for the other cameras included. The age is that of the
frame itself, which is taken only when its turn comes.

Then the time of ONNX Runtime on this CPU for batches of the default model, and what GPUs that are
not here need at least, computed from data sheets.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray

from differnet_runtime.backends.selection import open_backend
from differnet_runtime.config import Config
from differnet_runtime.model_file.file import read_model_file
from differnet_runtime.station.judging import FrameJudge, JudgedFrame
from differnet_runtime.station.station import Station

from . import machine
from .default_model import default_model
from .limits import computed_ms

CAMERAS, SIZE, FPS, PICTURES = 4, (320, 240), 100, 100
BACKEND, FIXED_MS, FRAME_MS = "fake:10ms+2ms", 10.0, 2.0
TOGETHER = (1, 4)
ORT_BATCHES = (1, 2, 3, 4)


def station_of(folder: Path, video: Path, together: int) -> Station:
    """Returns a station whose cameras all see the video, at most so many frames together."""
    names = [f"camera{number}" for number in range(CAMERAS)]
    camera = {"source": str(video), "kind": "video", "paced": True}
    config = Config.model_validate(
        {
            "station": {"state": folder / "state"},
            "model": {"backend": BACKEND, "max_batch": together, "threshold": 1e9},
            "camera": dict.fromkeys(names, camera),
            "evidence": {"keep": "none"},
            "web": {"enabled": False},
        }
    )
    return Station(config, folder / "models")


class _Timed:
    """Takes the time of every verdict of a camera."""

    def __init__(self, judge: FrameJudge) -> None:
        self._judge: Callable[..., JudgedFrame | None] = judge.judge
        self.verdicts: list[tuple[float, float, float]] = []

    def __call__(self, *arguments: Any) -> JudgedFrame | None:  # noqa: ANN401
        begun = time.perf_counter()
        judged = self._judge(*arguments)
        if judged is not None and judged.frame is not None:
            end = time.perf_counter()
            frame = judged.event.frame
            assert frame is not None, "its picture was judged"
            self.verdicts.append((end, (end - begun) * 1e3, frame.age_ms))
        return judged


def run(video: Path, together: int, seconds: float) -> dict[str, Any]:
    """Runs a station; returns verdicts a second, latency, age and the sizes of the batches."""
    with tempfile.TemporaryDirectory() as name:
        station = station_of(Path(name), video, together)
        station.start()
        try:
            engine = station.models.first.switch.engine
            if not engine.wait_ready(60.0):
                raise RuntimeError("the engine did not start")
            timed = []
            for loop in station.cameras.values():
                timed.append(_Timed(loop._judge))
                loop._judge.judge = timed[-1]  # type: ignore[method-assign]
            time.sleep(2.0)  # the first frames of all cameras are through
            begun, before = time.perf_counter(), engine.status.batches
            time.sleep(seconds)
            end, after = time.perf_counter(), engine.status.batches
        finally:
            station.stop()
    rows = np.array([one for camera in timed for one in camera.verdicts if begun <= one[0] < end])
    return {
        "verdicts_per_s": len(rows) / (end - begun),
        "latency_ms": _quantiles(rows[:, 1]),
        "age_ms": _quantiles(rows[:, 2]),
        "batches": {str(size): n - before.get(size, 0) for size, n in sorted(after.items())},
    }


def _quantiles(values: NDArray[np.float64]) -> dict[str, float]:
    p50, p99 = np.percentile(values, (50, 99), method="higher")
    return {"p50": float(p50), "p99": float(p99), "max": float(values.max())}


def summary(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Compares the two, pair by pair of runs."""
    alone, four = (runs[str(together)] for together in TOGETHER)
    gains = [b["verdicts_per_s"] / a["verdicts_per_s"] for a, b in zip(alone, four, strict=True)]

    def p99(of: list[dict[str, Any]], what: str) -> float:
        return float(np.median([one[what]["p99"] for one in of]))

    most = TOGETHER[1]
    return {
        "gain": {"median": float(np.median(gains)), "least": min(gains), "greatest": max(gains)},
        "limit": most * (FIXED_MS + FRAME_MS) / (FIXED_MS + most * FRAME_MS),
        "latency_p99_ms": {"1": p99(alone, "latency_ms"), "4": p99(four, "latency_ms")},
        "age_p99_ms": {"1": p99(alone, "age_ms"), "4": p99(four, "age_ms")},
    }


def onnxruntime_ms(threads: int, seconds: float) -> dict[str, float]:
    """Returns milliseconds a frame of batches on the CPU: the median of the runs of each."""
    data, metadata = read_model_file(default_model())
    random = np.random.RandomState(0)
    found = {}
    with open_backend("onnxruntime-cpu", data, threads=threads) as backend:
        for count in ORT_BATCHES:
            batch = random.randint(0, 256, (count, *metadata.input.shape), np.uint8)
            times = []
            until = time.perf_counter() + seconds
            while time.perf_counter() < until or len(times) < 5:
                begun = time.perf_counter()
                backend.infer(batch)
                times.append((time.perf_counter() - begun) * 1e3)
            found[str(count)] = float(np.median(times)) / count
    return found


def computed_ms_per_frame() -> dict[str, dict[str, float]]:
    """Returns the floor of each device for one and for four frames, a frame: see `limits`."""
    model = onnx.load(default_model())
    size = read_model_file(default_model())[1].input.height
    floors = {str(batch): computed_ms(model, size, batch) for batch in TOGETHER}
    return {
        device: {batch: found[device]["floor_ms"] / int(batch) for batch, found in floors.items()}
        for device in floors["1"]
    }


def write_video(path: Path) -> Path:
    """Writes a noisy grey video; the noise keeps it from being taken for frozen."""
    random = np.random.RandomState(0)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), FPS, SIZE)
    for _ in range(PICTURES):
        writer.write(random.randint(90, 130, (SIZE[1], SIZE[0], 3), np.uint8))
    writer.release()
    return path


def main() -> None:
    """Measures and writes results/batching.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--no-write", action="store_true", help="print only")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    runs: dict[str, list[dict[str, Any]]] = {str(together): [] for together in TOGETHER}
    with tempfile.TemporaryDirectory() as name:
        video = write_video(Path(name) / "noise.avi")
        for _ in range(args.runs):
            for together in TOGETHER:
                runs[str(together)].append(run(video, together, args.seconds))
                print(together, runs[str(together)][-1], flush=True)
    found = {"fake": BACKEND, "cameras": CAMERAS, "source_fps": FPS, "summary": summary(runs)}
    print(found["summary"], flush=True)
    cpu = {str(threads): onnxruntime_ms(threads, args.seconds / 2) for threads in (1, 2)}
    print(cpu, flush=True)
    if not args.no_write:
        found |= {"runs": runs, "onnxruntime_cpu_ms_per_frame_by_threads": cpu}
        found["computed_gpu_ms_per_frame"] = computed_ms_per_frame()
        machine.write("batching", found)


if __name__ == "__main__":
    main()
