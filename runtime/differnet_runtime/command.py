"""What the subcommands of `differnet` share: how they are registered, and how they report.

Each package registers its commands in the entry-point group `differnet.commands`. The module that
holds a `Command` is imported on every start of `differnet`, so heavy imports belong inside `run`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

from .errors import BackendUnavailableError
from .installation import advice, install_line
from .text import coloured

T = TypeVar("T")

INTERVAL_VARIABLE = "DIFFERNET_PROGRESS_S"
"""Environment variable: seconds between two progress lines in a log (default: 10)."""
_OF_A_STATION = ("fastapi", "prometheus_client", "starlette", "uvicorn")
"""Modules that every station needs, with the page or without."""
_LOG_INTERVAL_S = 10.0
_REDRAW_INTERVAL_S = 1.0
_LOG_FORMAT = "{desc}: {n_fmt} of {total_fmt}, {rate_fmt}, {elapsed} so far, {remaining} to go"


@dataclass(frozen=True)
class Command:
    """A subcommand of `differnet`.

    Args:
        name: The word typed after `differnet`.
        summary: One line for `differnet --help`.
        configure: Adds the arguments to the command's parser.
        run: Does the work and returns the exit code; raises `DifferNetError` for a user error.
        extra: The pip extras that bring `modules`, separated by commas.
        modules: Import names that the command can't run without.
        check: Refuses combinations of options before any work begins. Single options are checked
            by their types (`commands.arguments`).

    Example:
        >>> Command("hello", "greet", lambda parser: None, lambda arguments: 0).missing
        ()
    """

    name: str
    summary: str
    configure: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    extra: str | None = None
    modules: tuple[str, ...] = ()
    check: Callable[[argparse.Namespace], None] = lambda _: None

    @property
    def missing(self) -> tuple[str, ...]:
        """The `modules` that are not installed; nothing is imported to find out."""
        return tuple(module for module in self.modules if not installed(module))

    @property
    def remedy(self) -> str:
        """How to install what is missing, in sentences."""
        return advice(self.extra or "")


def warn(text: str) -> None:
    """Writes a warning to standard error."""
    sys.stderr.write(f"{coloured('warning:', 'look', sys.stderr)} {text}\n")


def print_result(record: object, text: str, *, as_json: bool) -> None:
    """Prints the result of a command: the record with `--json`, else the text for people."""
    if as_json:
        print_json(record)
    else:
        sys.stdout.write(text + "\n")


def print_json(record: object, indent: int = 2) -> None:
    """Prints a record as JSON on standard output.

    Args:
        record: What `json` can write; it may also be or contain pydantic models.
        indent: Spaces for each level.
    """
    sys.stdout.write(
        json.dumps(record, indent=indent, default=lambda model: model.model_dump(mode="json"))
        + "\n"
    )


def installed(module: str) -> bool:
    """Says whether a module is installed, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # its parent package is missing, or is half installed
        return False


def require_service() -> None:
    """Checks that the packages of a station are installed.

    Raises:
        BackendUnavailableError: One of them is missing.
    """
    if lacking := [module for module in _OF_A_STATION if not installed(module)]:
        raise BackendUnavailableError(
            f"a station needs {', '.join(lacking)}, which is not installed. Run "
            f"`{install_line('service')}`."
        )


def progress(
    items: Iterable[T], description: str, *, total: int | None = None, unit: str = "it"
) -> Iterator[T]:
    """Iterates over `items` and shows the count, the rate and the time left on standard error.

    A terminal has one line, redrawn every second. A log gets a new line every ten seconds, or every
    `DIFFERNET_PROGRESS_S` seconds. Both keep updating while a single item takes long.

    Args:
        items: What to iterate over; passed through unchanged.
        description: What is being done.
        total: Number of items, if `items` has no length.
        unit: What one item is, for the rate.
    """
    from tqdm import tqdm

    if total is None and isinstance(items, Sized):
        total = len(items)
    terminal = sys.stderr.isatty()
    bar = tqdm(
        desc=description,
        total=total,
        unit=f" {unit}",
        dynamic_ncols=terminal,
        file=None if terminal else _Lines(),
        bar_format=None if terminal else _LOG_FORMAT,
        mininterval=0.1 if terminal else math.inf,
    )
    with bar, _repeated(bar.refresh, _REDRAW_INTERVAL_S if terminal else _log_interval_s()):
        for item in items:
            yield item
            bar.update()


@contextmanager
def step(description: str) -> Iterator[None]:
    """Adds a line to standard error every ten seconds while a step that has no count is running.

    Args:
        description: What is being done. A `step` or `progress` inside it is shown in its place.
    """
    from tqdm import tqdm

    started = time.monotonic()

    def show() -> None:
        tqdm.write(f"{description}: {time.monotonic() - started:.0f} s so far", file=sys.stderr)

    with _repeated(show, _LOG_INTERVAL_S):
        yield


_running: list[Callable[[], object]] = []
"""What the steps in progress show, the innermost last."""


@contextmanager
def _repeated(show: Callable[[], object], interval_s: float) -> Iterator[None]:
    """Calls `show` at each interval, except while a step inside is running."""
    done = threading.Event()

    def repeat() -> None:
        while not done.wait(interval_s):
            if _running[-1:] == [show]:
                show()

    thread = threading.Thread(target=repeat, name="progress", daemon=True)
    _running.append(show)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        _running.remove(show)


def _log_interval_s() -> float:
    with suppress(ValueError):
        wanted_s = float(os.environ.get(INTERVAL_VARIABLE, ""))
        if math.isfinite(wanted_s):
            return max(0.1, wanted_s)
    return _LOG_INTERVAL_S


class _Lines:
    """Standard error for a log: each update is a new line instead of overwriting the last."""

    def write(self, text: str) -> int:
        if line := text.strip():
            sys.stderr.write(line + "\n")
        return len(text)

    def flush(self) -> None:
        sys.stderr.flush()
