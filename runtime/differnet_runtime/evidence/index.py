"""The index of kept pictures: a row an inspection, in a database of its own."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from ..database import RunningClock, connect, mapped, transaction
from ..records import Verdict
from .records import EvidenceItem

_VERSION = 1
_SCHEMA = """
CREATE TABLE picture (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    at_s REAL NOT NULL,
    camera TEXT NOT NULL,
    part TEXT,
    verdict TEXT NOT NULL,
    code TEXT,
    score REAL,
    threshold REAL,
    heatmap INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    clock_s REAL NOT NULL
);
CREATE INDEX picture_camera ON picture (camera, row);
CREATE INDEX picture_verdict ON picture (verdict, row);
CREATE TABLE clock (seconds REAL NOT NULL);
INSERT INTO clock VALUES (0)
"""
_SUMS = "SELECT count(*), coalesce(sum(bytes), 0) FROM picture"
_SIZE = "SELECT bytes, verdict FROM picture WHERE id = ?"
_ADDED = {
    "head": "TEXT",
    "model": "TEXT",
    "view": "TEXT",
    "first": "TEXT",
    "frames": "INTEGER NOT NULL DEFAULT 1",
    "labelled": "INTEGER NOT NULL DEFAULT 0",
}
"""Columns that came after the first release of the table, which keeps its version."""
_COLUMNS = ", ".join(field.name for field in fields(EvidenceItem))
_PLACES = ", ".join("?" * (len(fields(EvidenceItem)) + 1))


@dataclass(frozen=True)
class Kept:
    """A picture that may have to give way.

    Args:
        id: Of its event.
        bytes: Of all its files.
        age_s: In seconds that the station ran.
        labelled: Whether a person has labelled it: such pictures go last.
    """

    id: str
    bytes: int
    age_s: float
    labelled: bool


@dataclass(frozen=True)
class Sum:
    """How many pictures, and the bytes of all their files."""

    count: int
    bytes: int

    def plus(self, count: int, bytes_: int) -> Sum:
        """Returns the sum with others."""
        return Sum(self.count + count, self.bytes + bytes_)


class Index:
    """Written by one thread; read by any.

    Args:
        path: Of the database.

    Raises:
        DamagedError: It is damaged.
        StoreError: It can't be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer = connect(path, _SCHEMA, _VERSION, durable=False)
        _add_columns(self._writer, path)
        self._reader = connect(path, _SCHEMA, _VERSION, durable=False)
        self._reading = threading.Lock()
        with mapped(path):
            (seconds,) = self._writer.execute("SELECT seconds FROM clock").fetchone()
            undecided = f"{_SUMS} WHERE verdict = ?"
            self.kept = Sum(*self._writer.execute(_SUMS).fetchone())
            self.undecided = Sum(
                *self._writer.execute(undecided, (Verdict.NO_DECISION,)).fetchone()
            )
        self.clock = RunningClock(seconds)

    def add(self, items: Sequence[EvidenceItem], replacing: Sequence[str] = ()) -> None:
        """Commits rows, and deletes those whose place they take; all or none."""
        now_s = self.clock.now_s()
        with mapped(self._path), transaction(self._writer):
            going = self._deleted(replacing)
            self._writer.executemany(
                f"INSERT INTO picture ({_COLUMNS}, clock_s) VALUES ({_PLACES})",  # noqa: S608 - no value is in it
                [(*astuple(item), now_s) for item in items],
            )
            self._writer.execute("UPDATE clock SET seconds = ?", (now_s,))
        for item in items:
            self._count(item.verdict, 1, item.bytes)
        for size, verdict in going:
            self._count(verdict, -1, -size)

    def set_frames(self, frames: Mapping[str, int]) -> None:
        """Notes how many frames of the same part each picture stands for."""
        with mapped(self._path), transaction(self._writer):
            self._writer.executemany(
                "UPDATE picture SET frames = ? WHERE id = ?",
                [(count, id_) for id_, count in frames.items()],
            )

    def set_labelled(self, marks: Mapping[str, bool]) -> None:
        """Notes which pictures are labelled, and which no longer."""
        with mapped(self._path), transaction(self._writer):
            self._writer.executemany(
                "UPDATE picture SET labelled = ? WHERE id = ?",
                [(labelled, id_) for id_, labelled in marks.items()],
            )

    def is_labelled(self, id_: str) -> bool:
        """Returns whether a picture is kept and labelled."""
        with mapped(self._path):
            found = self._writer.execute("SELECT 1 FROM picture WHERE id = ? AND labelled", (id_,))
            return found.fetchone() is not None

    def has(self, id_: str) -> bool:
        """Returns whether there is a row of that id."""
        with mapped(self._path):
            found = self._writer.execute("SELECT 1 FROM picture WHERE id = ?", (id_,))
            return found.fetchone() is not None

    def oldest(self, limit: int, *, undecided: bool = False) -> list[Kept]:
        """Returns the oldest, labelled ones last; or the oldest without decision and label."""
        now_s = self.clock.now_s()
        query = (
            "SELECT id, bytes, clock_s, labelled FROM picture"  # noqa: S608 - no value is in it
            f"{' WHERE verdict = ? AND NOT labelled' if undecided else ''}"
            " ORDER BY labelled, row LIMIT ?"
        )
        values = (Verdict.NO_DECISION, limit) if undecided else (limit,)
        with mapped(self._path):
            found = self._writer.execute(query, values).fetchall()
        return [
            Kept(id_, size, now_s - clock_s, bool(labelled))
            for id_, size, clock_s, labelled in found
        ]

    def delete(self, ids: Sequence[str]) -> None:
        """Deletes rows, all or none."""
        with mapped(self._path), transaction(self._writer):
            going = self._deleted(ids)
        for size, verdict in going:
            self._count(verdict, -1, -size)

    def _deleted(self, ids: Sequence[str]) -> list[tuple[int, str]]:
        """Deletes rows within a transaction; returns bytes and verdict of each."""
        going = [row for id_ in ids for row in self._writer.execute(_SIZE, (id_,))]
        self._writer.executemany("DELETE FROM picture WHERE id = ?", [(id_,) for id_ in ids])
        return going

    def _count(self, verdict: str, count: int, size: int) -> None:
        self.kept = self.kept.plus(count, size)
        if verdict == Verdict.NO_DECISION:
            self.undecided = self.undecided.plus(count, size)

    def ids(self) -> set[str]:
        """Returns the id of every picture."""
        with mapped(self._path):
            return {id_ for (id_,) in self._writer.execute("SELECT id FROM picture")}

    def list(
        self, limit: int, before: str | None, camera: str | None, verdict: str | None
    ) -> list[EvidenceItem]:
        """Returns the latest first; see `Evidence.list`."""
        wanted, values = ["1"], []
        if before is not None:
            wanted.append("row < (SELECT row FROM picture WHERE id = ?)")
            values.append(before)
        for column, value in (("camera", camera), ("verdict", verdict)):
            if value is not None:
                wanted.append(f"{column} = ?")
                values.append(value)
        query = (
            f"SELECT {_COLUMNS} FROM picture"  # noqa: S608 - no value is in it
            f" WHERE {' AND '.join(wanted)}"
            " ORDER BY row DESC LIMIT ?"
        )
        with self._reading, mapped(self._path):
            found = self._reader.execute(query, (*values, limit)).fetchall()
        return [_item(row) for row in found]

    def find(self, id_: str) -> EvidenceItem | None:
        """Returns the picture of that id; None where it is not kept (any more)."""
        query = f"SELECT {_COLUMNS} FROM picture WHERE id = ?"  # noqa: S608 - no value is in it
        with self._reading, mapped(self._path):
            found = self._reader.execute(query, (id_,)).fetchone()
        return None if found is None else _item(found)

    def close(self) -> None:
        """Closes it."""
        with self._reading:
            self._reader.close()
        self._writer.close()


def _add_columns(connection: sqlite3.Connection, path: Path) -> None:
    """Adds the columns that an older index lacks; older software goes on with it."""
    with mapped(path):
        known = {name for _, name, *_ in connection.execute("PRAGMA table_info(picture)")}
        for name, kind in _ADDED.items():
            if name not in known:
                connection.execute(f"ALTER TABLE picture ADD COLUMN {name} {kind}")
        connection.execute("CREATE INDEX IF NOT EXISTS picture_going ON picture (labelled, row)")


def _item(row: Sequence[Any]) -> EvidenceItem:
    values = dict(zip((field.name for field in fields(EvidenceItem)), row, strict=True))
    return EvidenceItem(**{**values, "heatmap": bool(values["heatmap"])})
