"""The outbox's database: events, how far each sink is, judged pictures, and part counts.

An event, its picture and its count are committed together, so a crash loses all of them or none.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..database import Database
from ..events import Event
from ..model_file.contract import StrictModel
from ..records import Origin
from ..sinks import Stored

MOST, MOST_GONE = 1_000_000, 100_000
"""Most rows of judged pictures: in all, and of those that are no longer in their folder."""
_PRUNE_EVERY = 1000
_MOST_DELETED = 5000
"""Rows deleted in one transaction; more would hold up the commit of new events."""

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
_LATER_TABLES = """
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
CREATE INDEX IF NOT EXISTS judged_gone ON judged (row) WHERE NOT present;
CREATE TABLE IF NOT EXISTS tally (
    camera TEXT PRIMARY KEY,
    day TEXT NOT NULL,
    since_s REAL NOT NULL,
    good INTEGER NOT NULL,
    defect INTEGER NOT NULL,
    undecided INTEGER NOT NULL
)
"""
"""Tables that the first version did not have."""

_ADD_PICTURE = """
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
_ADD_COUNT = """
INSERT INTO tally VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (camera) DO UPDATE SET
    good = max(0, excluded.good + CASE WHEN day = excluded.day THEN good ELSE 0 END),
    defect = max(0, excluded.defect + CASE WHEN day = excluded.day THEN defect ELSE 0 END),
    undecided = max(0, excluded.undecided + CASE WHEN day = excluded.day THEN undecided ELSE 0 END),
    since_s = CASE WHEN day = excluded.day THEN since_s ELSE excluded.since_s END,
    day = excluded.day
"""
_RESET = """
INSERT INTO tally VALUES (?, ?, ?, 0, 0, 0)
ON CONFLICT (camera) DO UPDATE SET
    day = excluded.day, since_s = excluded.since_s, good = 0, defect = 0, undecided = 0
"""


@dataclass(frozen=True)
class Count:
    """What a verdict adds to its camera's part counts; a part that turns out worse is moved.

    Args:
        camera: Name of the camera.
        at_s: Wall clock, seconds since the epoch.
        good: Number of parts judged good.
        defect: Number of parts judged defective.
        undecided: Number of parts without a decision, which count as rejected.
    """

    camera: str
    at_s: float
    good: int = 0
    defect: int = 0
    undecided: int = 0


@dataclass(frozen=True)
class Reset:
    """Cameras whose part counts restart at zero, at a wall-clock time in seconds."""

    cameras: tuple[str, ...]
    at_s: float


@dataclass(frozen=True)
class JudgedPicture:
    """A picture in a folder or video that has its verdict.

    Args:
        camera: Name of the camera.
        source: Path of the folder or the video.
        origin: Identifies the picture within the source.
        verdict: GOOD, DEFECT or NO_DECISION.
        committed: Called by the writing thread once the verdict is on disk.
    """

    camera: str
    source: str
    origin: Origin
    verdict: str
    committed: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class GonePictures:
    """Pictures that are no longer in their folder, by their keys; see `JudgedPicture`."""

    camera: str
    source: str
    keys: tuple[str, ...]


@dataclass(frozen=True)
class OutboxEntry:
    """An event with what is committed in the same transaction.

    Args:
        id: Stable id of the event.
        text: The event as JSON; None if no sink is to get it.
        picture: The picture that it is about, if that is in a folder or video.
        count: What it adds to its camera's part counts.
    """

    id: str
    text: str | None
    picture: JudgedPicture | None = None
    count: Count | None = None


Item = OutboxEntry | GonePictures | Reset
"""Everything that can be committed."""


class PartsView(StrictModel):
    """The part counts of a camera since midnight or a reset.

    Args:
        since_s: Wall clock, seconds since the epoch.
        good: Number of parts judged good.
        defect: Number of parts judged defective.
        undecided: Number of parts without a decision, which count as rejected.
        yield_percent: Share of good parts; None before the first part.
    """

    since_s: float
    good: int = 0
    defect: int = 0
    undecided: int = 0
    yield_percent: float | None = None


class EventTable(Database):
    """The database as one thread writes it and any thread reads it.

    Args:
        path: File of the database; created if it does not exist.
        number: Distinguishes it from databases that were opened before at the same path.

    Raises:
        DamagedError: The database is damaged.
        StoreError: The database can't be opened.
    """

    def __init__(self, path: Path, number: int = 0) -> None:
        super().__init__(path, _SCHEMA, _VERSION, _LATER_TABLES, durable=True)
        self.number = number
        last = self.read("SELECT seq FROM sqlite_sequence WHERE name = 'event'")
        self.last = int(last[0][0]) if last else 0
        ((first,),) = self.read("SELECT min(row) FROM event")
        self.first = self.last + 1 if first is None else int(first)
        """Rows `first` to `last` exist, without a gap."""

    def sinks(self) -> dict[str, int]:
        """Returns, by sink, the row up to which it has everything."""
        return dict(self.read("SELECT name, upto FROM sink"))

    def keep_sinks(self, names: Iterable[str]) -> dict[str, int]:
        """Removes sinks that are not named; a new one starts after the last event.

        Returns:
            By sink, the row up to which it has everything.
        """
        known = self.sinks()
        kept = {name: known.get(name, self.last) for name in names}
        with self.writing() as writer:
            writer.execute("DELETE FROM sink")
            writer.executemany("INSERT INTO sink VALUES (?, ?)", kept.items())
        return kept

    def write(self, items: Sequence[Item], upto: Mapping[str, int]) -> int:
        """Commits entries and how far the sinks are, in one transaction.

        Args:
            items: What to commit; an event on a picture that was judged before is skipped.
            upto: By sink, the row up to which it has everything.

        Returns:
            Number of events that were added.
        """
        now_s = self.now_s()
        with self.writing() as writer:
            events = [
                (item.id, now_s, item.text)
                for item in items
                if self._is_new(item) and isinstance(item, OutboxEntry) and item.text is not None
            ]
            writer.executemany("INSERT INTO event (id, clock_s, text) VALUES (?, ?, ?)", events)
            writer.executemany(
                "UPDATE sink SET upto = ? WHERE name = ?",
                [(row, name) for name, row in upto.items()],
            )
            writer.execute("UPDATE clock SET seconds = ?", (now_s,))
        self.last += len(events)
        return len(events)

    def _is_new(self, item: Item) -> bool:
        """Writes an item's pictures and counts; returns whether its event must be written too."""
        if isinstance(item, Reset):
            day, _ = _day_of(int(item.at_s // 60))
            self._writer.executemany(_RESET, [(name, day, item.at_s) for name in item.cameras])
            return False
        if isinstance(item, GonePictures):
            self._writer.executemany(_GONE, [(item.camera, item.source, key) for key in item.keys])
            return False
        if item.picture is not None and not self._add_picture(item.picture):
            return False
        if (count := item.count) is not None:
            values = (count.camera, *_day_of(int(count.at_s // 60)))
            counts = (count.good, count.defect, count.undecided)
            self._writer.execute(_ADD_COUNT, (*values, *counts))
        return True

    def _add_picture(self, picture: JudgedPicture) -> bool:
        """Adds a picture; returns False if it was judged before and is still in its folder."""
        origin = picture.origin
        place = (picture.camera, picture.source, origin.key)
        query = "SELECT 1 FROM judged WHERE camera = ? AND source = ? AND key = ? AND present"
        if self._writer.execute(query, place).fetchone() is not None:
            return False
        values = (*place, origin.name, origin.digest, picture.verdict)
        row = self._writer.execute(_ADD_PICTURE, values).lastrowid
        if row and row % _PRUNE_EVERY == 0:
            self._writer.execute(_PRUNE_GONE, (MOST_GONE,))
            self._writer.execute(_PRUNE, (MOST,))
        return True

    def judged(self, camera: str, source: str) -> dict[str, str]:
        """Returns the verdicts on the pictures that are in a source, by the pictures' keys."""
        query = "SELECT key, verdict FROM judged WHERE camera = ? AND source = ? AND present"
        return dict(self.read(query, camera, source))

    def identical(self, camera: str, source: str, origin: Origin) -> str | None:
        """Returns the name of the latest other picture with the same content, or None."""
        query = (
            "SELECT name FROM judged WHERE camera = ? AND digest = ?"
            " AND NOT (source = ? AND key = ?) ORDER BY row DESC LIMIT 1"
        )
        found = self.read(query, camera, origin.digest, source, origin.key)
        return str(found[0][0]) if found else None

    def parts(self, cameras: Iterable[str]) -> dict[str, PartsView]:
        """Returns the part counts of cameras since midnight or their reset."""
        day, midnight_s = _day_of(int(time.time() // 60))
        query = "SELECT camera, since_s, good, defect, undecided FROM tally WHERE day = ?"
        found = {name: _parts(*counts) for name, *counts in self.read(query, day)}
        return {name: found.get(name, PartsView(since_s=midnight_s)) for name in cameras}

    def after(self, row: int, limit: int) -> list[Stored]:
        """Returns at most `limit` events after a row, in order."""
        query = "SELECT row, id, text FROM event WHERE row > ? ORDER BY row LIMIT ?"
        found = self.read(query, row, limit)
        return [Stored(number, id_, text, self.number) for number, id_, text in found]

    def delete(self, before: int) -> None:
        """Deletes the oldest rows before a row, at most 5000 of them."""
        end = min(before, self.first + _MOST_DELETED)
        with self.writing() as writer:
            writer.execute("DELETE FROM event WHERE row < ?", (end,))
        self.first = end

    def first_since(self, clock_s: float) -> int:
        """Returns the first row that was written at that time, by `now_s`, or later."""
        # Rows are in the order of time, so the first young one ends the search.
        query = "SELECT row FROM event WHERE clock_s >= ? ORDER BY row LIMIT 1"
        found = self.read(query, clock_s)
        return int(found[0][0]) if found else self.last + 1

    def written_s(self, row: int) -> float | None:
        """Returns when a row was written, by `now_s`; None if it does not exist."""
        found = self.read("SELECT clock_s FROM event WHERE row = ?", row)
        return float(found[0][0]) if found else None


def text_of(event: Event) -> str:
    """Returns an event as one line of JSON; characters that are no Unicode are replaced."""
    try:
        return event.model_dump_json()
    except ValueError:  # a file name that is no Unicode
        text = json.dumps(event.model_dump(), ensure_ascii=False)
        return text.encode(errors="replace").decode()


def _parts(since_s: float, good: int, defect: int, undecided: int) -> PartsView:
    parts = good + defect + undecided
    return PartsView(
        since_s=since_s,
        good=good,
        defect=defect,
        undecided=undecided,
        yield_percent=round(100.0 * good / parts, 2) if parts else None,
    )


@lru_cache(maxsize=1)
def _day_of(minute: int) -> tuple[str, float]:
    """Returns the local date of a minute since the epoch, and its midnight in seconds.

    Most counts share a minute, and time zones are slow.
    """
    local = time.localtime(minute * 60)
    midnight_s = time.mktime((*local[:3], 0, 0, 0, *local[6:8], -1))
    return time.strftime("%Y-%m-%d", local), midnight_s
