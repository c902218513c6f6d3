"""A subcommand of `differnet`, as the three packages register it, and the progress line they share.

A package names its commands in the entry-point group `differnet.commands`. The module that
holds a `Command` is imported on every start: what is heavy is imported inside `run`.

The command line's parser: errors in one line, with a suggestion for a mistyped word.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import NoReturn, TypeVar

from .installation import advice
from .text import coloured, instead, nearest, printable

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


def warn(text: str) -> None:
    """Writes a warning to standard error."""
    sys.stderr.write(f"{coloured('warning:', 'look', sys.stderr)} {text}\n")


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


WRONG_ARGUMENTS = 2
"""Exit code."""

_SHOWN = 60
"""Characters of a wrong word that a message shows."""


class Parser(argparse.ArgumentParser):
    """The parser of `differnet` and of its subcommands."""

    takes_anything = False
    """Whether it accepts all options: that of a command that can't run here, and will say why."""

    def error(self, message: str) -> NoReturn:
        """Exits with the message."""
        prog = coloured(f"{self.prog}:", "bad", sys.stderr)
        self.exit(WRONG_ARGUMENTS, f"{prog} {message} (--help lists what there is)\n")

    def refuse_unknown(self, argv: Sequence[str]) -> Parser:
        """Exits with a message if an option is unknown; else returns the command's parser.

        argparse would first complain that a required option is missing, even if it was mistyped.

        Args:
            argv: Arguments after the program's name.
        """
        parser = self
        for argument in argv:
            if argument == "--" or parser.takes_anything:
                break
            commands = parser._commands()
            if argument.startswith("--"):
                parser._refuse_unknown_option(argument.partition("=")[0])
            elif argument in commands:
                parser = commands[argument]
            elif commands and not argument.startswith("-"):
                break  # not a command: argparse calls `_check_value`, which says so
        return parser

    def _refuse_unknown_option(self, option: str) -> None:
        known = [name for action in self._actions for name in action.option_strings]
        if " " in option or any(name.startswith(option) for name in known):
            return  # argparse reads a word with a space as a value, and accepts abbreviations
        close = nearest(option, [name for name in known if name.startswith("--")])
        advice = f"; did you mean {close}?" if close else ""
        self.error(f"there is no option {_quoted(option)}{advice}")

    def _commands(self) -> Mapping[str, Parser]:
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                return action.choices
        return {}

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if action.choices is None or value in action.choices:
            return
        advice = instead(str(value), map(str, action.choices))
        if isinstance(action, argparse._SubParsersAction):
            self.error(f"there is no {str(action.metavar).lower()} {_quoted(value)}; {advice}")
        raise argparse.ArgumentError(action, f"{_quoted(value)} is not valid; {advice}")


def completed(action: argparse.Action, names: Callable[[], Iterable[str]]) -> None:
    """Gives the shell's completion the values of an option; see `docs/terminal.md`.

    Args:
        action: The option or argument, whose values argparse does not know.
        names: Returns the values. Called only on completion, so it may import large packages.
    """
    vars(action)["completer"] = lambda **_: list(names())


def _quoted(value: object) -> str:
    text = str(value)
    shown = printable(text[:_SHOWN]) + ("..." if len(text) > _SHOWN else "")
    return f"'{shown}'"
