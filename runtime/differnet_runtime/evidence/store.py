"""The evidence store: keeps images of inspections within limits, written by its own thread."""

from __future__ import annotations

import builtins
import contextlib
import errno
import logging
import queue
import re
import shutil
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..config import EvidenceConfig
from ..database import DamagedError, FullError
from ..errors import OutputError, StoreError
from ..events import InspectionEvent
from ..files import write_bytes
from ..model_file.metadata import ModelMetadata
from ..records import Image
from ..sentences import sentence
from ..service import STOP_S, Service
from .index import (
    EvidenceItem,
    Files,
    Index,
    Kind,
    NoteColumn,
    Sum,
    encode,
    file_names,
    find,
    item_of,
    open_index,
)

_WAITING = 8
"""Frames that may wait for the disk; further ones are dropped."""
_IDLE_S, _TROUBLED_S = 30.0, 1.0
_PROBE = 1 << 16
_ID = re.compile(r"[0-9a-f]{32}")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvidenceStatus:
    """The state of the evidence store.

    Args:
        count: Number of kept inspections.
        bytes: Size of their files.
        dropped: Inspections not kept since the start, because the disk was slow or full.
        deleted: Inspections deleted since the start, because a limit was reached.
        free_bytes: Bytes on the disk that this user may still write; None if that is unknown.
        problem: Why images can't be kept; None if they can.
    """

    count: int
    bytes: int
    dropped: int
    deleted: int
    free_bytes: int | None
    problem: str | None


class Notes:
    """Collects changes to rows from any thread for the thread that writes the index.

    Args:
        labelled: Returns the ids of all labelled pictures; asked when an index is opened.
        wake: Called after each note.
    """

    def __init__(self, labelled: Callable[[], Iterable[str]], wake: Callable[[], None]) -> None:
        self._labelled, self._wake = labelled, wake
        self._lock = threading.Lock()
        self._pending: dict[NoteColumn, dict[str, int]] = {"frames": {}, "labelled": {}}
        self._labelled_here: set[str] = set()

    def count(self, id_: str, frames: int) -> None:
        """Notes how many frames of its part a picture stands for."""
        with self._lock:
            self._pending["frames"][id_] = frames
        self._wake()

    def mark(self, id_: str, *, labelled: bool) -> None:
        """Notes that a picture was labelled, or that its label was removed."""
        with self._lock:
            self._pending["labelled"][id_] = labelled
            (self._labelled_here.add if labelled else self._labelled_here.discard)(id_)
        self._wake()

    def labelled_here(self, id_: str) -> bool:
        """Returns whether a picture was labelled since the start, without reading the disk."""
        with self._lock:
            return id_ in self._labelled_here

    def write(self, index: Index, column: NoteColumn) -> None:
        """Writes the notes of a column.

        Raises:
            StoreError: The index can't be changed; the notes are kept for the next time.
        """
        with self._lock:
            notes = dict(self._pending[column])
        if notes:
            index.update(column, notes)
        with self._lock:
            self._pending[column] = dict(self._pending[column].items() - notes.items())

    def mark_all(self) -> None:
        """Notes all labelled pictures, for an index that was just opened."""
        try:
            labelled = dict.fromkeys(self._labelled(), True)
        except StoreError as error:  # pictures are kept all the same
            log.warning("labelled pictures are not kept longer than others: %s", error)
            return
        with self._lock:
            self._pending["labelled"] = {**labelled, **self._pending["labelled"]}


@dataclass(frozen=True)
class _Job:
    event: InspectionEvent
    image: Image
    heatmap: NDArray[np.float32] | None
    metadata: ModelMetadata | None
    replaces: str | None


class EvidenceStore(Service):
    """Keeps images of inspections within limits; no caller waits for the disk.

    Args:
        folder: Folder of the images and their index; created if it does not exist.
        config: What is kept, and how much of it; may be replaced at any time.
        labelled: Returns the ids of all labelled pictures, which are deleted last.

    Example:
        >>> store = EvidenceStore(Path("state/evidence"), EvidenceConfig(keep="all"))
        >>> store.start()
        >>> store.add(event, frame.image)
        >>> store.stop()
    """

    def __init__(
        self,
        folder: Path,
        config: EvidenceConfig,
        labelled: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        super().__init__("evidence")
        self.config = config
        self.notes = Notes(labelled, self._wake)
        self._folder, self._retention = folder, RetentionPolicy(folder)
        self._index: Index | None = None
        self._jobs: queue.Queue[_Job | None] = queue.Queue(_WAITING)
        self._lock = threading.Lock()
        self._dropped = 0
        self._problem: str | None = None
        self._damaged = False

    def stop(self, timeout_s: float = STOP_S) -> None:
        """Writes what waits, within the timeout, and ends the thread."""
        self._stopping.set()
        self._wake()
        super().stop(timeout_s)

    def _wake(self) -> None:
        if self._jobs.empty():
            with contextlib.suppress(queue.Full):
                self._jobs.put_nowait(None)

    def add(
        self,
        event: InspectionEvent,
        image: Image,
        heatmap: NDArray[np.float32] | None = None,
        metadata: ModelMetadata | None = None,
        replaces: str | None = None,
    ) -> str | None:
        """Queues an inspection with a copy of its image; returns at once.

        Args:
            event: The event with the verdict.
            image: The frame as the camera gave it.
            heatmap: `(rows, columns) float32`; None where the model has no windows.
            metadata: Metadata of the model that gave them.
            replaces: Id of a less anomalous picture of the same part that this one replaces.

        Returns:
            The event's id; None if it can't be kept now.
        """
        if not (self._jobs.full() or self._stopping.is_set()):
            with contextlib.suppress(queue.Full):
                self._jobs.put_nowait(_Job(event, image.copy(), heatmap, metadata, replaces))
                return event.id
        self._drop()
        return None

    def find(self, id_: str) -> EvidenceItem | None:
        """Returns a picture's index entry; None if it is not kept, or no longer.

        Raises:
            StoreError: The index can't be read now.
        """
        if self._index is None:
            raise StoreError(sentence("index_not_open"))
        return self._index.find(id_)

    def list(
        self,
        *,
        limit: int,
        before: str | None = None,
        camera: str | None = None,
        verdict: str | None = None,
    ) -> builtins.list[EvidenceItem]:
        """Returns the index entries, the latest first; none while the index is not open.

        Args:
            limit: Greatest number of entries.
            before: Only entries that were added before this id.
            camera: Only entries of this camera.
            verdict: Only entries with this verdict.

        Raises:
            StoreError: The index can't be read.
        """
        index = self._index
        return [] if index is None else index.list(max(0, limit), before, camera, verdict)

    def path(self, id_: str, kind: Kind = "input") -> Path | None:
        """Returns a picture's file; None if there is none, or the id is not valid."""
        return find(self._folder, id_, kind) if _ID.fullmatch(id_) else None

    @property
    def status(self) -> EvidenceStatus:
        """The current state."""
        index = self._index
        kept = index.kept if index else Sum()
        return EvidenceStatus(
            count=kept.count,
            bytes=kept.bytes,
            dropped=self._dropped,
            deleted=self._retention.deleted,
            free_bytes=free_bytes(self._folder),
            problem=self._problem,
        )

    def _drop(self) -> None:
        with self._lock:
            self._dropped += 1

    def _run(self) -> None:
        job: _Job | None = None
        while True:
            try:
                self._turn(job)
                self._problem = None
            except (StoreError, OutputError) as error:
                if job is not None:
                    self._drop()
                self._fail(error)
            except Exception:  # a bug with one picture must not end the keeping of all others
                log.exception("evidence %s", job.event.id if job is not None else "")
                self._drop()
            if self._stopping.is_set() and self._jobs.empty():
                break
            with contextlib.suppress(queue.Empty):
                job = None
                job = self._jobs.get(timeout=_IDLE_S if self._problem is None else _TROUBLED_S)
        if self._index is not None:
            self._index.close()

    def _turn(self, job: _Job | None) -> None:
        index = self._opened()
        self.notes.write(index, "labelled")
        if job is not None:
            self._keep(index, job)
        elif self._problem is not None:
            self._probe(index)
        else:
            self._retention.make_room(index, self.config, 0)
        if self._jobs.empty():  # else a note may be on a picture that waits to be written
            self.notes.write(index, "frames")
        self._retention.restore_ballast(self.config)

    def _opened(self) -> Index:
        """Returns the index; opens it if it is not open, or was found damaged."""
        if self._index is not None and not self._damaged:
            return self._index
        if self._index is not None:
            self._index.close()
            self._index = None
        damaged, self._damaged = self._damaged, False
        self._index = open_index(self._folder, damaged=damaged)
        self.notes.mark_all()
        return self._index

    def _keep(self, index: Index, job: _Job) -> None:
        event = job.event
        if index.has(event.id):
            return  # inspected again: a crash came before its event was on disk
        # A label belongs to one picture: a labelled one is kept beside its replacement.
        old = job.replaces
        if old and index.has(old, labelled=True):
            old = None
        files = encode(event.id, job.image, job.heatmap, job.metadata, self.config.jpeg_quality)
        need = sum(len(data) for data in files.values())
        item = item_of(event, job.metadata, files)
        self._retention.make_room(index, self.config, need)
        try:
            self._write(index, item, files, old)
        except (OutputError, FullError) as error:
            if not disk_is_full(error):
                raise
            self._retention.free(index, 2 * need)
            self._write(index, item, files, old)

    def _write(self, index: Index, item: EvidenceItem, files: Files, old: str | None) -> None:
        try:
            for name, data in files.items():
                write_bytes(self._folder / name, data)
            index.add([item], [] if old is None else [old])
        except (OutputError, StoreError):
            self._retention.unlink(item.id)
            raise
        if old is not None:
            self._retention.unlink(old)

    def _probe(self, index: Index) -> None:
        """Checks whether the disk can be written again."""
        self._retention.make_room(index, self.config, _PROBE)
        probe = self._folder / ".probe"
        write_bytes(probe, b"\0" * _PROBE)
        probe.unlink(missing_ok=True)

    def _fail(self, error: StoreError | OutputError) -> None:
        self._damaged |= isinstance(error, DamagedError)
        if self._problem is None:
            log.error("no pictures are kept: %s", error)
        self._problem = str(error)


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
