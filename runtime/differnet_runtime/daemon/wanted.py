"""What an engine should run, as far as it can be told without reading the file."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from ..config import ModelConfig

File = tuple[Path | None, tuple[int, int] | None]
"""A model file, and what tells that it was replaced."""


@dataclass(frozen=True)
class Wanted:
    """A model file and what its engine is made of.

    Args:
        path: The model file; None with a fake backend, and where the store has no model yet.
        stamp: The file's size and time of change, which tell that it was replaced.
        config: `[model]`, or a camera's, without the threshold, which needs no other engine.
    """

    path: Path | None
    stamp: tuple[int, int] | None
    config: ModelConfig

    @classmethod
    def of(cls, path: Path | None, config: ModelConfig) -> Wanted:
        """Looks at the file, which may be gone."""
        stamp = None
        with contextlib.suppress(OSError):
            if path is not None:
                found = path.stat()
                stamp = (found.st_size, found.st_mtime_ns)
        return cls(path, stamp, config)

    @property
    def file(self) -> File:
        """The file itself, whatever else is configured."""
        return self.path, self.stamp
