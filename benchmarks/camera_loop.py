"""A station's loop: what it takes besides inference and decoding, and how many cameras it holds.

    python -m benchmarks.camera_loop             (about 9 minutes; needs the default model)
    python -m benchmarks.camera_loop --seconds 5 --frames 50

First the station's own code on one core, with the engine process and the disk: frames as a camera
gives them are decoded, handed over as a capture process does it, prepared, checked, handed to the
engine, decided, reported and written to the outbox. What the engine process says that inference
took is subtracted; the processor time of all the station's threads stands beside it, since some of
it passes while the engine works. Then whole stations: each camera is a video that plays at its own
speed, 30 frames a second, and is decoded in its capture process; what the station judges of them is
counted in the file that it writes.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from differnet_runtime.cameras.base import FreezeDetector
from differnet_runtime.cameras.opencv import CaptureReader
from differnet_runtime.capture.child import CaptureLink
from differnet_runtime.capture.messages import FrameQueue
from differnet_runtime.capture.pictures import Pictures
from differnet_runtime.capture.process import CaptureMonitor, CaptureStats
from differnet_runtime.config import CameraConfig
from differnet_runtime.records import Frame, Image
from differnet_runtime.station.judging import FrameJudge
from differnet_runtime.station.station import Station

from . import machine
from .station_of_cells import VIDEO_FPS, configured, write_video

SIZES = {"720p": (1280, 720), "1080p": (1920, 1080)}
CAMERAS = (1, 2, 4)
WARM_UP = 20
STAGES = ("handover", "preprocess", "integrity", "engine", "rest of judging", "report")


@contextmanager
def one_core() -> Iterator[None]:
    """Keeps this process, and those it starts meanwhile, on one core."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def overhead(width: int, height: int, frames: int, runs: int) -> dict[str, Any]:
    """Times the station's code for one camera, on one core; returns the run of the median p50."""
    found = sorted(
        (_overhead(width, height, frames) for _ in range(runs)),
        key=lambda one: one["overhead_ms"]["p50"],
    )
    medians = [one["overhead_ms"]["p50"] for one in found]
    spread = {"runs": runs, "p50_of_runs_ms": {"least": medians[0], "greatest": medians[-1]}}
    return {**found[runs // 2], **spread}


def _overhead(width: int, height: int, frames: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name, one_core():
        folder = Path(name)
        config = configured(folder, {"top": {"source": "0"}}, threads=1)
        video = write_video(folder / "cells.avi", (width, height))
        station = Station(config, folder / "models")
        station.results.start()
        station.evidence.start()
        station.models.start()
        try:
            if not station.models.first.switch.engine.wait_ready(60.0):
                raise RuntimeError("the engine did not start")
            rows, cpu_ms, codes = _judged(station, config.camera["top"], video, frames)
        finally:
            station.stop()
    times = np.array(rows)
    return {
        "frames": frames,
        "verdicts": codes,
        "overhead_ms": _quantiles(times.sum(axis=1)),
        "stages_ms": {name: float(np.median(times[:, k])) for k, name in enumerate(STAGES)},
        "cpu_ms_a_frame": cpu_ms,
    }


def _judged(
    station: Station, config: CameraConfig, video: Path, frames: int
) -> tuple[list[list[float]], float, dict[str, int]]:
    gc.freeze()  # torch's objects, which a station has not, would be gone through now and then
    switch = station.models.first.switch
    switch.engine.thresholds = {"top": 1e9}
    judge = FrameJudge("station", "top", config, switch, station.labelling.thresholds, live=True)
    camera = _Camera(config, video)
    rows: list[list[float]] = []
    codes: Counter[str] = Counter()
    begun_s = 0.0
    for index in range(WARM_UP + frames):
        if index == WARM_UP:
            begun_s = time.process_time()
        before_s = time.thread_time()
        image = camera.read()
        start = time.perf_counter() - camera.buffer_s
        begun_s += time.thread_time() - before_s - camera.buffer_cpu_s
        camera.give(Frame(image, f"top#{index}", index, time.monotonic_ns(), time.time()))
        handed = time.perf_counter()
        judged = judge.judge(camera.queue.take)
        between = time.perf_counter()
        assert judged is not None
        event = station.reporter.report(judged)
        end = time.perf_counter()
        if index >= WARM_UP:
            codes[event.code or event.verdict] += 1
            marks = (start, handed, between, end)
            handover_ms, judged_ms, report_ms = np.diff(marks) * 1e3
            rows.append([handover_ms, *_stages(event.stages_ms, judged_ms, report_ms)])
    camera.close()
    return rows, (time.process_time() - begun_s) / frames * 1e3, dict(codes)


class _Camera:
    """A capture process and the station's end of it, both in this process.

    Args:
        config: The camera's configuration.
        video: The video file that it plays again and again.
    """

    def __init__(self, config: CameraConfig, video: Path) -> None:
        self._video = video
        self._open()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.link, self.queue = CaptureLink(theirs, live=True), FrameQueue(live=True)
        self._monitor = CaptureMonitor(config, True, self.queue, CaptureStats("top"), Pictures())
        self._child: Any = SimpleNamespace(channel=ours)
        self._ends = (ours, theirs)
        self._freeze = FreezeDetector()
        self.buffer_s = self.buffer_cpu_s = 0.0
        """Time that it took to find a buffer for the last picture, in seconds."""

    def _open(self) -> None:
        capture = cv2.VideoCapture(str(self._video), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        self._reader = CaptureReader(capture, self._get_buffer, f"{self._video} can't be opened")

    def _get_buffer(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Image | None:
        begun, cpu_begun = time.perf_counter(), time.thread_time()
        buffer = self.link.get_buffer(shape, dtype)
        self.buffer_s = time.perf_counter() - begun
        self.buffer_cpu_s = time.thread_time() - cpu_begun
        return buffer

    def read(self) -> Image:
        """Decodes the next picture."""
        self.buffer_s = self.buffer_cpu_s = 0.0
        image = self._reader.read()
        while image is None:
            self._open()
            image = self._reader.read()
        return image

    def give(self, frame: Frame) -> None:
        """Hands a frame over until it can be taken from the queue."""
        self.link.frame(replace(frame, unchanged_s=self._freeze.seconds(frame)))
        while not self.queue.wait(0):
            self._monitor.listen(self._child)

    def close(self) -> None:
        """Closes both ends of the channel."""
        for end in self._ends:
            end.close()


def _stages(stages_ms: dict[str, float], judged_ms: float, report_ms: float) -> list[float]:
    """Returns milliseconds of `STAGES[1:]`; `engine` is the way to its process and back."""
    preprocess, integrity = stages_ms["preprocess"], stages_ms["integrity"]
    engine = stages_ms.get("engine", 0.0)
    rest = judged_ms - preprocess - integrity - engine
    return [preprocess, integrity, engine - stages_ms.get("infer", 0.0), rest, report_ms]


def held(size: tuple[int, int], cameras: int, seconds: float, threads: int) -> dict[str, Any]:
    """Runs a whole station; returns frames a second of each camera, and how old verdicts were."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        video = write_video(folder / "cells.avi", size)
        table = {"source": str(video), "kind": "video", "paced": True, "deadline_ms": 5000}
        names = [f"camera{k}" for k in range(cameras)]
        config = configured(folder, dict.fromkeys(names, table), threads)
        station = Station(config, folder / "models")
        station.start()
        try:
            engine = station.models.first.switch.engine
            if not engine.wait_ready(60.0):
                raise RuntimeError("the engine did not start")
            time.sleep(3.0)  # the first frames of all cameras are through
            since_s = time.time()
            time.sleep(seconds)
            until_s = time.time()
        finally:
            station.stop()
        events = [json.loads(line) for line in _lines(folder)]
    judged = [
        event
        for event in events
        if event["type"] == "inspection" and since_s <= event["at_s"] < until_s
    ]
    ages = [event["frame"]["age_ms"] for event in judged if event["frame"]]
    rates = [sum(event["camera"] == one for event in judged) / seconds for one in names]
    return {
        "cameras": cameras,
        "threads": threads,
        "seconds": seconds,
        "frames_per_s": sum(rates),
        "of_each_camera": {"least": min(rates), "greatest": max(rates)},
        "age_at_the_verdict_ms": _quantiles(np.array(ages)) if ages else None,
        "undecided": sum(event["verdict"] == "NO_DECISION" for event in judged),
    }


def _lines(folder: Path) -> list[str]:
    return [
        line
        for path in sorted(folder.glob("events.jsonl*"))
        for line in path.read_text().splitlines()
    ]


def _quantiles(values: NDArray[np.float64]) -> dict[str, float]:
    p50, p95, p99 = np.percentile(values, (50, 95, 99), method="higher")
    return {"p50": float(p50), "p95": float(p95), "p99": float(p99), "max": float(values.max())}


def main() -> None:
    """Measures and writes results/camera_loop.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--runs", type=int, default=5, help="of the frames, on one core")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument(
        "--threads", type=int, nargs="+", default=[1, 2], help="of the engine, in whole stations"
    )
    parser.add_argument("--no-write", action="store_true", help="print only")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    found: dict[str, Any] = {"overhead": {}, "held": {}}
    for name, size in SIZES.items():
        found["overhead"][name] = overhead(*size, args.frames, args.runs)
        print(name, found["overhead"][name], flush=True)
    for name, size in SIZES.items():
        found["held"][name] = [
            held(size, cameras, args.seconds, threads)
            for cameras in CAMERAS
            for threads in args.threads
        ]
        print(name, found["held"][name], flush=True)
    if not args.no_write:
        machine.write("camera_loop", {"video_fps": VIDEO_FPS, **found})


if __name__ == "__main__":
    main()
