"""What ONNX Runtime's providers need, why one did not start, and what it left to the CPU.

ONNX Runtime falls back silently, in three ways. A provider whose libraries are missing is
replaced by the CPU. A provider that fails while it runs is replaced by the CPU. And an operator
for which a provider has no kernel runs on the CPU, copies included. The list of available
providers says only what the package was built with. So here a provider counts once a frame ran,
and once the profile of that run names it for the layers that cost.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import re
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

from ..driver import extra_for_driver, find_gpu
from ..errors import BackendUnavailableError
from ..installation import advice, on_jetson
from ..sentences import sentence
from ..tensorrt_api import load

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
"""Also in the names of what these are fused to (`FusedConv`)."""
_TOLD_SINCE = (1, 18)
"""ONNX Runtime's version from which its CUDA provider can be told to leave FP32 unrounded."""
_CUDA_FAILURE = re.compile(r"(?:CUDA|CUDNN|CUBLAS) (?:failure|error) \w+: [^;]+", re.IGNORECASE)
_LONGEST_REASON = 300


def require(runtime: ModuleType, name: str) -> None:
    """Checks, before anything is loaded, that a GPU's provider has a chance.

    Args:
        runtime: The module `onnxruntime`.
        name: `onnxruntime-tensorrt` or `onnxruntime-cuda`.

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
    if name == CUDA and version < _TOLD_SINCE:
        raise BackendUnavailableError(
            f"this onnxruntime ({runtime.__version__}) rounds FP32 to TF32 on a GPU, and can't be "
            f"told not to: install {'.'.join(map(str, _TOLD_SINCE))} or newer"
        )
    with contextlib.redirect_stdout(sys.stderr):
        # Finds CUDA and cuDNN that pip installed; prints what it misses. From 1.21 on.
        getattr(runtime, "preload_dlls", lambda: None)()
    if name == TENSORRT:
        # Its libraries are found by name once the bindings have loaded them.
        with contextlib.suppress(BackendUnavailableError):
            load()


def options(name: str, cache: Path | None) -> dict[str, str]:
    """Returns a provider's options.

    No precision is asked for: the graph carries its own. So FP32 stays FP32 and is not rounded to
    TF32, as the CUDA provider does unless told not to; the TensorRT provider can not be told.

    Args:
        name: One of `PROVIDERS`.
        cache: Where TensorRT's engines and timings are kept; None keeps none.
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
    """Says why a provider did not start; only after a session was tried with it.

    Before that, its library must not be loaded: it would not find ONNX Runtime, and crash it
    later.

    Args:
        runtime: The module `onnxruntime`.
        name: `onnxruntime-tensorrt` or `onnxruntime-cuda`.
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


def not_running(name: str, error: Exception) -> BackendUnavailableError:
    """Says that a provider started, and failed on its first frame.

    That is how a package that was not compiled for this GPU shows itself.

    Args:
        name: The provider asked for, one of `PROVIDERS`.
        error: What ONNX Runtime raised.
    """
    return BackendUnavailableError(
        sentence(
            "onnxruntime_failed",
            provider=PROVIDERS[name],
            why=_condensed(str(error)),
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
    """Returns the cause in an error of ONNX Runtime's, which is mostly signatures and paths."""
    found = _CUDA_FAILURE.search(text)
    text = " ".join((found[0] if found else text).split()).rstrip(". ")
    return text if len(text) <= _LONGEST_REASON else text[:_LONGEST_REASON] + "..."


def placement(profile: str) -> Counter[tuple[str, str]]:
    """Reads where a session's operators ran.

    Args:
        profile: The text of a profile of ONNX Runtime's.

    Returns:
        How many runs there were of each operator, by (provider, operator).
    """
    events: list[dict[str, Any]] = json.loads(profile)
    runs = (event["args"] for event in events if event.get("cat") == "Node" and "args" in event)
    return Counter((run["provider"], run["op_name"]) for run in runs if run.get("provider"))


def left_to_cpu(name: str, ran: Counter[tuple[str, str]]) -> dict[str, int]:
    """Refuses a provider that left what costs to the CPU.

    Args:
        name: The provider asked for, one of `PROVIDERS`.
        ran: What `placement` found.

    Returns:
        How many of each cheap operator it left to the CPU. ONNX Runtime's CUDA provider has no
        Atan, of which the flow has one or two for each block.

    Raises:
        BackendUnavailableError: A convolution or a matrix product ran on the CPU.
    """
    left = {
        operator: count
        for (provider, operator), count in ran.items()
        if provider == "CPUExecutionProvider"
    }
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
