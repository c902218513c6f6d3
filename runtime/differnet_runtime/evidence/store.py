"""The store of evidence: pictures of what was judged, written by a thread of its own.

What is noted of pictures after they were kept: labels, and further frames of the same part.

After a crash: files that no row knows go, and rows whose files are gone.
"""

from __future__ import annotations

import builtins
import contextlib
import logging
import queue
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..config import EvidenceConfig
from ..database import DamagedError, FullError, open_or_replace
from ..errors import OutputError, StoreError
from ..events import InspectionEvent
from ..files import write_bytes
from ..model_file.metadata import ModelMetadata
from ..records import Image, Verdict
from ..sentences import sentence
from ..service import STOP_S, Service
from .index import EvidenceItem, EvidenceStatus, Index, Kind, item_of
from .room import Files, RetentionPolicy, disk_is_full, encode, file_names, find, free_bytes, id_of

log = logging.getLogger(__name__)


class Notes:
    """Collects notes from any thread for the one that writes the index.

    Args:
        labelled: Returns the ids of all labelled pictures, for an index that is opened.
        wake: Called after each note.
    """

    def __init__(self, labelled: Callable[[], Iterable[str]], wake: Callable[[], None]) -> None:
        self._labelled, self._wake = labelled, wake
        self._lock = threading.Lock()
        self._frames: dict[str, int] = {}
        self._marks: dict[str, bool] = {}
        self._labelled_here: set[str] = set()

    def count(self, id_: str, frames: int) -> None:
        """Notes how many frames of its part a picture stands for."""
        with self._lock:
            self._frames[id_] = frames
        self._wake()

    def mark(self, id_: str, *, labelled: bool) -> None:
        """Notes that a picture was labelled, or is no longer."""
        with self._lock:
            self._marks[id_] = labelled
            if labelled:
                self._labelled_here.add(id_)
            else:
                self._labelled_here.discard(id_)
        self._wake()

    def labelled_here(self, id_: str) -> bool:
        """Returns whether a picture was labelled since the start; asks no disk."""
        with self._lock:
            return id_ in self._labelled_here

    def write_labels(self, index: Index) -> None:
        """Writes down which pictures were labelled since.

        Raises:
            StoreError: The index can't be changed; the notes are kept for the next time.
        """
        with self._lock:
            marks = dict(self._marks)
        if marks:
            index.set_labelled(marks)
        with self._lock:
            self._marks = {id_: one for id_, one in self._marks.items() if marks.get(id_) != one}

    def write_frames(self, index: Index) -> None:
        """Writes down the frames that were counted since, of pictures that have their rows.

        Raises:
            StoreError: The index can't be changed; the notes are kept for the next time.
        """
        with self._lock:
            frames = dict(self._frames)
        if frames:
            index.set_frames(frames)
        with self._lock:
            self._frames = {
                id_: count for id_, count in self._frames.items() if frames.get(id_) != count
            }

    def write_all(self, index: Index) -> None:
        """Marks every labelled picture of an index that was just opened."""
        try:
            labelled = self._labelled()
        except StoreError as error:  # pictures are kept all the same
            log.warning("labelled pictures are not kept longer than others: %s", error)
            return
        index.set_labelled(dict.fromkeys(labelled, True))


UNKNOWN = "UNKNOWN"
"""Verdict of a picture whose row is lost."""


def sweep(folder: Path, index: Index) -> tuple[int, int]:
    """Brings files and rows together.

    Returns:
        How many files were deleted, and how many rows.
    """
    known, seen, files = index.ids(), set(), 0
    for path in _files(folder):
        id_ = id_of(path)
        if id_ not in known:
            path.unlink(missing_ok=True)
            files += 1
        elif ".heat." not in path.name and ".small." not in path.name:
            seen.add(id_)
    lost = sorted(known - seen)
    for id_ in lost:
        for name in file_names(id_):
            (folder / name).unlink(missing_ok=True)
    if lost:
        index.delete(lost)
    if files or lost:
        log.warning("%s: %d files without a row, %d rows without files", folder, files, len(lost))
    return files, len(lost)


def adopt(folder: Path, index: Index) -> None:
    """Makes rows for pictures whose index was lost; what else was known of them stays lost."""
    items = []
    for id_ in {id_of(path) for path in _files(folder)} - {""}:
        if (image := find(folder, id_, "input")) is None:
            continue
        at_s = image.stat().st_mtime
        paths = [folder / name for name in file_names(id_) if (folder / name).exists()]
        size = sum(path.stat().st_size for path in paths)
        heatmap = find(folder, id_, "heatmap") is not None
        items.append(EvidenceItem(id_, at_s, "", None, UNKNOWN, None, None, None, heatmap, size))
    if items:
        index.add(sorted(items, key=lambda item: item.at_s))
        log.warning("%s: %d pictures without an index have one again", folder, len(items))


def _files(folder: Path) -> Iterator[Path]:
    for shard in folder.glob("[0-9a-f][0-9a-f]"):
        yield from shard.iterdir()


_WAITING = 8
"""Frames; what comes while so many wait for the disk is not kept."""
_IDLE_S, _TROUBLED_S = 30.0, 1.0
_PROBE = 1 << 16
_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class _Job:
    event: InspectionEvent
    image: Image
    heatmap: NDArray[np.float32] | None
    metadata: ModelMetadata | None
    replaces: str | None


class EvidenceStore(Service):
    """Keeps pictures within caps. Nobody waits for its disk.

    Args:
        folder: Of the pictures and their index; made where there is none.
        config: What is kept, and how much of it; may be replaced at any time.
        labelled: Returns the ids of all labelled pictures, which are kept longest.
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
        self._folder, self._room = folder, RetentionPolicy(folder)
        self._index: Index | None = None
        self._jobs: queue.Queue[_Job | None] = queue.Queue(_WAITING)
        self._lock = threading.Lock()
        self._good = self._dropped = 0
        self._problem: str | None = None
        self._damaged = False

    def stop(self, timeout_s: float = STOP_S) -> None:
        """Writes what waits, if that goes so fast, and ends."""
        self._stopping.set()
        with contextlib.suppress(queue.Full):
            self._jobs.put_nowait(None)
        super().stop(timeout_s)

    def wants(self, verdict: str) -> bool:
        """Says whether the picture of such a verdict is to be kept; counts the good ones."""
        keep, every = self.config.keep, self.config.good_every
        if keep == "none":
            return False
        if verdict != Verdict.GOOD or keep == "all":
            return True
        with self._lock:
            self._good += 1
            return every > 0 and self._good % every == 0

    def add(
        self,
        event: InspectionEvent,
        image: Image,
        heatmap: NDArray[np.float32] | None = None,
        metadata: ModelMetadata | None = None,
        replaces: str | None = None,
    ) -> str | None:
        """Takes a picture, copied; returns at once.

        Args:
            event: Its verdict.
            image: The frame as the camera gave it.
            heatmap: `(rows, columns) float32` scores of the windows, if there are any.
            metadata: Of the model that gave them.
            replaces: Id of the picture of the same part whose place it takes, since it is worse.

        Returns:
            Its id, which is the event's; None where it can't be kept now.
        """
        with self._lock:
            if self._jobs.full() or self._stopping.is_set():
                self._dropped += 1
                return None
        copy: Image = image.copy()
        try:
            self._jobs.put_nowait(_Job(event, copy, heatmap, metadata, replaces))
        except queue.Full:
            self._drop()
            return None
        return event.id

    def _wake(self) -> None:
        if self._jobs.empty():
            with contextlib.suppress(queue.Full):
                self._jobs.put_nowait(None)

    def find(self, id_: str) -> EvidenceItem | None:
        """Returns what is known of a picture; None where it is not kept (any more).

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
        """Returns what is kept, the latest first.

        Args:
            limit: No more than so many.
            before: Only what was kept before this id.
            camera: Only of this one.
            verdict: Only with this one.

        Raises:
            StoreError: The index can't be read.
        """
        index = self._index
        return [] if index is None else index.list(max(0, limit), before, camera, verdict)

    def path(self, id_: str, kind: Kind = "input") -> Path | None:
        """Returns a picture's file; None if there is none, or the id is none."""
        return find(self._folder, id_, kind) if _ID.fullmatch(id_) else None

    @property
    def status(self) -> EvidenceStatus:
        """How things stand."""
        index = self._index
        return EvidenceStatus(
            count=index.kept.count if index else 0,
            bytes=index.kept.bytes if index else 0,
            dropped=self._dropped,
            deleted=self._room.deleted,
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
        self.notes.write_labels(index)
        if job is not None:
            self._keep(index, job)
        elif self._problem is not None:
            self._probe(index)
        else:
            self._room.make(index, self.config, 0)
        if self._jobs.empty():  # else one may be of a picture that waits to be written
            self.notes.write_frames(index)
        self._room.restore_ballast(self.config)

    def _opened(self) -> Index:
        if self._damaged and self._index is not None:
            self._index.close()
            self._index = None
        if self._index is None:
            self._index = self._open()
        return self._index

    def _open(self) -> Index:
        path = self._folder / "index.sqlite"
        damaged, self._damaged = self._damaged, False
        index = open_or_replace(path, lambda: Index(path), damaged=damaged)
        with contextlib.ExitStack() as undo:
            undo.callback(index.close)
            try:
                if index.kept.count == 0:
                    adopt(self._folder, index)
                sweep(self._folder, index)
                self.notes.write_all(index)
            except OSError as error:
                raise StoreError(f"{self._folder}: {error.strerror or error}") from error
            undo.pop_all()
        return index

    def _keep(self, index: Index, job: _Job) -> None:
        event = job.event
        if index.has(event.id):
            return  # judged again: a crash came before its event was on disk
        # A label is about that very picture. Its event names the new one already: both are kept.
        old = None if job.replaces and index.is_labelled(job.replaces) else job.replaces
        files = encode(event.id, job.image, job.heatmap, job.metadata, self.config.jpeg_quality)
        need = sum(len(data) for data in files.values())
        item = item_of(event, job.metadata, files)
        self._room.make(index, self.config, need)
        try:
            self._write(index, item, files, old)
        except (OutputError, FullError) as error:
            if not disk_is_full(error):
                raise
            self._room.make_at_least(index, 2 * need)
            self._write(index, item, files, old)

    def _write(self, index: Index, item: EvidenceItem, files: Files, old: str | None) -> None:
        try:
            for name, data in files.items():
                write_bytes(self._folder / name, data)
            index.add([item], [] if old is None else [old])
        except (OutputError, StoreError):
            self._room.unlink(item.id)
            raise
        if old is not None:
            self._room.unlink(old)

    def _probe(self, index: Index) -> None:
        """Finds out whether there is room again."""
        self._room.make(index, self.config, _PROBE)
        probe = self._folder / ".probe"
        write_bytes(probe, b"\0" * _PROBE)
        probe.unlink(missing_ok=True)

    def _fail(self, error: StoreError | OutputError) -> None:
        self._damaged = self._damaged or isinstance(error, DamagedError)
        if self._problem is None:
            log.error("no pictures are kept: %s", error)
        self._problem = str(error)
