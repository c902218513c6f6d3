"""Measures how fast a model file runs in each way: inference by batch, a frame's way by stage."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..backends.base import Backend
from ..backends.fake import PREFIX
from ..backends.selection import BACKENDS, ON_CPU, TENSORRT, open_backend
from ..cameras import open_camera
from ..config.grammar import redact
from ..config.models import IntegrityConfig
from ..detector import Detector
from ..errors import BackendUnavailableError, CameraError, DifferNetError
from ..inspection.preprocess import golden_frames
from ..inspection.verdict import inspect_frame
from ..model_file.file import read_model_file
from ..model_file.metadata import ModelMetadata
from ..records import Frame, Inspection
from .report import STAGES, Row, Samples, peak_memory_mib, temperatures

WITHOUT_GRAPH = "tensorrt-without-cuda-graph"
WITHOUT_ZERO_COPY = "tensorrt-without-zero-copy"
CONTENDERS = (*reversed(BACKENDS[1:]), WITHOUT_GRAPH, WITHOUT_ZERO_COPY)
"""The ways to run a model; those that do not run here are listed with their reason."""
ON_DEVICE = {
    "auto": CONTENDERS,
    "gpu": tuple(name for name in CONTENDERS if name not in ON_CPU),
    "cpu": tuple(name for name in CONTENDERS if name in ON_CPU),
}
"""The contenders of each `--device`."""

T = TypeVar("T")


@dataclass(frozen=True)
class Effort:
    """The amount of measurements.

    Args:
        warm_up: Runs before each round that are not counted.
        runs: Counted runs of a round.
        rounds: Number of rounds, whose medians show how steady the machine is.
        batches: Batches of inference alone; batch 1 is always measured.
    """

    warm_up: int = 20
    runs: int = 100
    rounds: int = 3
    batches: tuple[int, ...] = (1,)


@dataclass(frozen=True)
class FrameSource:
    """The frames of a benchmark: those of a source, again and again, or drawn ones.

    Args:
        source: Any source of `differnet run`; None draws frames.
        width: Width of drawn frames in pixels.
        height: Height of drawn frames in pixels.
    """

    source: str | None = None
    width: int = 1280
    height: int = 720

    def frames(self) -> Iterator[Frame]:
        """Yields frames for ever; a source that ends is opened again.

        Raises:
            CameraError: The source can't be opened, is lost, or has no frame.
            ImageReadError: A picture can't be read.
        """
        if self.source is None:
            yield from _drawn(self.width, self.height)
        while True:
            given = 0
            with open_camera(self.source or "") as camera:
                while (frame := camera.read()) is not None:
                    given += 1
                    yield frame
            if not given:
                raise CameraError(f"{redact(self.source or '')} gives no frame")

    def check(self) -> None:
        """Opens the source once, before anything is measured.

        Raises:
            CameraError: It can't be opened.
        """
        if self.source is not None:
            open_camera(self.source).close()

    def describe(self) -> str:
        """Says what the figures of `capture` include."""
        if self.source is None:
            return f"drawn frames, {self.width} x {self.height}; capture is a copy in memory"
        return f"{redact(self.source)}; capture reads and decodes"


def _drawn(width: int, height: int) -> Iterator[Frame]:
    picture = draw(width, height)
    for index in count():
        # A camera's driver fills memory that was not just read, and so does a copy.
        yield Frame(picture.copy(), f"drawn {index}", index, time.monotonic_ns(), time.time())


def draw(width: int, height: int) -> NDArray[np.uint8]:
    """Draws a frame `(height, width, 3) uint8` by a fixed formula: a disc on grain."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    radius = np.hypot(x - width / 2, y - height / 2) / height
    disc = 140.0 - 80.0 * np.clip((radius - 0.35) * 20.0, 0.0, 1.0)
    grain = np.random.RandomState(0).randint(-20, 21, (height, width, 3))
    frame: NDArray[np.uint8] = np.clip(disc[:, :, None] + grain, 0, 255).astype(np.uint8)
    return frame


@dataclass(frozen=True)
class BenchmarkTrial:
    """A model file to be measured, and how.

    Args:
        path: Path of the model file.
        contender: One of `CONTENDERS`, or a fake backend's name.
        source: Source of the frames.
        effort: Number of runs and batches.
        threads: CPU threads; 0 lets the backend choose.

    Example:
        >>> trial = BenchmarkTrial(path, "tensorrt", FrameSource(), Effort())  # doctest: +SKIP
        >>> measure(trial).total.summary()["p50_ms"]  # doctest: +SKIP
    """

    path: Path
    contender: str
    source: FrameSource
    effort: Effort
    threads: int = 0


def measure(trial: BenchmarkTrial) -> Row:
    """Measures inference at batch 1, a frame's way, and inference at the other batches.

    Each part runs in a process of its own, so that a crash or a lack of memory ends only that part.

    Returns:
        The figures, or the reason if inference at batch 1 fails. If another part fails, its reason
        stands beside the figures of the rest.

    Raises:
        ModelFileError: The file can't be used.
    """
    _, metadata = read_model_file(trial.path)
    row = Row(trial.path.name, metadata.precision, trial.contender)
    before = temperatures()
    first = _apart(infer_here, trial, 1)
    if isinstance(first, str):
        return replace(row, reason=first)
    row.batches[1], about = first
    row.about.update(about)
    way = _apart(go_here, trial)
    if isinstance(way, str):
        row.failed["a frame's way"] = way
    else:
        stages, total, peak = way
        row = replace(row, stages=stages, total=total)
        row.about["peak_host_memory_mib"] = max(peak, about["peak_host_memory_mib"])
    for batch in sorted({*trial.effort.batches} - {1}):
        found = _apart(infer_here, trial, batch)
        if isinstance(found, str):
            row.failed[f"batch {batch}"] = found
        else:
            row.batches[batch] = found[0]
    row.about.update(temperatures_before=before, temperatures_after=temperatures())
    return row


def _apart(work: Callable[..., T], *arguments: object) -> T | str:
    """Calls `work` in a new process; returns its result, or the reason why it failed."""
    spawn = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(max_workers=1, mp_context=spawn) as pool:
            return pool.submit(work, *arguments).result()
    except BrokenProcessPool:
        return (
            "its process died. Look at the lines above; where there are none, the kernel may have "
            "ended it for its memory: try a smaller --batch, --runs or --frame"
        )
    except MemoryError as error:
        return f"too little memory ({error}): try a smaller --batch, --runs or --frame"
    except DifferNetError as error:
        return str(error)


def infer_here(trial: BenchmarkTrial, batch: int) -> tuple[Samples, dict[str, Any]]:
    """Times inference of full batches in this process.

    The frames lie in the backend's own memory, and are the golden ones: all zeros would do the same
    work, but may be faster.

    Returns:
        The times, and facts (see `Row.about`).

    Raises:
        DifferNetError: The file or the backend can't be used.
        MemoryError: There is too little for the batch or the runs.
    """
    model, metadata = read_model_file(trial.path)
    with _opened(trial, model, metadata, batch) as backend:
        frames = backend.buffer((batch, *metadata.input.shape))
        frames[...] = golden_frames(metadata.input, batch)

        def run() -> list[float]:
            lap = _Lap()
            backend.infer(frames)
            return [lap.ms()]

        samples = Samples(_rounds(run, trial.effort, 1)[:, :, 0])
        return samples, {
            "backend": backend.name,
            "cuda_graph": _graph(backend),
            "file_mb": len(model) / 1e6,
            "peak_host_memory_mib": peak_memory_mib(),
        }


def go_here(trial: BenchmarkTrial) -> tuple[dict[str, Samples], Samples, float]:
    """Times a frame's way in this process, one frame after another, as in `differnet run`.

    The inspection is published as a line of JSON to a sink that drops it.

    Returns:
        The stages; the total without capture and without the copy, which `differnet run` avoids;
        and the peak of the host's memory in MiB.

    Raises:
        DifferNetError: The file, the backend, the source or one of its frames can't be used.
        MemoryError: There is too little for the frame or the runs.
    """
    model, metadata = read_model_file(trial.path)
    with (
        _opened(trial, model, metadata, 1) as backend,
        open(os.devnull, "w", encoding="utf-8") as sink,  # noqa: PTH123 - it has no path to join
    ):
        # Drawn frames have a size that the model need not know.
        detector = Detector.over(backend, metadata, integrity=IntegrityConfig(size="any"))
        way = _way(detector, trial.source, sink.write)
        times = _rounds(lambda: next(way), trial.effort, len(STAGES))
    stages = {name: Samples(times[:, :, k]) for k, name in enumerate(STAGES)}
    counted = [k for k, name in enumerate(STAGES) if name not in ("capture", "copy")]
    return stages, Samples(times[:, :, counted].sum(axis=2)), peak_memory_mib()


def _way(
    detector: Detector, source: FrameSource, publish: Callable[[str], object]
) -> Iterator[list[float]]:
    """Inspects frame after frame, even those that the gate refuses; yields the `STAGES` in ms."""
    gate, frames = detector.gate(), source.frames()
    elsewhere = np.empty(detector.metadata.input.shape, np.uint8)
    while True:
        lap = _Lap()
        frame = next(frames)
        capture_ms = lap.ms()
        found = inspect_frame(frame, detector, gate, score_refused=True)
        if found.error is not None:
            raise found.error
        assert found.answer is not None
        lap.ms()
        np.copyto(elsewhere, detector.buffer())
        copy_ms = lap.ms()
        inspection = Inspection(
            frame.name, frame.index, frame.captured_at_s, found.decision, found.answer.score
        )
        publish(json.dumps(inspection.record(), allow_nan=False) + "\n")
        publish_ms = lap.ms()
        known = [found.stages_ms[name] for name in ("preprocess", "integrity", "infer")]
        preprocess_ms, integrity_ms, infer_ms = known
        decide_ms = found.total_ms - sum(known)
        yield [
            capture_ms, preprocess_ms, integrity_ms, copy_ms, infer_ms, decide_ms, publish_ms
        ]  # fmt: skip


def _rounds(run: Callable[[], list[float]], effort: Effort, parts: int) -> NDArray[np.float64]:
    """Collects the times that `run` returns, one for each part, as `(rounds, runs, parts)`."""
    times = np.empty((effort.rounds, effort.runs, parts))
    for row in times:
        for position in range(-effort.warm_up, effort.runs):
            taken = run()
            if position >= 0:
                row[position] = taken
    return times


@dataclass
class _Lap:
    """A stopwatch for the parts of one frame's way."""

    last: int = field(default_factory=time.perf_counter_ns)

    def ms(self) -> float:
        """Returns the milliseconds since the last call."""
        now = time.perf_counter_ns()
        passed, self.last = now - self.last, now
        return passed / 1e6


def _graph(backend: Backend) -> str | None:
    """Returns whether a CUDA graph ran; None for a backend that has none."""
    if not hasattr(backend, "graph_reason"):
        return None
    return f"not used: {backend.graph_reason}" if backend.graph_reason else "used"


def known(name: str) -> bool:
    """Whether a name is a contender, or a fake backend's (for tests)."""
    return name in CONTENDERS or name.split(":")[0] == PREFIX


def _opened(trial: BenchmarkTrial, model: bytes, metadata: ModelMetadata, batch: int) -> Backend:
    """Opens the contender for one batch, since an engine always computes its greatest batch.

    Raises:
        BackendError: It can't be run here; says why.
        OutputError: An engine can't be kept.
    """
    name = trial.contender
    if name not in (TENSORRT, WITHOUT_GRAPH, WITHOUT_ZERO_COPY):
        return open_backend(name, model, path=trial.path, threads=trial.threads)
    from ..backends.cuda import open_device
    from ..backends.tensorrt.api import load

    device = open_device()  # first, since it takes milliseconds to find that there is none
    load()
    from ..backends.tensorrt.build import ensure_engine
    from ..backends.tensorrt.runner import TensorRTBackend

    if name == WITHOUT_ZERO_COPY and not device.integrated:
        raise BackendUnavailableError(
            f"{device.name} has memory of its own, so {TENSORRT} makes copies there as well"
        )
    engine = ensure_engine(trial.path, model, metadata, batch=batch)
    return TensorRTBackend(
        engine.plan,
        batch=batch,
        cuda_graph=name != WITHOUT_GRAPH,
        zero_copy=False if name == WITHOUT_ZERO_COPY else None,
    )
