"""Runs `differnet` in this process, as a shell would."""

from __future__ import annotations

from differnet_runtime.cli import main


def differnet(*arguments: object) -> int:
    """Returns the exit code; also of arguments that do not parse, for which `main` exits."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as ended:
        return int(ended.code or 0)
