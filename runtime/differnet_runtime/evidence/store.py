"""The store of evidence: pictures of what was judged, written by a thread of its own."""

from __future__ import annotations

import builtins
import contextlib
import logging
import queue
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..config import EvidenceConfig
from ..database import DamagedError, FullError, set_aside
from ..errors import OutputError, StoreError
from ..events import InspectionEvent
from ..files import write_bytes
from ..metadata import ModelMetadata
from ..records import Image, Verdict
from ..sentences import sentence
from .index import Index
from .notes import Notes
from .pictures import Files, encode, find
from .records import EvidenceItem, EvidenceStatus, Kind, item_of
from .room import Room, disk_is_full, free_bytes
from .sweeping import adopt, sweep

_WAITING = 8
"""Frames; what comes while so many wait for the disk is not kept."""
_IDLE_S, _TROUBLED_S = 30.0, 1.0
_PROBE = 1 << 16
_ID = re.compile(r"[0-9a-f]{32}")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Job:
    event: InspectionEvent
    image: Image
    heatmap: NDArray[np.float32] | None
    metadata: ModelMetadata | None
    replaces: str | None


class Evidence:
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
        self.config = config
        self.notes = Notes(labelled, self._wake)
        self._folder, self._room = folder, Room(folder)
        self._index: Index | None = None
        self._jobs: queue.Queue[_Job | None] = queue.Queue(_WAITING)
        self._lock = threading.Lock()
        self._good = self._dropped = 0
        self._problem: str | None = None
        self._damaged = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="evidence", daemon=True)

    def start(self) -> None:
        """Starts the thread; it first sweeps up what a crash has left."""
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        """Writes what waits, if that goes so fast, and ends."""
        self._stopping.set()
        with contextlib.suppress(queue.Full):
            self._jobs.put_nowait(None)
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    @property
    def alive(self) -> bool:
        """Whether the thread that writes runs."""
        return self._thread.is_alive()

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
        if self._damaged and path.exists():
            set_aside(path)
        self._damaged = False
        try:
            index = Index(path)
        except DamagedError:
            set_aside(path)
            index = Index(path)
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
