"""The command `differnet`: finds the subcommands of all three packages and runs one.

    exit code 0    done
              2    a user error: its message is on standard error (with --debug also the traceback)
              3    `run` gave no verdict on any frame
              130  interrupted

Every subcommand is listed, also one whose packages are missing or that can't be loaded; only
running that one fails.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points, version

from .command import WRONG_ARGUMENTS, Command, Parser
from .errors import DifferNetError
from .logs import PrintableFormatter
from .text import coloured, printable

GROUP = "differnet.commands"
USER_ERROR, INTERRUPTED, PIPE_CLOSED = WRONG_ARGUMENTS, 130, 141


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
    commands = find_commands()
    parser = _parser(commands)
    if "_ARGCOMPLETE" in os.environ:
        _complete(parser)
    argv = sys.argv[1:] if argv is None else argv
    reached = parser.refuse_unknown(argv)
    arguments, unknown = parser.parse_known_args(argv)
    if unknown and not reached.takes_anything:
        reached.error(f"unknown arguments: {printable(' '.join(unknown))}")
    if arguments.command is None:
        parser.print_help()
        return 0
    return _run(commands[arguments.command], arguments)


def find_commands() -> dict[str, Command]:
    """Returns the registered commands by name, in the alphabet's order."""
    entries = {entry.name: entry for entry in entry_points(group=GROUP)}
    return {name: _load(entries[name]) for name in sorted(entries)}


def _load(entry: EntryPoint) -> Command:
    try:
        command = entry.load()
    except Exception as error:  # another package's module: whatever it raises concerns it alone
        return _broken(entry, error)
    if not isinstance(command, Command):
        return _broken(entry, TypeError(f"{entry.value} is not a Command"))
    return command


def _broken(entry: EntryPoint, cause: Exception) -> Command:
    """Stands in for a command that can't be loaded, and says so when it is run."""
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


def _complete(parser: Parser) -> None:
    """Answers the shell, which asks what may come next, and ends the process."""
    try:
        import argcomplete
    except ImportError:  # removed since the shell was told to ask
        return
    argcomplete.autocomplete(parser)


def _parser(commands: dict[str, Command]) -> Parser:
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
        # SUPPRESS: a --debug that was given before the command stays.
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
        _drop_output()
        return PIPE_CLOSED
    return code


def _refuse_missing(command: Command) -> None:
    if command.missing:
        raise DifferNetError(
            f"{command.name} can't run here: {', '.join(command.missing)} can't be imported. "
            f"{command.remedy}"
        )


def _print_any_name() -> None:
    """Lets file names that are not valid UTF-8 be printed, escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """Sends what is still buffered nowhere, so that Python's own last flush is quiet too."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
