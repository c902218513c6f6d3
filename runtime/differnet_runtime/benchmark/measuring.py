"""Each part of a measurement in a process of its own: a crash or a lack of memory ends only it."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from ..backends import Backend
from ..errors import DifferNetError
from ..metadata import ModelMetadata
from ..model_file import read_model_file
from .contenders import open_contender
from .frames import FrameSource
from .machine import peak_memory_mib, temperatures
from .records import Row, Samples
from .timing import Effort, time_inference, time_stages

T = TypeVar("T")


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


def infer_here(trial: Trial, batch: int) -> tuple[Samples, dict[str, Any]]:
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


def go_here(trial: Trial) -> tuple[dict[str, Samples], Samples, float]:
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
