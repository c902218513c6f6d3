"""Prints, as JSON, what the TensorRT bindings on the path show, and what our code makes of them."""

import json
import logging
import sys
from typing import Any

import tensorrt_bindings

# NVIDIA's package `tensorrt` is this module under another name, and its libraries.
sys.modules["tensorrt"] = tensorrt_bindings

from differnet_runtime.backends.tensorrt import api as tensorrt_api  # noqa: E402
from differnet_runtime.backends.tensorrt.builder import progress_monitor  # noqa: E402


def signatures(member: object) -> list[str]:
    """The lines of a docstring that pybind11 wrote: one for each form of a call."""
    lines = [line.strip() for line in (getattr(member, "__doc__", None) or "").splitlines()]
    return [line for line in lines if ") -> " in line]


def described(holder: object) -> dict[str, list[str]]:
    return {name: signatures(getattr(holder, name, None)) for name in dir(holder)}


def classes(holder: object, prefix: str = "") -> dict[str, type]:
    found: dict[str, type] = {}
    for name, member in vars(holder).items():
        if isinstance(member, type) and member.__module__.startswith("tensorrt"):
            found[prefix + name] = member
            found |= classes(member, f"{prefix}{name}.")
    return found


def heard() -> dict[str, Any]:
    """Makes our logger and monitor, which are subclasses of the real ones, and calls them."""
    said: list[tuple[str, str]] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append((record.levelname, record.getMessage()))

    logging.getLogger().addHandler(Kept())
    logging.getLogger().setLevel(logging.DEBUG)
    logger = tensorrt_api.make_logger()
    for name, severity in tensorrt_bindings.ILogger.Severity.__members__.items():
        logger.log(severity, name)  # type: ignore[attr-defined]
    shares: list[float] = []
    if hasattr(tensorrt_bindings, "IProgressMonitor"):
        monitor: Any = progress_monitor(shares.append)
        assert isinstance(monitor, tensorrt_bindings.IProgressMonitor)
        monitor.phase_start("Building engine", None, 2)
        assert monitor.step_complete("Building engine", 0)
        monitor.phase_finish("Building engine")
    return {
        "version": tensorrt_api.version(),
        "is_logger": isinstance(logger, tensorrt_bindings.ILogger),
        "errors": logger.errors,
        "said": said,
        "shares": shares,
    }


api = {"": described(tensorrt_bindings)}
api |= {name: described(kind) for name, kind in classes(tensorrt_bindings).items()}
sys.stdout.write(json.dumps({"api": api, "ours": heard()}))
