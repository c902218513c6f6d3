"""ONNX Runtime as a backend; the only module that imports it.

ONNX Runtime falls back silently, in three ways: a provider whose libraries are missing is replaced
by the CPU, so is a provider that fails while it runs, and an operator for which a provider has no
kernel runs on the CPU, with copies. The list of available providers says only what the package was
built with. So a provider is accepted here only after it ran a frame, and after the profile of that
run shows that it ran the expensive layers.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendError, BackendUnavailableError
from ..gpu import extra_for_driver, find_gpu
from ..installation import advice, on_jetson
from ..sentences import sentence
from .base import HEADS, HEATMAP, SCORE, Backend, Outputs
from .tensorrt.api import load

TENSORRT, CUDA, CPU = "onnxruntime-tensorrt", "onnxruntime-cuda", "onnxruntime-cpu"
PROVIDERS = {
    TENSORRT: "TensorrtExecutionProvider",
    CUDA: "CUDAExecutionProvider",
    CPU: "CPUExecutionProvider",
}
_LIBRARIES = {
    TENSORRT: "libonnxruntime_providers_tensorrt.so",
    CUDA: "libonnxruntime_providers_cuda.so",
}

_COSTLY = re.compile("Conv|MatMul|Gemm")
"""Expensive operators, also under the names of their fusions (`FusedConv`)."""
_TF32_OPTION_SINCE = (1, 18)
"""ONNX Runtime's version from which its CUDA provider can be told not to round FP32 to TF32."""
_CUDA_FAILURE = re.compile(r"(?:CUDA|CUDNN|CUBLAS) (?:failure|error) \w+: [^;]+", re.IGNORECASE)
_LONGEST_REASON = 300


def require(runtime: ModuleType, name: str) -> None:
    """Checks, before anything is loaded, whether a GPU's provider can start at all.

    Args:
        runtime: The imported module `onnxruntime`.
        name: The provider, `onnxruntime-tensorrt` or `onnxruntime-cuda`.

    Raises:
        BackendUnavailableError: There is no GPU, or the package was built without it or is too old.
    """
    find_gpu()
    if PROVIDERS[name] not in runtime.get_available_providers():
        raise BackendUnavailableError(
            sentence(
                "onnxruntime_without",
                version=runtime.__version__,
                provider=PROVIDERS[name],
                advice=_remedy(name),
            )
        )
    version = tuple(map(int, re.findall(r"\d+", runtime.__version__)[:2]))
    if name == CUDA and version < _TF32_OPTION_SINCE:
        raise BackendUnavailableError(
            f"this onnxruntime ({runtime.__version__}) rounds FP32 to TF32 on a GPU, and can't be "
            f"told not to: install {'.'.join(map(str, _TF32_OPTION_SINCE))} or newer"
        )
    with contextlib.redirect_stdout(sys.stderr):
        # Finds CUDA and cuDNN that pip installed, and prints what is missing. Since 1.21.
        getattr(runtime, "preload_dlls", lambda: None)()
    if name == TENSORRT:
        # Its libraries are found by name only after the bindings have loaded them.
        with contextlib.suppress(BackendUnavailableError):
            load()


def options(name: str, cache: Path | None) -> dict[str, str]:
    """Returns a provider's options.

    The graph's own precision is kept: FP32 is not rounded to TF32, as the CUDA provider would do by
    default. The TensorRT provider has no option for that.

    Args:
        name: The provider, a key of `PROVIDERS`.
        cache: Folder for TensorRT's engines and timings; None keeps none.
    """
    if name == CUDA:
        return {"use_tf32": "0"}
    if name == CPU or cache is None:
        return {}
    return {
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": str(cache),
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": str(cache),
    }


def not_started(
    runtime: ModuleType, name: str, error: Exception | None = None
) -> BackendUnavailableError:
    """Finds out why a provider did not start; call it only after a session was tried with it.

    Before that, its library must not be loaded: it would not find ONNX Runtime, and would crash it
    later.

    Args:
        runtime: The imported module `onnxruntime`.
        name: The provider, `onnxruntime-tensorrt` or `onnxruntime-cuda`.
        error: What ONNX Runtime raised, if it did not fall back silently.
    """
    reason = _condensed(str(error)) if error else "ONNX Runtime gives no reason"
    try:
        ctypes.CDLL(str(Path(runtime.__path__[0]) / "capi" / _LIBRARIES[name]))
    except OSError as missing:
        reason = str(missing)  # ONNX Runtime only logs this, and says "install the libraries"
    return BackendUnavailableError(
        sentence(
            "onnxruntime_not_started",
            provider=PROVIDERS[name],
            why=reason,
            advice=_remedy(name),
        )
    )


def _remedy(name: str) -> str:
    if on_jetson():
        return advice("onnx-gpu")
    if name == TENSORRT:
        return sentence("needs_tensorrt")
    return sentence("needs_cuda", advice=advice(extra_for_driver("onnx-gpu")))


def _condensed(text: str) -> str:
    """Extracts the cause from an error of ONNX Runtime's, which is mostly signatures and paths."""
    found = _CUDA_FAILURE.search(text)
    text = " ".join((found[0] if found else text).split()).rstrip(". ")
    return text if len(text) <= _LONGEST_REASON else text[:_LONGEST_REASON] + "..."


def placement(profile: str) -> Counter[tuple[str, str]]:
    """Counts where a session's operators ran.

    Args:
        profile: Text of a profile of ONNX Runtime's.

    Returns:
        Number of runs by (provider, operator).
    """
    events: list[dict[str, Any]] = json.loads(profile)
    runs = (event["args"] for event in events if event.get("cat") == "Node" and "args" in event)
    return Counter((run["provider"], run["op_name"]) for run in runs if run.get("provider"))


def left_to_cpu(name: str, ran: Counter[tuple[str, str]]) -> dict[str, int]:
    """Refuses a provider that left expensive operators to the CPU.

    Args:
        name: The provider that was asked for, one of `PROVIDERS`.
        ran: The result of `placement`.

    Returns:
        Number of cheap operators that it left to the CPU, by their name. ONNX Runtime's CUDA
        provider has no Atan, of which the flow has one or two for each block.

    Raises:
        BackendUnavailableError: A convolution or a matrix product ran on the CPU.
    """
    left = {operator: n for (provider, operator), n in ran.items() if provider == PROVIDERS[CPU]}
    costly = {operator: count for operator, count in left.items() if _COSTLY.search(operator)}
    if costly:
        raise BackendUnavailableError(
            f"ONNX Runtime starts {PROVIDERS[name]}, but leaves {listed(costly)} to the CPU; cuDNN "
            f"may be missing. {_remedy(name)}"
        )
    return left


def listed(operators: dict[str, int]) -> str:
    """Returns operators with their counts, as `16 Atan, 1 Cast`."""
    return ", ".join(f"{count} {operator}" for operator, count in operators.items())


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
"""An ONNX file of 239 bytes that sums an `image (N, 2, 2, 3) uint8` to a `score (N,) float32`.

The sum is a convolution with ones, so that a provider needs the libraries that a model needs.
"""


class OnnxRuntimeBackend(Backend):
    """Runs the graph with one of ONNX Runtime's providers, and with no other.

    A GPU's provider runs one black frame before this returns, to show that the provider really
    runs; the TensorRT provider builds its engine meanwhile (minutes, if none is cached).

    Args:
        model: The model file's bytes.
        name: `onnxruntime-tensorrt`, `onnxruntime-cuda` or `onnxruntime-cpu`.
        threads: Threads within an operator on the CPU; 0 for one per core.
        cache: Folder in which the TensorRT provider keeps its engines, or None. ONNX Runtime does
            not compare the weights, so each model needs a folder of its own.

    Raises:
        BackendUnavailableError: onnxruntime, the provider or its device is missing, or the
            provider would run only part of the graph; says which.
        BackendError: It can't load the graph.

    Example:
        >>> with OnnxRuntimeBackend(path.read_bytes()) as backend:  # doctest: +SKIP
        ...     scores = backend.infer(frames).scores
    """

    def __init__(
        self, model: bytes, *, name: str = CPU, threads: int = 0, cache: Path | None = None
    ) -> None:
        runtime = _import()
        self.name = name
        if name == TENSORRT:
            self.batch = 1  # it builds another engine, in minutes, for each new size
        if name == CPU:
            self._session = start_session(runtime, model, name, cpu_settings(runtime, threads), {})
        else:
            require(runtime, name)
            self._session = start_on_gpu(runtime, model, name, _settings(runtime, threads), cache)
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
    """Runs a tiny graph with a provider, since its being listed proves nothing.

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

    Q/DQ pairs are computed as written. ONNX Runtime would fuse them into kernels that saturate sums
    on a processor without VNNI, so that a file's scores would depend on the processor.
    """
    settings = _settings(runtime, threads)
    settings.add_session_config_entry("session.disable_quant_qdq", "1")
    return settings


def start_session(
    runtime: ModuleType,
    model: bytes,
    name: str,
    settings: Any,  # noqa: ANN401
    provider_options: dict[str, str],
) -> Any:  # noqa: ANN401
    """Starts a session that never changes its provider by itself."""
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


def start_on_gpu(
    runtime: ModuleType,
    model: bytes,
    name: str,
    settings: Any,  # noqa: ANN401
    cache: Path | None,
) -> Any:  # noqa: ANN401
    """Starts a session, runs one frame under the profiler, and checks where each operator ran."""
    with tempfile.TemporaryDirectory(prefix="differnet-") as folder:
        settings.enable_profiling = True
        settings.profile_file_prefix = str(Path(folder) / "profile")
        if cache is not None:
            try:
                cache.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise BackendError(
                    f"engines can't be kept in {cache} ({error.strerror or error}). Set "
                    "DIFFERNET_ENGINES to a folder that can be written."
                ) from error
        session = start_session(runtime, model, name, settings, options(name, cache))
        graph_input = session.get_inputs()[0]
        shape = [size if isinstance(size, int) else 1 for size in graph_input.shape]
        try:
            session.run(None, {graph_input.name: np.zeros(shape, np.uint8)})
        except Exception as error:  # the package was not compiled for this GPU, mostly
            why = _condensed(str(error))
            text = sentence(
                "onnxruntime_failed", provider=PROVIDERS[name], why=why, advice=_remedy(name)
            )
            raise BackendUnavailableError(text) from error
        profile = Path(session.end_profiling()).read_text("utf-8")
    if left := left_to_cpu(name, placement(profile)):
        log.info("%s leaves %s to the CPU, for which it has no kernel", name, listed(left))
    return session
