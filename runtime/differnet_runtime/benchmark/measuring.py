"""One contender in a process of its own: its memory is its own, and its crash ends only itself."""

from __future__ import annotations

import contextlib
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..backends import Backend
from ..errors import BackendError, OutputError
from ..metadata import ModelMetadata
from ..model_file import read_model_file
from .contenders import open_contender
from .frames import FrameSource
from .machine import peak_memory_mib, temperatures
from .records import Row
from .timing import Effort, time_inference, time_stages


@dataclass(frozen=True)
class Trial:
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


def measure(trial: Trial) -> Row:
    """Measures in a new process.

    Returns:
        The figures; or the reason why there are none.

    Raises:
        ModelFileError: The file can't be used.
        CameraError: The source can't be used.
        FrameError: Its frames do not fit the model.
    """
    _, metadata = read_model_file(trial.path)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=spawn) as pool:
        try:
            return pool.submit(measure_here, trial).result()
        except BrokenProcessPool:
            return _without(trial, metadata, "its process died; look at the lines above")


def measure_here(trial: Trial) -> Row:
    """Measures in this process; see `measure`."""
    model, metadata = read_model_file(trial.path)
    before = temperatures()
    try:
        row = _at_batch_one(trial, model, metadata)
        for batch in trial.effort.batches:
            if batch != 1:
                with _opened(trial, model, metadata, batch) as backend:
                    row.batches[batch] = time_inference(backend, metadata, trial.effort, batch)
    except (BackendError, OutputError) as error:
        return _without(trial, metadata, str(error))
    row.about.update(temperatures_before=before, temperatures_after=temperatures())
    return row


def _at_batch_one(trial: Trial, model: bytes, metadata: ModelMetadata) -> Row:
    with _opened(trial, model, metadata, 1) as backend:
        batches = {1: time_inference(backend, metadata, trial.effort, 1)}
        stages, total = time_stages(backend, metadata, trial.source, trial.effort)
        about: dict[str, Any] = {
            "backend": backend.name,
            "cuda_graph": _graph(backend),
            "file_mb": len(model) / 1e6,
            "peak_memory_mib": peak_memory_mib(),
        }
    row = _without(trial, metadata, None)
    return replace(row, batches=batches, stages=stages, total=total, about=about)


def _opened(trial: Trial, model: bytes, metadata: ModelMetadata, batch: int) -> Backend:
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


def _without(trial: Trial, metadata: ModelMetadata, reason: str | None) -> Row:
    return Row(trial.path.name, metadata.precision, trial.contender, reason)
