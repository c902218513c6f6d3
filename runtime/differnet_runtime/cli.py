"""The command `differnet`: finds the subcommands of all three packages and runs one of them.

    exit code 0    done
              2    user error: the message is on standard error (with --debug also the traceback)
              3    `run` gave no verdict on any frame
              130  interrupted

A subcommand whose packages are missing, or that can't be loaded, is listed all the same; only
running it fails.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import EntryPoint, entry_points, version
from typing import NoReturn

from .command import Command
from .errors import DifferNetError
from .logs import PrintableFormatter
from .text import coloured, instead, nearest, printable

GROUP = "differnet.commands"
USER_ERROR, INTERRUPTED, PIPE_CLOSED = 2, 130, 141
_SHOWN = 60
"""Characters of a mistyped word that a message shows."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `differnet`.

    Args:
        argv: Arguments after the program's name; None takes the process's.

    Returns:
        The exit code.

    Raises:
        SystemExit: By argparse, for --help, --version and arguments that do not parse.
    """
    _print_any_name()
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(PrintableFormatter(several_lines=True))
    argv = sys.argv[1:] if argv is None else argv
    commands = find_commands(argv)
    parser = make_parser(commands)
    if "_ARGCOMPLETE" in os.environ:
        with suppress(ImportError):  # argcomplete was removed after the shell was set up
            import argcomplete

            argcomplete.autocomplete(parser)  # answers the shell and ends the process
    reached = parser.refuse_unknown(argv)
    arguments, unknown = parser.parse_known_args(argv)
    if unknown and not reached.takes_anything:
        reached.error(f"unknown arguments: {printable(' '.join(unknown))}")
    if arguments.command is None:
        parser.print_help()
        return 0
    return _run(commands[arguments.command], arguments)


def find_commands(argv: Sequence[str] = ()) -> dict[str, Command]:
    """Returns the registered commands by name, in alphabetical order.

    Args:
        argv: Arguments after the program's name; if they begin with a command's name, after options
            other than `--help`, only that one is loaded.
    """
    entries = {entry.name: entry for entry in entry_points(group=GROUP)}
    words = (word for word in argv if not word.startswith("-") or word in ("-h", "--help"))
    named = next(words, None)
    return {
        name: _load(entries[name]) for name in ([named] if named in entries else sorted(entries))
    }


def _load(entry: EntryPoint) -> Command:
    try:
        command = entry.load()
    except Exception as error:  # a broken package must not break the other commands
        return _broken(entry, error)
    if isinstance(command, Command):
        return command
    return _broken(entry, TypeError(f"{entry.value} is not a Command"))


def _broken(entry: EntryPoint, cause: Exception) -> Command:
    """Returns a stand-in for a command that can't be loaded; running it says why."""
    text = f"can't be loaded ({type(cause).__name__}: {cause})"

    def run(_: argparse.Namespace) -> int:
        raise DifferNetError(
            f"the command {entry.name!r} {text}. Install differnet-edge again, or report this "
            "with the output of `--debug`."
        ) from cause

    return Command(entry.name, text, _accept_anything, run)


def _accept_anything(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rest", nargs="*", help=argparse.SUPPRESS)
    if isinstance(parser, Parser):
        parser.takes_anything = True


def make_parser(commands: dict[str, Command]) -> Parser:
    """Makes the parser of `differnet`, with a subparser for each command."""
    parser = Parser(
        prog="differnet",
        description="Visual inspection that learns from good parts only and runs at the camera.",
        epilog="`differnet COMMAND --help` shows a command's arguments. A command that needs "
        "extras says how to install them when it is run.",
    )
    parser.add_argument(
        "--version", action="version", version=f"differnet-edge {version('differnet-edge')}"
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of a user error")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for command in commands.values():
        needs = f" (needs: [{command.extra}])" if command.missing else ""
        summary = (command.summary + needs).replace("%", "%%")
        child = subparsers.add_parser(command.name, help=summary, description=summary)
        # SUPPRESS keeps a --debug given before the command's name.
        child.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS
        )
        (_accept_anything if command.missing else command.configure)(child)
    return parser


def _run(command: Command, arguments: argparse.Namespace) -> int:
    try:
        _refuse_missing(command)
        command.check(arguments)
        code = command.run(arguments)
        sys.stdout.flush()
    except DifferNetError as error:
        if arguments.debug:
            traceback.print_exc()
        print(f"{coloured('differnet:', 'bad', sys.stderr)} {error}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("differnet: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        if arguments.debug:
            traceback.print_exc()
        # What is still buffered goes nowhere, so that Python's own last flush is quiet too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    return code


def _refuse_missing(command: Command) -> None:
    if command.missing:
        raise DifferNetError(
            f"{command.name} can't run here: {', '.join(command.missing)} can't be imported. "
            f"{command.remedy}"
        )


def _print_any_name() -> None:
    """Makes the standard streams escape file names that are not valid UTF-8."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class Parser(argparse.ArgumentParser):
    """The parser of `differnet` and of its subcommands."""

    takes_anything = False
    """Whether all options are accepted, because the command can't run here and will say why."""

    def error(self, message: str) -> NoReturn:
        """Exits with the message."""
        prog = coloured(f"{self.prog}:", "bad", sys.stderr)
        self.exit(USER_ERROR, f"{prog} {message} (--help lists what there is)\n")

    def refuse_unknown(self, argv: Sequence[str]) -> Parser:
        """Exits with a message if an option is unknown; otherwise returns the command's parser.

        argparse alone would say of a mistyped required option that it is missing.

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
        nested = (one for one in self._actions if isinstance(one, argparse._SubParsersAction))
        return next((action.choices for action in nested), {})

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if action.choices is None or value in action.choices:
            return
        advice = instead(str(value), map(str, action.choices))
        if isinstance(action, argparse._SubParsersAction):
            self.error(f"there is no {str(action.metavar).lower()} {_quoted(value)}; {advice}")
        raise argparse.ArgumentError(action, f"{_quoted(value)} is not valid; {advice}")


def _quoted(value: object) -> str:
    text = str(value)
    return f"'{printable(text[:_SHOWN])}{'...' * (len(text) > _SHOWN)}'"
