"""Imports NVIDIA's TensorRT bindings, versions 8.6 to 11; the only module that does.

Where the versions differ, the code that uses them asks with `hasattr`.
"""

from __future__ import annotations

import importlib
import logging
import re
from types import ModuleType
from typing import Protocol

from ...errors import BackendUnavailableError
from ...gpu import extra_for_driver
from ...installation import advice
from ...sentences import sentence

_KEPT_ERRORS = 20

log = logging.getLogger(__name__)


class Logger(Protocol):
    """A `tensorrt.ILogger` that keeps the latest error messages."""

    errors: list[str]
    """The latest error messages, oldest first; they say why a call returned None."""


def load() -> ModuleType:
    """Imports TensorRT's Python bindings.

    Returns:
        The module `tensorrt`.

    Raises:
        BackendUnavailableError: It is not installed, or its libraries can't be loaded.
    """
    try:
        return importlib.import_module("tensorrt")
    except Exception as error:  # its loader raises whatever its libraries' absence leads to
        remedy = advice(extra_for_driver("tensorrt"))
        text = sentence("tensorrt_broken", why=f"{type(error).__name__}: {error}", advice=remedy)
        if isinstance(error, ModuleNotFoundError) and error.name == "tensorrt":
            text = sentence("tensorrt_missing", advice=remedy)
        raise BackendUnavailableError(text) from error


def version() -> tuple[int, ...]:
    """Returns the bindings' full version, `(10, 3, 0)` or with the build's number after it.

    Raises:
        BackendUnavailableError: TensorRT is not installed.
    """
    numbers = re.match(r"\d+(\.\d+)*", str(load().__version__))
    return tuple(int(number) for number in numbers[0].split(".")) if numbers else (0,)


def make_logger() -> Logger:
    """Makes a TensorRT logger that passes messages to Python's logging.

    Returns:
        A `tensorrt.ILogger`, which must live as long as the objects made with it.

    Raises:
        BackendUnavailableError: TensorRT is not installed.
    """
    trt = load()
    severity = trt.ILogger.Severity
    levels = {
        severity.INTERNAL_ERROR: logging.ERROR,
        severity.ERROR: logging.ERROR,
        severity.WARNING: logging.WARNING,
        severity.INFO: logging.INFO,
        severity.VERBOSE: logging.DEBUG,
    }

    class KeepingLogger(trt.ILogger):  # type: ignore[misc,name-defined]
        """Keeps the latest errors, and logs all messages."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)  # the bindings do not support `super()` here
            self.errors: list[str] = []

        def log(self, severity: object, msg: str) -> None:
            """Called by TensorRT, from any of its threads."""
            level = levels.get(severity, logging.DEBUG)
            if level == logging.ERROR:
                self.errors.append(msg)
                del self.errors[:-_KEPT_ERRORS]
            log.log(level, "TensorRT: %s", msg)

    return KeepingLogger()
