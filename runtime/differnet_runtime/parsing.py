"""The command line's parser: errors in one line, with a suggestion for a mistyped word."""

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
