"""The index of kept pictures: a row an inspection, in a database of its own.

What is known of kept pictures, and of their store.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from ..database import RunningClock, connect, mapped, transaction
from ..events import InspectionEvent
from ..inspection.capture_record import View
from ..model_file.metadata import ModelMetadata
from ..records import Verdict

Kind = Literal["input", "heatmap", "thumbnail"]
KINDS: tuple[Kind, ...] = ("input", "heatmap", "thumbnail")


@dataclass(frozen=True)
class EvidenceItem:
    """A kept inspection.

    Args:
        id: Of its event, and of its pictures.
        at_s: Wall clock, seconds since the epoch.
        camera: Name.
        part: Id of the part, if there was one.
        verdict: GOOD, DEFECT or NO_DECISION; `UNKNOWN` where the index was lost.
        code: Of a NO_DECISION's reason.
        score: None where there is none; likewise threshold.
        threshold: See score.
        heatmap: Whether there is one.
        bytes: Of all its files.
        head: Name of the head with the greatest score; None where the model has no heads.
        model: Content hash of the model that judged; None where none did.
        view: What that model sees of the frame, as JSON (`capture_record.View`).
        first: Id of the event on the part's first frame.
        frames: Of the same part; this is the worst of them.
    """

    id: str
    at_s: float
    camera: str
    part: str | None
    verdict: str
    code: str | None
    score: float | None
    threshold: float | None
    heatmap: bool
    bytes: int
    head: str | None = None
    model: str | None = None
    view: str | None = None
    first: str | None = None
    frames: int = 1


@dataclass(frozen=True)
class EvidenceStatus:
    """How things stand.

    Args:
        count: Inspections kept.
        bytes: Of their files.
        dropped: Pictures not kept since the start: the disk was slow or full.
        deleted: Pictures that gave way to a cap since the start.
        free_bytes: Of the disk, for this user; None where that can't be told.
        problem: Why pictures can't be kept, or None.
    """

    count: int
    bytes: int
    dropped: int
    deleted: int
    free_bytes: int | None
    problem: str | None


def item_of(
    event: InspectionEvent, metadata: ModelMetadata | None, files: Mapping[str, bytes]
) -> EvidenceItem:
    """Returns what the index keeps of a verdict.

    Args:
        event: The verdict.
        metadata: Of the model that gave it.
        files: Its pictures, by name.
    """
    view = None
    if metadata is not None:
        view = View(roi=metadata.input.region, fit=metadata.input.fit).model_dump_json()
    return EvidenceItem(
        id=event.id,
        at_s=event.at_s,
        camera=event.camera,
        part=event.part,
        verdict=event.verdict,
        code=event.code,
        score=event.score,
        threshold=event.threshold,
        heatmap=any(".heat." in name for name in files),
        bytes=sum(len(data) for data in files.values()),
        head=event.head,
        model=event.model.hash if event.model else None,
        view=view,
        first=event.first_event or event.id,
        frames=event.part_frame,
    )


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
