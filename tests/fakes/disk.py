"""A disk of a station's own, which can really be full."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.running import RunningStation
from tests.servers import require


def own_disk(folder: Path, mib: int = 24) -> tuple[str, ...]:
    """Returns what to put before a command, so that it sees a file system of its own in a folder.

    Args:
        folder: Made if it is not there.
        mib: Size of the file system.
    """
    unshare = require("unshare")
    if os.geteuid() != 0:
        pytest.skip("a file system can be mounted by root only")
    folder.mkdir(exist_ok=True)
    script = f'mount -t tmpfs -o size={mib}m tmpfs {folder} && exec "$0" "$@"'
    return (unshare, "-m", "sh", "-c", script)


@contextlib.contextmanager
def full_disk(station: RunningStation) -> Iterator[None]:
    """Fills the disk of a station that was started with `own_disk`, to the last block."""
    # Its own view of the folder: the file system is mounted in its namespace only.
    root = Path(f"/proc/{station.process.pid}/root")
    fill = root / str(station.folder / "state" / "fill").lstrip("/")
    try:
        for size in (1 << 16, 1):
            with contextlib.suppress(OSError), fill.open("ab", buffering=0) as file:
                while True:
                    file.write(bytes(size))
        yield
    finally:
        fill.unlink(missing_ok=True)
