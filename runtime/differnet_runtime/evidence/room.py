"""Room for the next picture: the oldest go when a cap is reached, or the disk is full."""

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
from .index import Index
from .pictures import file_names

_AT_ONCE = 64
_DAY_S = 86400.0
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


class Room:
    """Deletes pictures: first the files, then the row, so that no file is ever forgotten.

    Args:
        folder: Of the store.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._ballast = folder, folder / _BALLAST_NAME
        self.deleted = 0

    def make(self, index: Index, config: EvidenceConfig, need: int) -> None:
        """Deletes the oldest pictures until so many bytes fit within every cap.

        Raises:
            FullError: They don't fit even without any other picture.
            StoreError: The index can't be changed.
        """
        while oldest := index.oldest(_AT_ONCE):
            too_many = index.count + (need > 0) - config.max_count
            too_big = index.bytes + need - config.max_bytes
            lacking = self._lacking(config, need)
            going: list[tuple[str, int]] = []
            for id_, size, age_s in oldest:
                gone = sum(bytes_ for _, bytes_ in going)
                old = age_s > config.max_age_days * _DAY_S
                if not (old or len(going) < too_many or gone < max(too_big, lacking)):
                    break
                going.append((id_, size))
            if going:
                self.delete(index, going)
            if len(going) < len(oldest):
                break
        if self._lacking(config, need) > 0:
            raise FullError(
                f"{self._folder}: {free_bytes(self._folder)} bytes are free, and "
                f"{config.min_free_bytes} are to be left (evidence.min_free_bytes); make room"
            )

    def _lacking(self, config: EvidenceConfig, need: int) -> int:
        free = free_bytes(self._folder)
        return 0 if free is None else need + config.min_free_bytes - free

    def make_at_least(self, index: Index, need: int) -> None:
        """Deletes the oldest pictures of so many bytes together, for a disk that is full now."""
        gone = 0
        while gone < need and (oldest := index.oldest(1)):
            [(id_, size, _)] = oldest
            self.delete(index, [(id_, size)])
            gone += size

    def delete(self, index: Index, pictures: Sequence[tuple[str, int]]) -> None:
        """Deletes pictures by id and bytes.

        Raises:
            StoreError: Files are gone, but rows could not be deleted; the next start does it.
        """
        for id_, _ in pictures:
            self.unlink(id_)
        try:
            index.delete(pictures)
        except FullError:
            self.give_up_ballast()
            index.delete(pictures)
        self.deleted += len(pictures)

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
