"""The memory that is free for a training, and the memory that a training takes."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_MEMINFO, _PROC, _GROUPS = Path("/proc/meminfo"), Path("/proc"), Path("/sys/fs/cgroup")
_OWN_GROUP = Path("/proc/self/cgroup")
MIB = 1 << 20


def free_bytes() -> int | None:
    """Returns the free memory, of the machine or of the tightest control group around this process.

    None if it can't be determined.
    """
    found = []
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = _MEMINFO.read_text().splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable:"))
        found.append(int(line.split()[1]) << 10)
    with contextlib.suppress(OSError, StopIteration):
        lines = _OWN_GROUP.read_text().splitlines()
        name = next(line for line in lines if line.startswith("0::")).removeprefix("0::/")
        folder = _GROUPS / name
        for group in (folder, *folder.parents):
            if group.is_relative_to(_GROUPS):
                found += _free_in(group)
    return max(0, min(found)) if found else None


def _free_in(group: Path) -> list[int]:
    """Returns what a control group has left; empty if it has no limit."""
    with contextlib.suppress(OSError, ValueError):
        bound = int((group / "memory.max").read_text())  # "max": no limit
        used = int((group / "memory.current").read_text())
        stat = (group / "memory.stat").read_text().splitlines()
        cached = [int(line.split()[1]) for line in stat if line.startswith("inactive_file ")]
        return [bound - used + sum(cached)]
    return []


def taken_bytes(group: int) -> int:
    """Returns the memory of a process group, without mapped files.

    Args:
        group: Id of the process group.
    """
    return sum(_own_bytes(folder) for folder in _processes(group))


def _processes(group: int) -> list[Path]:
    found = []
    for folder in _PROC.iterdir():
        with contextlib.suppress(ValueError, OSError):  # no process, or it has just ended
            if os.getpgid(int(folder.name)) == group:
                found.append(folder)
    return found


def _own_bytes(process: Path) -> int:
    kib = 0
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in (process / "status").read_text(errors="replace").splitlines():
            if line.startswith(("RssAnon:", "RssShmem:")):
                kib += int(line.split()[1])
    return kib << 10
