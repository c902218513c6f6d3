"""What a process and all its descendants hold: memory, descriptors, threads."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Usage:
    """Summed over the processes.

    Args:
        processes: How many.
        private_mib: Memory that is theirs alone, in MiB: shared pages of code do not count.
        descriptors: Open files, pipes and sockets.
        threads: How many.
    """

    processes: int
    private_mib: float
    descriptors: int
    threads: int


def usage(pid: int) -> Usage:
    """Measures a process and its descendants; one that ends meanwhile counts for nothing."""
    found = [_of(process) for process in [pid, *descendants(pid)]]
    counted = [one for one in found if one is not None]
    return Usage(
        len(counted),
        sum(one[0] for one in counted) / 1024,
        sum(one[1] for one in counted),
        sum(one[2] for one in counted),
    )


def descendants(pid: int) -> list[int]:
    """Returns the process ids of all that a process has started, and they in turn."""
    children: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            children += [int(child) for child in task.read_text().split()]
    return children + [deeper for child in children for deeper in descendants(child)]


def _of(pid: int) -> tuple[int, int, int] | None:
    folder = Path(f"/proc/{pid}")
    try:
        rollup = (folder / "smaps_rollup").read_text()
        private = sum(
            int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_")
        )
        return private, len(list((folder / "fd").iterdir())), len(list((folder / "task").iterdir()))
    except OSError:
        return None
