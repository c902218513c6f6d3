"""The outbox's database: events in order, and how far each sink has taken them.

Which pictures of folders and videos were judged: rows beside the events, in the same database.

A row is committed together with its event, so a crash leaves both or neither.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..database import DamagedError, RunningClock, connect, mapped, set_aside, transaction
from ..events import Event
from ..records import Origin
from ..sinks import Stored
from . import records
from .records import GonePictures, JudgedPicture, OutboxEntry

SCHEMA = """
CREATE TABLE IF NOT EXISTS judged (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    camera TEXT NOT NULL,
    source TEXT NOT NULL,
    key TEXT NOT NULL,
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    verdict TEXT NOT NULL,
    present INTEGER NOT NULL DEFAULT 1,
    UNIQUE (camera, source, key)
);
CREATE INDEX IF NOT EXISTS judged_digest ON judged (camera, digest);
CREATE INDEX IF NOT EXISTS judged_gone ON judged (row) WHERE NOT present
"""
MOST, MOST_GONE = 1_000_000, 100_000
"""Rows that are kept: all together, and those of pictures that are no longer in their folder."""
_PRUNED_EVERY = 1000

_ADD = """
INSERT INTO judged (camera, source, key, name, digest, verdict) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET digest = excluded.digest, verdict = excluded.verdict, present = 1
"""
_GONE = "UPDATE judged SET present = 0 WHERE camera = ? AND source = ? AND key = ?"
_PRUNE_GONE = """
DELETE FROM judged WHERE row IN
(SELECT row FROM judged WHERE NOT present ORDER BY row DESC LIMIT -1 OFFSET ?)
"""
_PRUNE = """
DELETE FROM judged WHERE row IN (SELECT row FROM judged ORDER BY row DESC LIMIT -1 OFFSET ?)
"""


def make_table(connection: sqlite3.Connection) -> None:
    """Makes the table where there is none; a database of before had events only."""
    for statement in SCHEMA.split(";"):
        connection.execute(statement)


def is_judged(connection: sqlite3.Connection, picture: JudgedPicture) -> bool:
    """Whether a picture has been judged and is still in its folder."""
    found = connection.execute(
        "SELECT 1 FROM judged WHERE camera = ? AND source = ? AND key = ? AND present",
        (picture.camera, picture.source, picture.origin.key),
    )
    return found.fetchone() is not None


def add(connection: sqlite3.Connection, picture: JudgedPicture) -> None:
    """Adds a picture, within a transaction; the oldest rows beyond the bounds go."""
    origin = picture.origin
    row = connection.execute(
        _ADD,
        (
            picture.camera,
            picture.source,
            origin.key,
            origin.name,
            origin.digest,
            picture.verdict,
        ),
    ).lastrowid
    if row and row % _PRUNED_EVERY == 0:
        connection.execute(_PRUNE_GONE, (MOST_GONE,))
        connection.execute(_PRUNE, (MOST,))


def note_gone(
    connection: sqlite3.Connection, camera: str, source: str, keys: Iterable[str]
) -> None:
    """Notes that pictures are no longer in their folder, within a transaction."""
    connection.executemany(_GONE, [(camera, source, key) for key in keys])


def judged(connection: sqlite3.Connection, camera: str, source: str) -> dict[str, str]:
    """Returns the verdicts on the pictures of a folder that were there last, by their keys."""
    return dict(
        connection.execute(
            "SELECT key, verdict FROM judged WHERE camera = ? AND source = ? AND present",
            (camera, source),
        )
    )


def identical(
    connection: sqlite3.Connection, camera: str, source: str, origin: Origin
) -> str | None:
    """Returns the name of the latest other picture with the same content, or None."""
    found = connection.execute(
        "SELECT name FROM judged WHERE camera = ? AND digest = ?"
        " AND NOT (source = ? AND key = ?) ORDER BY row DESC LIMIT 1",
        (camera, origin.digest, source, origin.key),
    )
    return next((str(name) for (name,) in found), None)


_VERSION = 1
_SCHEMA = """
CREATE TABLE event (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL,
    clock_s REAL NOT NULL,
    text TEXT NOT NULL
);
CREATE TABLE sink (name TEXT PRIMARY KEY, upto INTEGER NOT NULL);
CREATE TABLE clock (seconds REAL NOT NULL);
INSERT INTO clock VALUES (0)
"""
_DELETED_AT_ONCE = 5000
"""Rows; more would hold up the commit of new events."""


Item = OutboxEntry | GonePictures | records.Reset
"""What is committed."""


class EventTable:
    """Written by one thread; read by any.

    Args:
        path: Of the database.
        number: Tells it from the tables that were there before.

    Raises:
        DamagedError: It is damaged.
        StoreError: It can't be opened.
    """

    def __init__(self, path: Path, number: int = 0) -> None:
        self._path, self.number = path, number
        self._writer = connect(path, _SCHEMA, _VERSION, durable=True)
        self._reader = connect(path, _SCHEMA, _VERSION, durable=True)
        self._reading = threading.Lock()
        with mapped(path):
            make_table(self._writer)
            self._writer.execute(records.SCHEMA)
            (seconds,) = self._writer.execute("SELECT seconds FROM clock").fetchone()
            self.clock = RunningClock(seconds)
            self.last = self._last_row()
            self.first = self._first_row()
            """Rows `first` to `last` are there, without a gap."""

    def _last_row(self) -> int:
        found = self._writer.execute("SELECT seq FROM sqlite_sequence WHERE name = 'event'")
        return int((found.fetchone() or (0,))[0])

    def _first_row(self) -> int:
        (first,) = self._writer.execute("SELECT min(row) FROM event").fetchone()
        return self.last + 1 if first is None else int(first)

    def sinks(self) -> dict[str, int]:
        """Returns, by sink, the row up to which it has everything."""
        with mapped(self._path):
            return dict(self._writer.execute("SELECT name, upto FROM sink"))

    def keep_sinks(self, names: Iterable[str]) -> dict[str, int]:
        """Forgets sinks that are no more; a new one begins after the last event.

        Returns:
            By sink: the row up to which it has everything.
        """
        with mapped(self._path), transaction(self._writer):
            known: dict[str, int] = dict(self._writer.execute("SELECT name, upto FROM sink"))
            kept = {name: known.get(name, self.last) for name in names}
            self._writer.execute("DELETE FROM sink")
            self._writer.executemany("INSERT INTO sink VALUES (?, ?)", kept.items())
        return kept

    def write(self, items: Sequence[Item], upto: Mapping[str, int]) -> int:
        """Commits events, pictures and how far the sinks are, in one transaction.

        Returns:
            How many events there are now more; one on a picture that was judged before is left out.
        """
        now_s = self.clock.now_s()
        with mapped(self._path), transaction(self._writer):
            new = [item for item in items if self._is_new(item)]
            events = [
                (item.id, now_s, item.text)
                for item in new
                if isinstance(item, OutboxEntry) and item.text is not None
            ]
            self._writer.executemany(
                "INSERT INTO event (id, clock_s, text) VALUES (?, ?, ?)", events
            )
            self._writer.executemany(
                "UPDATE sink SET upto = ? WHERE name = ?",
                [(row, name) for name, row in upto.items()],
            )
            self._writer.execute("UPDATE clock SET seconds = ?", (now_s,))
        self.last += len(events)
        return len(events)

    def _is_new(self, item: Item) -> bool:
        """Notes what became of pictures and parts; returns whether there is an event to write."""
        if isinstance(item, records.Reset):
            records.reset(self._writer, item)
            return False
        if isinstance(item, GonePictures):
            note_gone(self._writer, item.camera, item.source, item.keys)
            return False
        if item.picture is not None:
            if is_judged(self._writer, item.picture):
                return False
            add(self._writer, item.picture)
        if item.count is not None:
            records.add(self._writer, item.count)
        return True

    def judged(self, camera: str, source: str) -> dict[str, str]:
        """Returns the verdicts on a folder's pictures; see `pictures.judged`."""
        with self._reading, mapped(self._path):
            return judged(self._reader, camera, source)

    def identical(self, camera: str, source: str, origin: Origin) -> str | None:
        """Returns the name of a picture with the same content; see `pictures.identical`."""
        with self._reading, mapped(self._path):
            return identical(self._reader, camera, source, origin)

    def tally(self, now_s: float, cameras: Iterable[str]) -> dict[str, records.PartCounts]:
        """Returns the cameras' parts; see `tally.read`."""
        with self._reading, mapped(self._path):
            return records.read(self._reader, now_s, cameras)

    def delete(self, before: int) -> int:
        """Deletes the oldest rows, some thousand at most.

        Args:
            before: The first row to be kept.

        Returns:
            How many are gone.
        """
        end = min(before, self.first + _DELETED_AT_ONCE)
        with mapped(self._path), transaction(self._writer):
            self._writer.execute("DELETE FROM event WHERE row < ?", (end,))
        gone = end - self.first
        self.first = end
        return gone

    def first_since(self, clock_s: float) -> int:
        """Returns the first row that was written at that time or later."""
        with mapped(self._path):
            # Rows lie in the order of time: the first young one ends the search.
            found = self._writer.execute(
                "SELECT row FROM event WHERE clock_s >= ? ORDER BY row LIMIT 1", (clock_s,)
            ).fetchone()
        return self.last + 1 if found is None else int(found[0])

    def written_s(self, row: int) -> float | None:
        """Returns when a row was written, or None if it is not there."""
        with mapped(self._path):
            found = self._writer.execute("SELECT clock_s FROM event WHERE row = ?", (row,))
            return next((float(clock_s) for (clock_s,) in found), None)

    def after(self, row: int, limit: int) -> list[Stored]:
        """Returns the events after a row, in order."""
        query = "SELECT row, id, text FROM event WHERE row > ? ORDER BY row LIMIT ?"
        with self._reading, mapped(self._path):
            found = self._reader.execute(query, (row, limit)).fetchall()
        return [Stored(row, id_, text, self.number) for row, id_, text in found]

    def close(self) -> None:
        """Closes it."""
        with self._reading:
            self._reader.close()
        self._writer.close()


def open_table(path: Path, number: int, *, damaged: bool) -> EventTable:
    """Opens the database; a damaged one is set aside, and a new one begun.

    Raises:
        StoreError: It can't be opened.
    """
    if damaged and path.exists():
        set_aside(path)
    try:
        return EventTable(path, number)
    except DamagedError:
        set_aside(path)
        return EventTable(path, number)


def text_of(event: Event) -> str:
    """Returns an event as one line of JSON, whatever its texts hold."""
    try:
        return event.model_dump_json()
    except ValueError:  # a file's name that is no Unicode
        text = json.dumps(event.model_dump(), ensure_ascii=False)
        return text.encode(errors="replace").decode()
