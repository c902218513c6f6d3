"""ONNX Runtime; the only module that imports it, and the boundary of its errors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendError, BackendUnavailableError
from .base import Backend


class OnnxRuntimeBackend(Backend):
    """Runs the graph with ONNX Runtime on the CPU.

    Args:
        model: The model file's bytes.
        threads: Threads within an operator; 0 for one per core.

    Raises:
        BackendUnavailableError: onnxruntime is not installed.
        BackendError: It can't load the graph.
    """

    def __init__(self, model: bytes, *, threads: int = 0) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise BackendUnavailableError(
                "onnxruntime is not installed. Install it with "
                "`pip install 'differnet-edge[onnx-cpu]'` (or onnx-gpu on x86-64 with CUDA)."
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's exceptions share no base class but this
            raise BackendError(f"ONNX Runtime can't load the model: {error}") from error
        self._input = self._session.get_inputs()[0]
        provider = self._session.get_providers()[0].removesuffix("ExecutionProvider").lower()
        self.name = f"onnxruntime-{provider}"

    def infer(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Returns `(N,)` float32 scores; see `Backend.infer`."""
        expected = tuple(self._input.shape[1:])
        if batch.dtype != np.uint8 or batch.shape[1:] != expected:
            raise BackendError(
                f"the graph takes (N, {', '.join(map(str, expected))}) uint8; "
                f"received {batch.shape} {batch.dtype}"
            )
        try:
            outputs: list[Any] = self._session.run(["score"], {self._input.name: batch})
        except Exception as error:  # onnxruntime's exceptions share no base class but this
            raise BackendError(f"ONNX Runtime failed: {error}") from error
        return np.asarray(outputs[0], np.float32)

    def close(self) -> None:
        """Drops the session."""
        del self._session
