"""A subcommand of `differnet`, as the three packages register it, and the progress line they share.

A package names its commands in the entry-point group `differnet.commands`. The module that
holds a `Command` is imported on every start: what is heavy is imported inside `run`.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

_LOG_INTERVAL_S = 10.0
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
        return tuple(module for module in self.modules if not _installed(module))

    @property
    def remedy(self) -> str:
        """What to install when something is missing."""
        extra = f"[{self.extra}]" if self.extra else ""
        return f"pip install 'differnet-edge{extra}'"


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # its parent package is missing, or is half installed
        return False


def progress(
    items: Iterable[T], description: str, *, total: int | None = None, unit: str = "it"
) -> Iterable[T]:
    """Goes through `items` while standard error shows the count, the rate and the time left.

    On a terminal one line is redrawn; in a log a line is added every ten seconds.

    Args:
        items: Passed through unchanged.
        description: What is being done.
        total: How many items there are, where `items` has no length.
        unit: What one item is, for the rate.
    """
    from tqdm import tqdm

    bar: Iterable[T]
    if sys.stderr.isatty():
        bar = tqdm(items, desc=description, total=total, unit=f" {unit}", dynamic_ncols=True)
    else:
        bar = tqdm(
            items,
            desc=description,
            total=total,
            unit=f" {unit}",
            file=_Lines(),
            bar_format=_LOG_FORMAT,
            mininterval=_LOG_INTERVAL_S,
            maxinterval=_LOG_INTERVAL_S,
        )
    return bar


class _Lines:
    """Standard error for a log: every update is a line, none is overwritten."""

    def write(self, text: str) -> int:
        if line := text.strip():
            sys.stderr.write(line + "\n")
        return len(text)

    def flush(self) -> None:
        sys.stderr.flush()
