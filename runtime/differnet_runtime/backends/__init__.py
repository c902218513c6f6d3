"""How the graph is executed: one module a backend, imported only when it is asked for."""

from __future__ import annotations

from ..errors import BackendUnavailableError
from .base import Backend
from .fake import FakeBackend

__all__ = ["BACKENDS", "Backend", "FakeBackend", "open_backend"]

BACKENDS = ("auto", "onnxruntime-cpu")


def open_backend(name: str, model: bytes, *, threads: int = 0) -> Backend:
    """Opens a backend.

    Args:
        name: One of `BACKENDS`; `auto` takes the best that works here.
        model: The model file's bytes.
        threads: CPU threads; 0 lets the backend choose.

    Raises:
        BackendUnavailableError: The name is unknown, or its package is missing.
        BackendError: The backend can't load the model.
    """
    if name in ("auto", "onnxruntime-cpu"):
        from .ort import OnnxRuntimeBackend

        return OnnxRuntimeBackend(model, threads=threads)
    raise BackendUnavailableError(
        f"there is no backend {name!r}; choose from {', '.join(BACKENDS)}"
    )
