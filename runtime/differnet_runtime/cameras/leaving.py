"""What becomes of a folder's pictures once they are judged: moved, deleted, or left."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from pathlib import Path

from ..config.models import AfterVerdict

JUDGED = "judged"
"""The subfolder that pictures are moved into."""

log = logging.getLogger(__name__)


class Leaving:
    """Moves or deletes pictures; what that fails for is said once, until it works again.

    Args:
        folder: Of the pictures.
        after: What becomes of them.
    """

    def __init__(self, folder: Path, after: AfterVerdict) -> None:
        self._folder, self._after = folder, after
        self._failed = False

    def leave(self, name: str) -> bool:
        """Moves or deletes a picture that is there; returns whether it has left."""
        path = self._folder / name
        try:
            if self._after == "delete":
                path.unlink()
            else:
                path.rename(self._free(name))
        except FileNotFoundError:
            return True  # somebody else took it
        except OSError as error:
            if not self._failed:
                log.warning(
                    "%s: judged, but can't be %sd (%s), nor perhaps can others: it stays, and is "
                    "not judged again. Give the station the right to write there.",
                    path,
                    self._after,
                    error.strerror or error,
                )
            self._failed = True
            return False
        self._failed = False
        return True

    def _free(self, name: str) -> Path:
        """Returns a path in the subfolder where no picture lies."""
        judged = self._folder / JUDGED
        judged.mkdir(exist_ok=True)
        return next(path for path in _paths(judged / name) if not path.exists())


def _paths(path: Path) -> Iterator[Path]:
    yield path
    for number in itertools.count(2):
        yield path.with_name(f"{path.stem}-{number}{path.suffix}")
