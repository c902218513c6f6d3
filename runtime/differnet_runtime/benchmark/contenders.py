"""The ways in which a model file can be run, and what it takes to open each."""

from __future__ import annotations

from pathlib import Path

from ..backends import Backend
from ..backends.fake import PREFIX
from ..errors import BackendUnavailableError
from ..metadata import ModelMetadata
from ..selection import ORT_CPU, ORT_CUDA, ORT_TENSORRT, TENSORRT, open_backend

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
    from ..cuda import open_device
    from ..tensorrt_api import load

    device = open_device()  # first, for it takes milliseconds to say that there is none
    load()
    from ..backends.tensorrt import TensorRTBackend
    from ..engine import ensure_engine

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
