"""Chooses the backend that runs a model file on this machine."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BackendError, BackendUnavailableError, DifferNetError, OutputError
from ..gpu import find_gpu, nvidia_gpu
from ..model_file.file import read_model_file
from ..text import instead
from .base import Backend
from .fake import PREFIX, FakeBackend, FakeOptions

if TYPE_CHECKING:
    from .tensorrt.build import BuiltEngine


AUTO, GPU, CPU = "auto", "gpu", "cpu"
DEVICES = (AUTO, GPU, CPU)
"""Values of `--device`: each means the best backend that runs there."""

TENSORRT = "tensorrt"
ORT_TENSORRT, ORT_CUDA, ORT_CPU = "onnxruntime-tensorrt", "onnxruntime-cuda", "onnxruntime-cpu"
BACKENDS = (AUTO, TENSORRT, ORT_TENSORRT, ORT_CUDA, ORT_CPU)

BEST_FIRST = (TENSORRT, ORT_CUDA, ORT_CPU)
"""The backends that `auto` tries, in this order.

onnxruntime-tensorrt runs only when asked for by name: it needs the same TensorRT as `tensorrt`, and
builds its engines in this process, without the checks that `tensorrt` makes before and after.
"""

ON_CPU = (CPU, ORT_CPU)
"""Names that mean the CPU on every machine."""
ON_GPU = tuple(name for name in BACKENDS[1:] if name not in ON_CPU)

_CANDIDATES = {
    AUTO: BEST_FIRST,
    GPU: tuple(name for name in BEST_FIRST if name in ON_GPU),
    CPU: tuple(name for name in BEST_FIRST if name in ON_CPU),
}
"""The backends to try for each device, best first."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
    """An open backend, and why no better one was chosen.

    Args:
        backend: The open backend, to be closed by the caller.
        reasons: Why each better backend does not run, by its name; empty if one was asked for by
            name.
    """

    backend: Backend
    reasons: dict[str, str]


def open_backend(name: str, model: bytes, *, path: Path | None = None, threads: int = 0) -> Backend:
    """Opens a backend; `choose` also says why it is not a better one.

    Args:
        name: One of `BACKENDS`, `gpu` or `cpu`; `auto` takes the best that works here, and `gpu`
            the best on a GPU. A name that starts with `fake` opens a backend for tests; see
            `FakeOptions.parse`.
        model: The model file's bytes.
        path: The model file, beside which engines are kept; None keeps none.
        threads: CPU threads; 0 lets the backend choose.

    Raises:
        BackendUnavailableError: The name is unknown, or its package or device is missing.
        BackendError: The backend can't load the model.
    """
    return choose(name, model, path=path, threads=threads).backend


def check_backend(name: str) -> None:
    """Checks a backend's name without opening it.

    Raises:
        BackendUnavailableError: The name is unknown.
    """
    if name.split(":")[0] == PREFIX:
        FakeOptions.parse(name)
    elif name not in BACKENDS and name not in DEVICES:
        known = (*DEVICES, *BACKENDS[1:])
        raise BackendUnavailableError(f"there is no backend {name!r}; {instead(name, known)}")


def runs_on_cpu(name: str) -> bool:
    """Whether a backend's name means the CPU here, as `auto` does without a GPU."""
    return not _driver_finds_gpu() if name == AUTO else name in ON_CPU


def _driver_finds_gpu() -> bool:
    try:
        find_gpu()
    except DifferNetError:
        return False
    return True


def choose(name: str, model: bytes, *, path: Path | None = None, threads: int = 0) -> Choice:
    """Opens a backend by name, or the best that works; see `open_backend`."""
    check_backend(name)
    if name.split(":")[0] == PREFIX:
        return Choice(FakeBackend(options=FakeOptions.parse(name)), {})
    if name not in DEVICES:
        return Choice(_open(name, model, path, threads), {})
    reasons: dict[str, str] = {}
    kind: type[BackendError] = BackendUnavailableError
    for candidate in _CANDIDATES[name]:
        try:
            opened = _open(candidate, model, path, threads)
        except BackendError as error:  # noqa: PERF203 - the next one may run
            reasons[candidate] = str(error)
            level = logging.INFO
            if not isinstance(error, BackendUnavailableError):
                kind, level = BackendError, logging.WARNING  # it is there, and fails
            log.log(level, "not %s: %s", candidate, error)
        else:
            log.info("%s takes %s", name, opened.name)
            return Choice(opened, reasons)
    raise kind(_none_runs(name, reasons))


def _none_runs(device: str, reasons: Mapping[str, str]) -> str:
    if device == AUTO and not gpu_found():
        reasons = {ORT_CPU: reasons[ORT_CPU]}
    why = _each_once(reasons)
    what = f"no {'' if device == AUTO else f'{device.upper()} '}backend runs this model here"
    if len(why) == 1:
        return f"{what}: {next(iter(why.values()))}"
    return f"{what}:" + "".join(f"\n  {names}: {reason}" for names, reason in why.items())


def gpu_found() -> bool:
    """Whether this machine has an NVIDIA GPU, even without a working driver."""
    return nvidia_gpu() is not None or _driver_finds_gpu()


def why_not_better(reasons: Mapping[str, str], *, asked: bool = False) -> dict[str, str]:
    """Returns why no better backend runs: each reason once, by the names of the backends.

    Args:
        reasons: The `reasons` of a `Choice`.
        asked: Whether a GPU was asked for; if not, nothing is returned for a machine without one.
    """
    return _each_once(reasons) if asked or gpu_found() else {}


def _each_once(reasons: Mapping[str, str]) -> dict[str, str]:
    names: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names.setdefault(reason, []).append(name)
    return {", ".join(of): reason for reason, of in names.items()}


def try_backend(name: str) -> None:
    """Tries whether a backend works here, without a model.

    For `tensorrt` the packages and the device are checked, because an engine is built only for a
    model. The others run a tiny graph.

    Args:
        name: One of `BACKENDS` except `auto`.

    Raises:
        BackendError: It does not work; says why, and what to install.
    """
    if name == TENSORRT:
        _require_tensorrt()
    else:
        from .ort import try_provider

        try_provider(name)


def _open(name: str, model: bytes, path: Path | None, threads: int) -> Backend:
    if name == TENSORRT:
        return _open_tensorrt(model, path)
    from .ort import OnnxRuntimeBackend

    if name == ORT_CPU:
        _warn_of_precision(path)
    cache = _ort_cache(path, model) if path and name == ORT_TENSORRT else None
    return OnnxRuntimeBackend(model, name=name, threads=threads, cache=cache)


def _ort_cache(path: Path, model: bytes) -> Path:
    """Returns a folder for a model's content: ONNX Runtime's cache ignores its weights."""
    from .tensorrt.cache import engines_folder

    digest = hashlib.sha256(model).hexdigest()
    return engines_folder(path, digest) / "ort" / digest[:16]


def _open_tensorrt(model: bytes, path: Path | None) -> Backend:
    if path is None:
        raise BackendUnavailableError(
            "the tensorrt backend needs a model file, not only its bytes: the engine is kept "
            "beside it"
        )
    _require_tensorrt()
    from .tensorrt.runner import TensorRTBackend

    engine = _engine(path, model)
    try:
        return TensorRTBackend(engine.plan, batch=1)
    except BackendError as error:
        if not engine.updates:
            raise
        updates = "; ".join(engine.updates)
        log.warning("the engine was kept over an update (%s), but: %s", updates, error)
    engine.discard()
    return TensorRTBackend(_engine(path, model).plan, batch=1)


def _engine(path: Path, model: bytes) -> BuiltEngine:
    from .tensorrt.build import ensure_engine

    try:
        return ensure_engine(path, model, read_model_file(path)[1])
    except OutputError as error:
        raise BackendError(
            f"the engine can't be kept: {error} Set DIFFERNET_ENGINES to a folder that can be "
            "written."
        ) from error


def _require_tensorrt() -> None:
    """Requires a GPU first, and TensorRT last, since it takes seconds to import."""
    from .cuda import open_device
    from .tensorrt.api import load

    open_device()
    load()


def _warn_of_precision(path: Path | None) -> None:
    precision = "fp32" if path is None else read_model_file(path)[1].precision
    if precision != "fp32":
        log.warning(
            "%s is an %s file, and it runs on the CPU, where FP32 is faster: "
            "export it with `--precision fp32` for this machine",
            path,
            precision.upper(),
        )
