"""The command line's parser: errors of one line, with what a mistyped word may have meant."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NoReturn

from .colour import coloured
from .printable import printable
from .suggestions import instead, nearest

WRONG_ARGUMENTS = 2
"""Exit code."""

_SHOWN = 60
"""So many characters of a wrong word are shown."""


class Parser(argparse.ArgumentParser):
    """A parser of `differnet`; the subcommands' parsers are of the same class."""

    takes_anything = False
    """Whether it refuses nothing: of a command that can't run here, and says so when it is run."""

    def error(self, message: str) -> NoReturn:
        """Exits with the message."""
        prog = coloured(f"{self.prog}:", "bad", sys.stderr)
        self.exit(WRONG_ARGUMENTS, f"{prog} {message} (--help lists what there is)\n")

    def refuse_unknown(self, argv: Sequence[str]) -> Parser:
        """Exits with a message where an option is unknown; else returns the command's parser.

        argparse reports that last, after options that are missing, which a mistyped one often is.

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
                break  # no command: argparse asks `_check_value`
        return parser

    def _refuse_unknown_option(self, option: str) -> None:
        known = [name for action in self._actions for name in action.option_strings]
        if " " in option or any(name.startswith(option) for name in known):
            return  # argparse takes a word with a space for a value, and unambiguous beginnings
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
        raise argparse.ArgumentError(action, f"{_quoted(value)} is no choice; {advice}")


def completed(action: argparse.Action, names: Callable[[], Iterable[str]]) -> None:
    """Tells the shell's completion what an option takes; see `docs/terminal.md`.

    Args:
        action: Of an option or argument whose values argparse does not know itself.
        names: Called only when the shell asks, so it may import what is heavy.
    """
    vars(action)["completer"] = lambda **_: list(names())


def _quoted(value: object) -> str:
    text = str(value)
    shown = printable(text[:_SHOWN]) + ("..." if len(text) > _SHOWN else "")
    return f"'{shown}'"
