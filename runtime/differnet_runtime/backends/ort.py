"""ONNX Runtime; the only module that imports it, and the boundary of its errors."""

from __future__ import annotations

import contextlib
import logging
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendError, BackendUnavailableError
from ..installation import advice
from ..sentences import sentence
from .base import HEADS, HEATMAP, SCORE, Backend, Outputs
from .ort_providers import (
    CPU,
    PROVIDERS,
    TENSORRT,
    left_to_cpu,
    listed,
    not_running,
    not_started,
    options,
    placement,
    require,
)

log = logging.getLogger(__name__)

_ONES = b"\x00\x00\x80?" * 12
PROBE = (
    b'\x08\x08:\xe4\x01\n\x1b\n\x05image\x12\x01x"\x04Cast*\t\n\x02to\x18\x01\xa0\x01\x02'
    b'\n\x0f\n\x01x\n\x01w\x12\x01y"\x04Conv'
    b'\n8\n\x01y\x12\x05score"\nReduceMean*\x0f\n\x04axes@\x01@\x02@\x03\xa0\x01\x07'
    b"*\x0f\n\x08keepdims\x18\x00\xa0\x01\x02"
    b'\x12\x01g*?\x08\x01\x08\x02\x08\x02\x08\x03\x10\x01"0' + _ONES + b"B\x01w"
    b"Z \n\x05image\x12\x17\n\x15\x08\x02\x12\x11\n\x03\x12\x01N"
    b"\n\x02\x08\x02\n\x02\x08\x02\n\x02\x08\x03"
    b"b\x14\n\x05score\x12\x0b\n\t\x08\x01\x12\x05\n\x03\x12\x01NB\x04\n\x00\x10\r"
)
"""An ONNX file of 239 bytes: `image (N, 2, 2, 3) uint8` to its sum, `score (N,) float32`.

The sum is a convolution with ones, so that a provider needs what a real model needs.
"""


class OnnxRuntimeBackend(Backend):
    """Runs the graph with one of ONNX Runtime's providers, and with no other.

    A GPU's provider runs one black frame before this returns: it shows that the provider really
    runs, and the TensorRT provider builds its engine meanwhile (minutes, where none is cached).

    Args:
        model: The model file's bytes.
        name: `onnxruntime-tensorrt`, `onnxruntime-cuda` or `onnxruntime-cpu`.
        threads: Threads within an operator on the CPU; 0 for one per core.
        cache: Where the TensorRT provider keeps its engines, or None. ONNX Runtime trusts what
            it finds there, and does not look at the weights: one folder for each model.

    Raises:
        BackendUnavailableError: onnxruntime, the provider or its device is missing, or the
            provider would run only part of the graph; says which.
        BackendError: It can't load the graph.
    """

    def __init__(
        self, model: bytes, *, name: str = CPU, threads: int = 0, cache: Path | None = None
    ) -> None:
        runtime = _import()
        self.name = name
        if name == TENSORRT:
            self.batch = 1  # it builds another engine, in minutes, for each new size
        if name == CPU:
            self._session = _start(runtime, model, name, cpu_settings(runtime, threads), {})
        else:
            require(runtime, name)
            self._session = _on_gpu(runtime, model, name, _settings(runtime, threads), cache)
        self._input = self._session.get_inputs()[0]
        given = [output.name for output in self._session.get_outputs()]
        self._outputs = [output for output in (SCORE, HEATMAP, HEADS) if output in given]

    def infer(self, batch: NDArray[np.uint8]) -> Outputs:
        """Runs the graph; see `Backend.infer`."""
        expected = tuple(self._input.shape[1:])
        if batch.dtype != np.uint8 or batch.shape[1:] != expected:
            raise BackendError(
                f"the graph takes (N, {', '.join(map(str, expected))}) uint8; "
                f"received {batch.shape} {batch.dtype}"
            )
        try:
            outputs: list[Any] = self._session.run(self._outputs, {self._input.name: batch})
        except Exception as error:  # onnxruntime's exceptions share no base class but this
            raise BackendError(f"ONNX Runtime failed: {error}") from error
        named = dict(zip(self._outputs, outputs, strict=True))
        found = {name: np.asarray(output, np.float32) for name, output in named.items()}
        return Outputs(found[SCORE], found.get(HEATMAP), found.get(HEADS))

    def close(self) -> None:
        """Drops the session."""
        del self._session


def try_provider(name: str) -> None:
    """Runs a tiny graph with a provider: that it is listed proves nothing.

    Args:
        name: `onnxruntime-tensorrt`, `onnxruntime-cuda` or `onnxruntime-cpu`.

    Raises:
        BackendError: It does not run, or computes something else; says why.
    """
    frames = np.stack([np.full((2, 2, 3), value, np.uint8) for value in (1, 20)])
    with OnnxRuntimeBackend(PROBE, name=name, threads=1) as backend:
        scores = backend.infer(frames).scores.tolist()
    if scores != [12.0, 240.0]:
        raise BackendError(f"{name} computes {scores} where [12.0, 240.0] is right")


def describe() -> tuple[str, list[str]]:
    """Returns ONNX Runtime's version, and the providers it was built with.

    Raises:
        BackendUnavailableError: onnxruntime is not installed.
    """
    runtime = _import()
    return str(runtime.__version__), list(runtime.get_available_providers())


def _import() -> ModuleType:
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendUnavailableError(
            sentence("onnxruntime_missing", advice=advice("onnx-cpu"))
        ) from error
    return onnxruntime  # type: ignore[no-any-return]


def _settings(runtime: ModuleType, threads: int) -> Any:  # noqa: ANN401 - onnxruntime is untyped
    settings = runtime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.log_severity_level = 3
    return settings


def cpu_settings(runtime: ModuleType, threads: int) -> Any:  # noqa: ANN401
    """Returns a session's settings for the CPU.

    Q/DQ pairs are computed as they are written. ONNX Runtime would fuse them into kernels of its
    own, which saturate sums where a processor has no VNNI, so that a file's scores would depend on
    the processor.
    """
    settings = _settings(runtime, threads)
    settings.add_session_config_entry("session.disable_quant_qdq", "1")
    return settings


def _start(
    runtime: ModuleType,
    model: bytes,
    name: str,
    settings: Any,  # noqa: ANN401
    provider_options: dict[str, str],
) -> Any:  # noqa: ANN401
    """Makes a session that never changes its provider by itself."""
    providers = [(PROVIDERS[name], provider_options)]
    try:
        with contextlib.redirect_stdout(sys.stderr):  # older versions print what they fall back to
            session = runtime.InferenceSession(
                model, settings, providers=providers, enable_fallback=0
            )
    except Exception as error:  # onnxruntime's exceptions share no base class but this
        if name != CPU and isinstance(error, RuntimeError):  # those of the graph are not
            raise not_started(runtime, name, error) from error
        raise BackendError(f"ONNX Runtime can't load the model: {error}") from error
    session.disable_fallback()
    if session.get_providers()[0] != PROVIDERS[name]:
        raise not_started(runtime, name)
    return session


def _on_gpu(
    runtime: ModuleType,
    model: bytes,
    name: str,
    settings: Any,  # noqa: ANN401
    cache: Path | None,
) -> Any:  # noqa: ANN401
    """Makes a session, runs one frame under the profiler, and looks where each operator ran."""
    with tempfile.TemporaryDirectory(prefix="differnet-") as folder:
        settings.enable_profiling = True
        settings.profile_file_prefix = str(Path(folder) / "profile")
        if cache is not None:
            _make(cache)
        session = _start(runtime, model, name, settings, options(name, cache))
        graph_input = session.get_inputs()[0]
        shape = [size if isinstance(size, int) else 1 for size in graph_input.shape]
        try:
            session.run(None, {graph_input.name: np.zeros(shape, np.uint8)})
        except Exception as error:  # onnxruntime's exceptions share no base class but this
            raise not_running(name, error) from error
        profile = Path(session.end_profiling()).read_text("utf-8")
    left = left_to_cpu(name, placement(profile))
    if left:
        log.info("%s leaves %s to the CPU, for which it has no kernel", name, listed(left))
    return session


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BackendError(
            f"engines can't be kept in {folder} ({error.strerror or error}). Set "
            "DIFFERNET_ENGINES to a folder that can be written."
        ) from error
