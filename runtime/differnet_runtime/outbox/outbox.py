"""Takes events at once, commits them in a thread, and keeps them until every sink has them."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..config import EventsConfig
from ..database import DamagedError, open_or_replace, size
from ..errors import StoreError
from ..events import Event, InspectionEvent
from ..records import Origin
from ..service import STOP_S, Service
from ..sinks import Stored
from .table import (
    Count,
    EventTable,
    GonePictures,
    Item,
    JudgedPicture,
    OutboxEntry,
    PartsView,
    Reset,
    text_of,
)

_GATHER_S = 0.02
"""Events of this time are committed together, since flash memory wears with each commit."""
_TIDY_S = _RETRY_S = 1.0
_MOST_COMMITTED = 2000
"""Entries committed in one transaction."""
_MOST_WAITING = 10_000
"""Entries that wait while the disk takes none; beyond that the oldest are dropped."""
_ROOM = 1000
"""With fewer entries waiting, pictures that can wait are judged too."""
_DAY_S = 86400.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OutboxStatus:
    """A snapshot of the outbox.

    Args:
        pending: By sink, the events that it has not acknowledged yet.
        waiting_in_memory: Entries that are not committed yet.
        committed: Events committed since the start.
        dropped: Events lost to a cap since the start.
        oldest_age_s: Age of the oldest event that some sink has not acknowledged, in seconds that
            the station ran; None if there is none.
        bytes: Size of the database.
        problem: Why events can't be committed, or None.
    """

    pending: dict[str, int]
    waiting_in_memory: int
    committed: int
    dropped: int
    oldest_age_s: float | None
    bytes: int
    problem: str | None


class Outbox(Service):
    """Keeps events until every sink has acknowledged them; one thread writes, and nobody waits.

    Args:
        path: File of the database; a damaged one is set aside, and a new one created.
        config: What is kept, and how much of it; may be replaced at any time.

    Example:
        >>> outbox = Outbox(state / "outbox.sqlite", config.events)  # doctest: +SKIP
        >>> outbox.use_sinks(["mqtt"])  # doctest: +SKIP
        >>> outbox.start()  # doctest: +SKIP
        >>> outbox.add(event)  # doctest: +SKIP
    """

    def __init__(self, path: Path, config: EventsConfig) -> None:
        super().__init__("outbox")
        self.config = config
        self._path = path
        self._sinks: tuple[str, ...] | None = None
        self._lock = threading.Lock()
        self._news = threading.Condition(self._lock)
        self._waiting = WaitingItems()
        self._upto: dict[str, int] = {}
        self._marked = False
        self._committed = self._deleted = self._opened = 0
        self._oldest_s: float | None = None
        self._problem: str | None = None
        self._table: EventTable | None = None
        self._damaged = self._sinks_changed = False
        self._wake = threading.Event()
        self._tidied = time.monotonic()
        try:
            self._open()
        except StoreError as error:
            self._fail(error)

    def stop(self, timeout_s: float = STOP_S) -> None:
        """Commits what is still waiting, and closes the database."""
        self._stopping.set()
        self._wake.set()
        super().stop(timeout_s)
        if self._thread.ident is None:  # it was never started
            self._close()

    def use_sinks(self, names: Iterable[str]) -> None:
        """Sets the names of the sinks; a new one gets the events from now on."""
        with self._lock:
            self._sinks, self._sinks_changed = tuple(names), True
        self._wake.set()

    def add(
        self, event: Event, picture: JudgedPicture | None = None, count: Count | None = None
    ) -> None:
        """Takes an event; returns at once, whatever disk and receivers do.

        Args:
            event: The event; `[events] publish` may keep it from the sinks.
            picture: The picture that it is about, if in a file; stored even without any sink.
            count: What it adds to its camera's part counts; stored likewise.
        """
        rejects_only = self.config.publish == "rejects"
        unwanted = rejects_only and isinstance(event, InspectionEvent) and not event.reject
        text = text_of(event)
        with self._lock:
            wanted = self._sinks != () and not unwanted
            if not wanted and picture is None and count is None:
                return
            self._waiting.put(OutboxEntry(event.id, text if wanted else None, picture, count))
        self._wake.set()

    def note(self, what: GonePictures | Reset) -> None:
        """Takes what is no event: pictures that have left their folder, or counts to reset."""
        with self._lock:
            self._waiting.put(what)
        self._wake.set()

    def flush(self, timeout_s: float) -> bool:
        """Waits until everything added so far is on disk; returns False if that takes too long."""
        with self._news:
            arrived = self._waiting.arrived
            return self._news.wait_for(lambda: self._waiting.gone >= arrived, timeout_s)

    @property
    def has_room(self) -> bool:
        """Whether pictures that can wait may be judged; False while the disk falls behind."""
        return self._sinks == () or len(self._waiting) < _ROOM

    def parts(self, cameras: Collection[str]) -> dict[str, PartsView]:
        """Returns the part counts of cameras; empty while the database can't be read."""
        _, table = self.pictures()
        try:
            return {} if table is None else table.parts(cameras)
        except StoreError:
            return {}

    def reset_parts(self, cameras: Collection[str]) -> None:
        """Restarts the part counts of cameras at zero."""
        self.note(Reset(tuple(cameras), time.time()))

    def pictures(self) -> tuple[list[JudgedPicture], EventTable | None]:
        """Returns the pictures not committed yet, latest first, and the table of all others."""
        with self._lock:
            return list(self._waiting.pictures()), self._table

    def batch(self, sink: str, limit: int) -> list[Stored]:
        """Returns the next events that a sink has not acknowledged, in order; may be empty."""
        with self._lock:
            table, row = self._table, self._upto.get(sink)
        if table is None or row is None or row >= table.last:
            return []
        try:
            return table.after(row, limit)
        except StoreError as error:
            if not self._stopping.is_set():
                self._fail(error, table)
            return []

    def delivered(self, sink: str, last: Stored) -> None:
        """Marks all events up to one as acknowledged; after a crash some may be sent again."""
        with self._lock:
            if self._table is None or last.table != self._table.number:
                return  # the database was replaced while the sink waited
            if last.row > self._upto.get(sink, last.row):
                self._upto[sink] = last.row
                self._marked = True

    def wait(self, sink: str, timeout_s: float, stopping: threading.Event) -> None:
        """Waits until there is an event for a sink, or `stopping` is set and `wake` called."""
        with self._news:
            self._news.wait_for(lambda: stopping.is_set() or self._has(sink), timeout_s)

    def wake(self) -> None:
        """Wakes everybody who waits, so that a delivery can stop."""
        with self._news:
            self._news.notify_all()

    def _has(self, sink: str) -> bool:
        table, row = self._table, self._upto.get(sink)
        if table is None or row is None or self._problem is not None:
            return False
        return max(row, table.first - 1) < table.last

    @property
    def status(self) -> OutboxStatus:
        """A snapshot of the outbox."""
        bytes_ = size(self._path)  # before the lock: a disk may take its time
        with self._lock:
            table, oldest_s = self._table, self._oldest_s
            first, last = (table.first, table.last) if table else (1, 0)
            return OutboxStatus(
                pending={
                    name: max(0, last - max(row, first - 1)) for name, row in self._upto.items()
                },
                waiting_in_memory=len(self._waiting),
                committed=self._committed,
                dropped=self._deleted + self._waiting.dropped,
                oldest_age_s=table.now_s() - oldest_s if table and oldest_s else None,
                bytes=bytes_,
                problem=self._problem,
            )

    def _run(self) -> None:
        """Commits, deletes old events, and replaces a damaged database."""
        stopping = False
        while not stopping:
            if not self._stopping.is_set():
                self._wake.wait(_TIDY_S)
            stopping = self._stopping.is_set()
            self._stopping.wait(_GATHER_S)
            self._wake.clear()
            try:
                self._write()
                self._problem = None
            except Exception as error:  # a bug must not end the writing of events unseen
                if not isinstance(error, StoreError):
                    log.exception("outbox")
                    error = StoreError(f"{type(error).__name__} in the outbox (a bug): {error}")
                self._fail(error)
                self._stopping.wait(_RETRY_S)
        self._close()

    def _close(self) -> None:
        with self._lock:
            table, self._table = self._table, None
        if table is not None:
            table.close()

    def _write(self) -> None:
        if self._damaged:
            self._close()
        table = self._table or self._open()
        if self._sinks_changed:
            self._keep_sinks(table)
        while self._commit(table):
            pass
        if self._sinks is not None and time.monotonic() - self._tidied >= _TIDY_S:
            if self._tidy(table):
                self._wake.set()
            else:
                self._tidied = time.monotonic()

    def _open(self) -> EventTable:
        self._opened += 1
        open_it = partial(EventTable, self._path, self._opened)
        table = open_or_replace(self._path, open_it, damaged=self._damaged)
        self._damaged = False
        with self._lock:
            self._table, self._upto = table, table.sinks()
            self._sinks_changed = self._sinks is not None
        return table

    def _keep_sinks(self, table: EventTable) -> None:
        with self._lock:
            names, self._sinks_changed = self._sinks or (), False
        try:
            kept = table.keep_sinks(names)
        except StoreError:
            self._sinks_changed = True
            raise
        with self._lock:
            # What was marked meanwhile counts.
            self._upto = {name: max(row, self._upto.get(name, row)) for name, row in kept.items()}

    def _commit(self, table: EventTable) -> bool:
        """Commits what waits in one transaction; returns whether there may be more."""
        with self._lock:
            items = self._waiting.take(_MOST_COMMITTED)
            marked, self._marked = self._marked, False
            upto = dict(self._upto)
        if not items and not marked:
            return False
        try:
            written = table.write(items, upto)
        except StoreError:
            with self._lock:
                self._marked |= marked
                self._waiting.take_back()
            raise
        with self._news:
            self._committed += written
            committed = self._waiting.written()
            self._news.notify_all()
        for picture in committed:
            picture.committed()
        return len(items) == _MOST_COMMITTED

    def _tidy(self, table: EventTable) -> bool:
        """Deletes some events that every sink has, or that exceed a cap.

        Returns:
            Whether there are more to delete.
        """
        with self._lock:
            taken = min(self._upto.values(), default=table.last)
        oldest_s = table.now_s() - self.config.max_age_days * _DAY_S
        allowed = max(table.last + 1 - self.config.max_events, table.first_since(oldest_s))
        end, before = max(taken + 1, allowed), table.first
        if before < end:
            table.delete(end)
            lost = max(0, table.first - max(before, taken + 1))
            self._deleted += lost
            if lost:
                log.warning("%d events were deleted undelivered: the outbox is at its cap", lost)
        self._oldest_s = table.written_s(max(taken + 1, table.first))
        return table.first < end

    def _fail(self, error: StoreError, table: EventTable | None = None) -> None:
        with self._lock:
            if table is not None and table is not self._table:
                return  # it has been replaced since
            self._damaged = self._damaged or isinstance(error, DamagedError)
        if self._problem is None:
            log.error("events wait in memory: %s", error)
        self._problem = str(error)


class WaitingItems:
    """A queue that takes back what could not be written; its user holds a lock."""

    def __init__(self) -> None:
        self._waiting: deque[Item] = deque()
        self._writing: list[Item] = []
        self.dropped = 0
        """Events that were dropped at the limit."""
        self.arrived = 0
        """All items that were ever added, dropped ones included."""

    def __len__(self) -> int:
        return len(self._waiting) + len(self._writing)

    @property
    def gone(self) -> int:
        """Number of added items that are written or dropped."""
        return self.arrived - len(self)

    def put(self, item: Item) -> None:
        """Appends an item."""
        self._waiting.append(item)
        self.arrived += 1
        self._drop_oldest()

    def take(self, most: int) -> list[Item]:
        """Returns at most `most` of the first items, kept until `written` or `take_back`."""
        count = min(len(self._waiting), most)
        self._writing = [self._waiting.popleft() for _ in range(count)]
        return self._writing

    def written(self) -> list[JudgedPicture]:
        """Forgets the items that were taken; returns the pictures among them."""
        written, self._writing = self._writing, []
        return list(_pictures(written))

    def take_back(self) -> None:
        """Puts the items that were taken back to the front."""
        self._waiting.extendleft(reversed(self._writing))
        self._writing = []
        self._drop_oldest()

    def _drop_oldest(self) -> None:
        while len(self._waiting) > _MOST_WAITING:
            dropped = self._waiting.popleft()
            self.dropped += isinstance(dropped, OutboxEntry) and dropped.text is not None

    def pictures(self) -> Iterator[JudgedPicture]:
        """Yields the pictures that wait, latest first."""
        yield from _pictures(reversed(self._waiting))
        yield from _pictures(reversed(self._writing))


def _pictures(items: Iterable[Item]) -> Iterator[JudgedPicture]:
    for item in items:
        if isinstance(item, OutboxEntry) and item.picture is not None:
            yield item.picture


class PictureLog:
    """Remembers, across restarts, which pictures of a camera's folder or video were judged.

    Args:
        outbox: Commits each picture with its event.
        camera: Name of the camera.
        source: Path of the folder or the video.
    """

    def __init__(self, outbox: Outbox, camera: str, source: str) -> None:
        self.outbox, self.camera, self.source = outbox, camera, source

    def judged(self) -> dict[str, str]:
        """Returns the verdicts on the pictures that were in the source last, by their keys."""
        _, table = self.outbox.pictures()
        try:
            return {} if table is None else table.judged(self.camera, self.source)
        except StoreError as error:
            log.warning(
                "%s is judged again, since the record of judged pictures can't be read: %s",
                self.source,
                error,
            )
            return {}

    def under_way(self) -> set[str]:
        """Returns the keys of judged pictures whose events may not be on disk yet."""
        waiting, _ = self.outbox.pictures()
        mine = (self.camera, self.source)
        return {one.origin.key for one in waiting if (one.camera, one.source) == mine}

    def identical(self, origin: Origin) -> str | None:
        """Returns the name of another judged picture with the same content, or None."""
        if not origin.digest:
            return None
        waiting, table = self.outbox.pictures()
        for other in waiting:
            same = (other.camera, other.origin.digest) == (self.camera, origin.digest)
            if same and (other.source, other.origin.key) != (self.source, origin.key):
                return other.origin.name
        try:
            return None if table is None else table.identical(self.camera, self.source, origin)
        except StoreError:
            return None

    def forget(self, keys: tuple[str, ...]) -> None:
        """Marks pictures as no longer in the source."""
        self.outbox.note(GonePictures(self.camera, self.source, keys))
