"""Becomes a program that gives way to inspection in everything: time, disk and memory.

Run as `python -m differnet_runtime.teaching.lowly JSON`. What is set here is kept by the program
that takes this one's place.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import sys
from pathlib import Path

from ..metadata import Part
from ..processes import tie_to

_NICEST = 19
_IOPRIO_SET = {"x86_64": 251, "aarch64": 30}
_PROCESS, _IDLE = 1, 3 << 13
_FIRST_TO_GO = "1000"


class Lowly(Part):
    """What is to be run.

    Args:
        channel: Descriptor of the parent's channel, which is not used.
        parent: Process id of the station: the program ends with it.
        command: The program, and its arguments.
    """

    channel: int
    parent: int
    command: tuple[str, ...]


def main(argument: str) -> None:
    """Takes the program's place.

    Args:
        argument: A `Lowly` as JSON.
    """
    wanted = Lowly.model_validate_json(argument)
    tie_to(wanted.parent)
    os.close(wanted.channel)
    with contextlib.suppress(OSError):
        os.nice(_NICEST)
    number = _IOPRIO_SET.get(platform.machine())
    if number is not None:
        ctypes.CDLL(None).syscall(number, _PROCESS, 0, _IDLE)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO)
    os.execv(wanted.command[0], wanted.command)  # noqa: S606 - no shell; the station's own words


if __name__ == "__main__":
    main(sys.argv[1])
