"""A wall clock that a test may step, for a process that is started with `environment`."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

_SOURCE = Path(__file__).with_name("clock.c")


class SteppedClock:
    """Moves the wall clock of the processes that it is preloaded into; skips without a compiler.

    Args:
        folder: For the library and the file with the offset.
    """

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("no C compiler is here; it is in Debian's gcc")
        library, self._file = folder / "clock.so", folder / "clock"
        subprocess.run(
            [compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(_SOURCE), "-ldl"],
            check=True,
        )
        self.step(0)
        self.environment = {"LD_PRELOAD": str(library), "FAKE_CLOCK": str(self._file)}

    def step(self, seconds: int) -> None:
        """Sets the offset from the true time, while the process runs."""
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(struct.pack("q", seconds))
