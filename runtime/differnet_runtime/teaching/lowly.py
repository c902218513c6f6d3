"""Runs a program that gives way to inspection in CPU time, disk access and memory.

Started by `processes.Child`: sets its own priorities, which the program inherits, and then replaces
itself by the program.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform

from ..processes import give_way, join_parent

_IOPRIO_SET = {"x86_64": 251, "aarch64": 30}
_PROCESS, _IDLE = 1, 3 << 13


def main() -> None:
    """Replaces this process by the program that the argument gives, a JSON list of words."""
    channel, argument = join_parent()
    channel.close()
    give_way()
    number = _IOPRIO_SET.get(platform.machine())
    if number is not None:
        ctypes.CDLL(None).syscall(number, _PROCESS, 0, _IDLE)
    command: list[str] = json.loads(argument)
    os.execv(command[0], command)  # noqa: S606 - no shell; the station's own words


if __name__ == "__main__":
    main()
