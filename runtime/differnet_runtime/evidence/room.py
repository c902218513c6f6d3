"""Room for the next picture: older ones go when a cap is reached, or the disk is full."""

from __future__ import annotations

import contextlib
import errno
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from ..config import EvidenceConfig
from ..database import FullError
from ..errors import OutputError
from ..files import write_bytes
from ..sentences import sentence
from .index import Index, Sum
from .pictures import file_names

_AT_ONCE = 64
_DAY_S = 86400.0
_UNDECIDED = 0.2
"""Share of the pictures, and of the bytes, up to which those without a decision are like others."""
_BALLAST = 1 << 20
"""Bytes. On a full disk SQLite can't even delete: this file then gives it the room."""
_BALLAST_NAME = "ballast"

log = logging.getLogger(__name__)


def free_bytes(folder: Path) -> int | None:
    """Returns the bytes that a disk has left for this user; None if that can't be told."""
    with contextlib.suppress(OSError):
        return shutil.disk_usage(folder).free
    return None


def disk_is_full(error: Exception) -> bool:
    """Says whether room would have helped."""
    cause = error.__cause__
    return isinstance(error, FullError) or (
        isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
    )


def _giving_way(index: Index, count: int, bytes_: int) -> list[str]:
    """Returns the next pictures to go, some at a time, until so many and so many bytes are gone.

    Those without a decision go first as long as there are too many of them: a dark night of one
    camera must not push out a year of defects. Labelled ones go last, whatever their verdict.
    """
    kept, undecided = index.kept, index.undecided
    going: list[str] = []
    oldest = index.oldest(_AT_ONCE, undecided=True) if _too_many(undecided, kept) else []
    first = bool(oldest)
    for picture in oldest or index.oldest(_AT_ONCE):
        if (count <= 0 and bytes_ <= 0) or (first and not _too_many(undecided, kept)):
            break
        going.append(picture.id)
        count, bytes_ = count - 1, bytes_ - picture.bytes
        kept = kept.plus(-1, -picture.bytes)
        undecided = undecided.plus(-1, -picture.bytes)
    return going


def _too_many(undecided: Sum, kept: Sum) -> bool:
    return undecided.count > _UNDECIDED * kept.count or undecided.bytes > _UNDECIDED * kept.bytes


class Room:
    """Deletes pictures: first the files, then the row, so that no file is ever forgotten.

    Args:
        folder: Of the store.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._ballast = folder, folder / _BALLAST_NAME
        self.deleted = 0

    def make(self, index: Index, config: EvidenceConfig, need: int) -> None:
        """Deletes pictures until so many bytes fit within every cap.

        Raises:
            FullError: They don't fit even without any other picture.
            StoreError: The index can't be changed.
        """
        while aged := [
            picture.id
            for picture in index.oldest(_AT_ONCE)
            if picture.age_s > config.max_age_days * _DAY_S and not picture.labelled
        ]:
            self.delete(index, aged)
        while going := _giving_way(
            index,
            index.kept.count + (need > 0) - config.max_count,
            max(index.kept.bytes + need - config.max_bytes, self._lacking(config, need)),
        ):
            self.delete(index, going)
        if self._lacking(config, need) > 0:
            raise FullError(
                sentence(
                    "disk_reserve",
                    folder=self._folder,
                    free=free_bytes(self._folder),
                    reserve=config.min_free_bytes,
                )
            )

    def _lacking(self, config: EvidenceConfig, need: int) -> int:
        free = free_bytes(self._folder)
        return 0 if free is None else need + config.min_free_bytes - free

    def make_at_least(self, index: Index, need: int) -> None:
        """Deletes pictures of so many bytes together, for a disk that is full now."""
        end = index.kept.bytes - need
        while going := _giving_way(index, 0, index.kept.bytes - end):
            self.delete(index, going)

    def delete(self, index: Index, ids: Sequence[str]) -> None:
        """Deletes pictures.

        Raises:
            StoreError: Files are gone, but rows could not be deleted; the next start does it.
        """
        for id_ in ids:
            self.unlink(id_)
        try:
            index.delete(ids)
        except FullError:
            self.give_up_ballast()
            index.delete(ids)
        self.deleted += len(ids)

    def unlink(self, id_: str) -> None:
        """Deletes a picture's files, those that are there."""
        for name in file_names(id_):
            with contextlib.suppress(OSError):
                (self._folder / name).unlink()

    def give_up_ballast(self) -> None:
        """Deletes the ballast."""
        with contextlib.suppress(OSError):
            self._ballast.unlink()

    def restore_ballast(self, config: EvidenceConfig) -> None:
        """Lays the ballast down again once there is room enough."""
        if self._ballast.exists() or self._lacking(config, 3 * _BALLAST) > 0:
            return
        with contextlib.suppress(OutputError):
            write_bytes(self._ballast, b"\0" * _BALLAST)
