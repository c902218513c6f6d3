"""Each part of a measurement in a process of its own: a crash or a lack of memory ends only it.

The ways in which a model file can be run, and what it takes to open each.

Where a benchmark's frames come from: a source, again and again, or one drawn frame.

Timing one contender: inference by batch, then a frame's way stage by stage.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..backends.base import Backend
from ..backends.fake import PREFIX
from ..backends.selection import ORT_CPU, ORT_CUDA, ORT_TENSORRT, TENSORRT, open_backend
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
from .machine import peak_memory_mib, temperatures
from .report import STAGES, Row, Samples

WITHOUT_GRAPH = "tensorrt-without-cuda-graph"
WITHOUT_ZERO_COPY = "tensorrt-without-zero-copy"
CONTENDERS = (ORT_CPU, ORT_CUDA, ORT_TENSORRT, TENSORRT, WITHOUT_GRAPH, WITHOUT_ZERO_COPY)
"""What is measured where nothing is asked for; what does not run here is listed with its reason."""
ON_DEVICE = {"auto": CONTENDERS, "gpu": CONTENDERS[1:], "cpu": (ORT_CPU,)}
"""What `--device` measures."""


def known(name: str) -> bool:
    """Whether it is a contender, or a fake backend (for tests)."""
    return name in CONTENDERS or name.split(":")[0] == PREFIX


def open_contender(
    name: str, path: Path, model: bytes, metadata: ModelMetadata, *, batch: int, threads: int
) -> Backend:
    """Opens a contender.

    Args:
        name: One of `CONTENDERS`, or a fake backend's name.
        path: The model file.
        model: Its bytes.
        metadata: Its metadata.
        batch: Frames at once; TensorRT's engine is built for it.
        threads: CPU threads; 0 lets the backend choose.

    Raises:
        BackendError: It can't be run here; says why.
        OutputError: An engine can't be kept.
    """
    if name not in (TENSORRT, WITHOUT_GRAPH, WITHOUT_ZERO_COPY):
        return open_backend(name, model, path=path, threads=threads)
    from ..backends.cuda import open_device
    from ..backends.tensorrt.api import load

    device = open_device()  # first, for it takes milliseconds to say that there is none
    load()
    from ..backends.tensorrt.build import ensure_engine
    from ..backends.tensorrt.runner import TensorRTBackend

    if name == WITHOUT_ZERO_COPY and not device.integrated:
        raise BackendUnavailableError(
            f"{device.name} has memory of its own, so {TENSORRT} makes copies there as well"
        )
    engine = ensure_engine(path, model, metadata, batch=batch)
    return TensorRTBackend(
        engine.plan,
        batch=batch,
        cuda_graph=name != WITHOUT_GRAPH,
        zero_copy=False if name == WITHOUT_ZERO_COPY else None,
    )


@dataclass(frozen=True)
class FrameSource:
    """What is inspected.

    Args:
        source: As `differnet run` takes it; None draws frames.
        width: Of drawn frames.
        height: Of drawn frames.
    """

    source: str | None = None
    width: int = 1280
    height: int = 720

    def frames(self) -> Iterator[Frame]:
        """Gives frames for ever: drawn ones, or those of the source from its start again.

        Raises:
            CameraError: The source can't be opened, is lost, or gives nothing.
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
        """Returns what the figures of `capture` hold."""
        if self.source is None:
            return f"drawn frames, {self.width} x {self.height}; capture is a copy in memory"
        return f"{redact(self.source)}; capture reads and decodes"


def _drawn(width: int, height: int) -> Iterator[Frame]:
    picture = draw(width, height)
    index = 0
    while True:
        # A camera's driver fills memory that was not just read: a copy does too.
        yield Frame(picture.copy(), f"drawn {index}", index, time.monotonic_ns(), time.time())
        index += 1


def draw(width: int, height: int) -> NDArray[np.uint8]:
    """Draws a part-like frame `(height, width, 3) uint8` by a fixed formula: a disc, grain."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    radius = np.hypot(x - width / 2, y - height / 2) / height
    disc = 140.0 - 80.0 * np.clip((radius - 0.35) * 20.0, 0.0, 1.0)
    grain = np.random.RandomState(0).randint(-20, 21, (height, width, 3))
    frame: NDArray[np.uint8] = np.clip(disc[:, :, None] + grain, 0, 255).astype(np.uint8)
    return frame


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Args:
        warm_up: Runs before each round that are not counted.
        runs: Counted runs of a round.
        rounds: Rounds; their medians show how steady the machine is.
        batches: Batches of inference alone; batch 1 is always measured.
    """

    warm_up: int = 20
    runs: int = 100
    rounds: int = 3
    batches: tuple[int, ...] = (1,)


@dataclass
class _Lap:
    """Times the parts of one frame's way."""

    last: int = field(default_factory=time.perf_counter_ns)

    def ms(self) -> float:
        now = time.perf_counter_ns()
        passed, self.last = now - self.last, now
        return passed / 1e6


def time_inference(
    backend: Backend, metadata: ModelMetadata, effort: Effort, batch: int
) -> Samples:
    """Times `Backend.infer` of a full batch that lies in the backend's own memory.

    The frames are the golden ones. All zeros would do the same work, but may be quicker.
    """
    frames = backend.buffer((batch, *metadata.input.shape))
    frames[...] = golden_frames(metadata.input, batch)
    return Samples(_rounds(lambda: backend.infer(frames), effort))


def _rounds(call: Callable[[], object], effort: Effort) -> np.ndarray:
    times = np.empty((effort.rounds, effort.runs))
    for row in times:
        for _ in range(effort.warm_up):
            call()
        for position in range(effort.runs):
            lap = _Lap()
            call()
            row[position] = lap.ms()
    return times


def time_stages(
    backend: Backend, metadata: ModelMetadata, source: FrameSource, effort: Effort
) -> tuple[dict[str, Samples], Samples]:
    """Times a frame's way, one frame after another, as `differnet run` goes it.

    What is published is the inspection's line of JSON, to a sink that drops it.

    Returns:
        The stages, and the total but for capture and for the copy that `differnet run` saves.

    Raises:
        CameraError: The source can't be opened, is lost, or gives nothing.
        ImageReadError: A picture can't be read.
        FrameError: Its frames do not fit the model.
        BackendError: Inference failed.
    """
    times = np.empty((effort.rounds, effort.runs, len(STAGES)))
    way = _Way(backend, metadata, source)
    with open(os.devnull, "w", encoding="utf-8") as sink:  # noqa: PTH123 - it has no path to join
        for row in times:
            for position in range(-effort.warm_up, effort.runs):
                stages = way.go(sink.write)
                if position >= 0:
                    row[position] = stages
    found = {name: Samples(times[:, :, k]) for k, name in enumerate(STAGES)}
    counted = [k for k, name in enumerate(STAGES) if name not in ("capture", "copy")]
    return found, Samples(times[:, :, counted].sum(axis=2))


class _Way:
    """Goes a frame's way, to the end also with frames that the gate would refuse."""

    def __init__(self, backend: Backend, metadata: ModelMetadata, source: FrameSource) -> None:
        # Drawn frames have a size that the model need not know.
        self._detector = Detector.over(backend, metadata, integrity=IntegrityConfig(size="any"))
        self._gate = self._detector.gate()
        self._frames = source.frames()
        self._elsewhere = np.empty(metadata.input.shape, np.uint8)

    def go(self, publish: Callable[[str], object]) -> list[float]:
        """Returns the milliseconds of each of `STAGES` for the next frame."""
        lap = _Lap()
        frame = next(self._frames)
        capture_ms = lap.ms()
        found = inspect_frame(frame, self._detector, self._gate, score_refused=True)
        if found.error is not None:
            raise found.error
        assert found.answer is not None
        lap.ms()
        np.copyto(self._elsewhere, self._detector.buffer())
        copy_ms = lap.ms()
        inspection = Inspection(
            frame.name, frame.index, frame.captured_at_s, found.decision, found.answer.score
        )
        publish(json.dumps(inspection.record(), allow_nan=False) + "\n")
        publish_ms = lap.ms()
        known = [found.stages_ms[name] for name in ("preprocess", "integrity", "infer")]
        preprocess_ms, integrity_ms, infer_ms = known
        decide_ms = found.total_ms - sum(known)
        return [
            capture_ms, preprocess_ms, integrity_ms, copy_ms, infer_ms, decide_ms, publish_ms
        ]  # fmt: skip


T = TypeVar("T")


@dataclass(frozen=True)
class BenchmarkTrial:
    """What is to be measured.

    Args:
        path: The model file.
        contender: See `contenders.CONTENDERS`.
        source: Of the frames.
        effort: How much.
        threads: CPU threads; 0 lets the backend choose.
    """

    path: Path
    contender: str
    source: FrameSource
    effort: Effort
    threads: int = 0


def measure(trial: BenchmarkTrial) -> Row:
    """Measures inference at batch 1, a frame's way, and the other batches.

    Returns:
        The figures; where inference at batch 1 fails, the reason. Where another part fails, its
        reason stands beside the figures of the rest.

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
    """Calls `work` in a new process; returns what it gives, or why it gives nothing."""
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
    """Times inference in this process.

    Returns:
        The times, and facts: see `Row.about`.

    Raises:
        DifferNetError: The file or the backend can't be used.
        MemoryError: There is too little for the batch or the runs.
    """
    model, metadata = read_model_file(trial.path)
    with _opened(trial, model, metadata, batch) as backend:
        samples = time_inference(backend, metadata, trial.effort, batch)
        return samples, {
            "backend": backend.name,
            "cuda_graph": _graph(backend),
            "file_mb": len(model) / 1e6,
            "peak_host_memory_mib": peak_memory_mib(),
        }


def go_here(trial: BenchmarkTrial) -> tuple[dict[str, Samples], Samples, float]:
    """Times a frame's way in this process.

    Returns:
        The stages and the total, see `time_stages`, and the peak of the host's memory in MiB.

    Raises:
        DifferNetError: The file, the backend, the source or one of its frames can't be used.
        MemoryError: There is too little for the frame or the runs.
    """
    model, metadata = read_model_file(trial.path)
    with _opened(trial, model, metadata, 1) as backend:
        return *time_stages(backend, metadata, trial.source, trial.effort), peak_memory_mib()


def _opened(trial: BenchmarkTrial, model: bytes, metadata: ModelMetadata, batch: int) -> Backend:
    """Opens it for one batch: a TensorRT engine always computes the batch it was built for."""
    return open_contender(
        trial.contender, trial.path, model, metadata, batch=batch, threads=trial.threads
    )


def _graph(backend: object) -> str | None:
    """Returns whether a CUDA graph ran; None for backends that have none."""
    with contextlib.suppress(AttributeError):
        reason: str | None = backend.graph_reason  # type: ignore[attr-defined]
        return "used" if reason is None else f"not used: {reason}"
    return None
