"""Retention: deletes the oldest pictures when a limit is reached or the disk is full."""

from __future__ import annotations

import contextlib
import errno
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
"""Share of all pictures, and of their bytes, above which those with NO_DECISION are deleted
first."""
_BALLAST = 1 << 20
"""Bytes of a spare file. On a full disk SQLite can't even delete rows: this file is given up."""


class RetentionPolicy:
    """Deletes pictures: first the files, then the row, so that a crash leaves no unknown file.

    Args:
        folder: The folder of the evidence store.

    Example:
        >>> policy = RetentionPolicy(Path("state/evidence"))
        >>> policy.make_room(Index(Path("state/evidence/index.sqlite")), EvidenceConfig(), 500_000)
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._ballast = folder, folder / "ballast"
        self.deleted = 0
        """Pictures deleted since the start."""

    def make_room(self, index: Index, config: EvidenceConfig, need: int) -> None:
        """Deletes pictures until `need` more bytes fit within every limit.

        Raises:
            FullError: They would not fit even if no other picture were kept.
            StoreError: The index can't be changed.
        """
        while aged := [
            picture.id
            for picture in index.oldest(_AT_ONCE)
            if picture.age_s > config.max_age_days * _DAY_S and not picture.labelled
        ]:
            self._delete(index, aged)
        while excess := _next_to_delete(
            index,
            index.kept.count + (need > 0) - config.max_count,
            max(index.kept.bytes + need - config.max_bytes, self._lacking(config, need)),
        ):
            self._delete(index, excess)
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

    def free(self, index: Index, need: int) -> None:
        """Deletes pictures of at least `need` bytes together, on a disk that is full now."""
        end = index.kept.bytes - need
        while ids := _next_to_delete(index, 0, index.kept.bytes - end):
            self._delete(index, ids)

    def _delete(self, index: Index, ids: Sequence[str]) -> None:
        for id_ in ids:
            self.unlink(id_)
        try:
            index.delete(ids)
        except FullError:
            with contextlib.suppress(OSError):
                self._ballast.unlink()
            index.delete(ids)
        self.deleted += len(ids)

    def unlink(self, id_: str) -> None:
        """Deletes the files of a picture."""
        for name in file_names(id_):
            with contextlib.suppress(OSError):
                (self._folder / name).unlink()

    def restore_ballast(self, config: EvidenceConfig) -> None:
        """Writes the spare file again once there is enough room."""
        if not self._ballast.exists() and self._lacking(config, 3 * _BALLAST) <= 0:
            with contextlib.suppress(OutputError):
                write_bytes(self._ballast, b"\0" * _BALLAST)


def _next_to_delete(index: Index, count: int, bytes_: int) -> list[str]:
    """Returns the next pictures to delete, up to 64, until so many and so many bytes are freed.

    Pictures with NO_DECISION go first while there are too many of them: one dark night must not
    displace a year of defects. Labelled pictures go last, whatever their verdict.
    """
    kept, undecided = index.kept, index.undecided
    ids: list[str] = []
    oldest = index.oldest(_AT_ONCE, undecided=True) if _too_many(undecided, kept) else []
    first = bool(oldest)
    for picture in oldest or index.oldest(_AT_ONCE):
        if (count <= 0 and bytes_ <= 0) or (first and not _too_many(undecided, kept)):
            break
        ids.append(picture.id)
        count, bytes_ = count - 1, bytes_ - picture.bytes
        kept = kept.plus(-1, -picture.bytes)
        undecided = undecided.plus(-1, -picture.bytes)
    return ids


def _too_many(undecided: Sum, kept: Sum) -> bool:
    return undecided.count > _UNDECIDED * kept.count or undecided.bytes > _UNDECIDED * kept.bytes


def free_bytes(folder: Path) -> int | None:
    """Returns the bytes on a disk that this user may still write; None if that is unknown."""
    with contextlib.suppress(OSError):
        return shutil.disk_usage(folder).free
    return None


def disk_is_full(error: Exception) -> bool:
    """Returns whether an error came from a full disk or an exhausted quota."""
    cause = error.__cause__
    return isinstance(error, FullError) or (
        isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
    )
