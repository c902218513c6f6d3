"""A subcommand of `differnet`, as the three packages register it, and the progress line they share.

A package names its commands in the entry-point group `differnet.commands`. The module that
holds a `Command` is imported on every start: what is heavy is imported inside `run`.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

from .installation import advice

T = TypeVar("T")

INTERVAL_VARIABLE = "DIFFERNET_PROGRESS_S"
"""Seconds between two lines in a log, for a program that reads them."""
_LOG_INTERVAL_S = 10.0
_REDRAW_INTERVAL_S = 1.0
_LOG_FORMAT = "{desc}: {n_fmt} of {total_fmt}, {rate_fmt}, {elapsed} so far, {remaining} to go"


def _accept(_: argparse.Namespace) -> None:
    """Has nothing to check."""


@dataclass(frozen=True)
class Command:
    """A subcommand.

    Args:
        name: What is typed after `differnet`.
        summary: One line for `differnet --help`.
        configure: Adds its arguments to the parser.
        run: Does the work and returns the exit code; raises `DifferNetError` for a user's error.
        extra: The pip extra (or extras, by comma) that brings `modules`.
        modules: Import names without which it can't run.
        check: Refuses, before any work, what options say together; one option alone is checked by
            its type (`commands.arguments`, `commands.paths`).
    """

    name: str
    summary: str
    configure: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    extra: str | None = None
    modules: tuple[str, ...] = ()
    check: Callable[[argparse.Namespace], None] = _accept

    @property
    def missing(self) -> tuple[str, ...]:
        """Those of `modules` that are not installed; nothing is imported to find out."""
        return tuple(module for module in self.modules if not installed(module))

    @property
    def remedy(self) -> str:
        """What to do when something is missing, in sentences."""
        return advice(self.extra or "")


def installed(module: str) -> bool:
    """Returns whether a module is there; nothing is imported to find out."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # its parent package is missing, or is half installed
        return False


def progress(
    items: Iterable[T], description: str, *, total: int | None = None, unit: str = "it"
) -> Iterator[T]:
    """Goes through `items` while standard error shows the count, the rate and the time left.

    On a terminal one line is redrawn every second; in a log a line is added every ten seconds, or
    as DIFFERNET_PROGRESS_S says.
    Both go on while a single item takes long.

    Args:
        items: Passed through unchanged.
        description: What is being done.
        total: How many items there are, where `items` has no length.
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
    """Adds a line to standard error every ten seconds while a step without a count goes on.

    Args:
        description: What is being done. What goes on inside it is shown in its place.
    """
    from tqdm import tqdm

    started = time.monotonic()

    def show() -> None:
        seconds = time.monotonic() - started
        tqdm.write(f"{description}: {seconds:.0f} s so far", file=sys.stderr)

    with _repeated(show, _LOG_INTERVAL_S):
        yield


_going_on: list[Callable[[], object]] = []


@contextmanager
def _repeated(show: Callable[[], object], interval_s: float) -> Iterator[None]:
    """Calls `show` at each interval, as long as nothing inside has something to show."""
    done = threading.Event()

    def repeat() -> None:
        while not done.wait(interval_s):
            if _going_on[-1:] == [show]:
                show()

    thread = threading.Thread(target=repeat, name="progress", daemon=True)
    _going_on.append(show)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        _going_on.remove(show)


def _log_interval_s() -> float:
    with suppress(ValueError):
        wanted_s = float(os.environ.get(INTERVAL_VARIABLE, ""))
        if math.isfinite(wanted_s):
            return max(0.1, wanted_s)
    return _LOG_INTERVAL_S


class _Lines:
    """Standard error for a log: every update is a line, none is overwritten."""

    def write(self, text: str) -> int:
        if line := text.strip():
            sys.stderr.write(line + "\n")
        return len(text)

    def flush(self) -> None:
        sys.stderr.flush()
