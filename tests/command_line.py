"""Runs `differnet` in this process, as a shell would."""

from __future__ import annotations

import argparse

from differnet_runtime.cli import main


def differnet(*arguments: object) -> int:
    """Returns the exit code; also of arguments that do not parse, for which `main` exits."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as ended:
        return int(ended.code or 0)


def actions_of(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Returns a parser's options and arguments; argparse has no public way to ask for them."""
    return list(parser._actions)


def exclusive_groups(parser: argparse.ArgumentParser) -> list[tuple[bool, list[argparse.Action]]]:
    """Returns the options that exclude each other, and whether one of them is required."""
    return [(one.required, one._group_actions) for one in parser._mutually_exclusive_groups]
