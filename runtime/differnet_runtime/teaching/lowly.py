"""Runs a program that gives way to inspection in CPU time, disk access and memory.

Started as `python -m differnet_runtime.teaching.lowly JSON`: sets its own priorities, which the
program inherits, and then replaces itself by the program.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys

from ..model_file.contract import StrictModel
from ..processes import give_way, tie_to

_IOPRIO_SET = {"x86_64": 251, "aarch64": 30}
_PROCESS, _IDLE = 1, 3 << 13


class Lowly(StrictModel):
    """The program to run.

    Args:
        channel: Descriptor of the parent's channel; closed, since it is not used.
        parent: Process id of the station, with which the program ends.
        command: The program and its arguments.
    """

    channel: int
    parent: int
    command: tuple[str, ...]


def main(argument: str) -> None:
    """Replaces this process by the program.

    Args:
        argument: A `Lowly` as JSON.
    """
    wanted = Lowly.model_validate_json(argument)
    tie_to(wanted.parent)
    os.close(wanted.channel)
    give_way()
    number = _IOPRIO_SET.get(platform.machine())
    if number is not None:
        ctypes.CDLL(None).syscall(number, _PROCESS, 0, _IDLE)
    os.execv(wanted.command[0], wanted.command)  # noqa: S606 - no shell; the station's own words


if __name__ == "__main__":
    main(sys.argv[1])
