"""The index of kept pictures: a row an inspection, in a database of its own."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Sequence
from dataclasses import astuple
from pathlib import Path

from ..database import RunningClock, connect, mapped, transaction
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
_COLUMNS = "id, at_s, camera, part, verdict, code, score, threshold, heatmap, bytes"


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
        self._reader = connect(path, _SCHEMA, _VERSION, durable=False)
        self._reading = threading.Lock()
        with mapped(path):
            (seconds,) = self._writer.execute("SELECT seconds FROM clock").fetchone()
            sums = self._writer.execute("SELECT count(*), coalesce(sum(bytes), 0) FROM picture")
            self.count, self.bytes = sums.fetchone()
        self.clock = RunningClock(seconds)

    def add(self, items: Sequence[EvidenceItem]) -> None:
        """Commits rows, all or none."""
        now_s = self.clock.now_s()
        with mapped(self._path), transaction(self._writer):
            self._writer.executemany(
                f"INSERT INTO picture ({_COLUMNS}, clock_s)"  # noqa: S608 - no value is in it
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(*astuple(item), now_s) for item in items],
            )
            self._writer.execute("UPDATE clock SET seconds = ?", (now_s,))
        self.count += len(items)
        self.bytes += sum(item.bytes for item in items)

    def oldest(self, limit: int) -> list[tuple[str, int, float]]:
        """Returns id, bytes and age in running seconds of the oldest."""
        now_s = self.clock.now_s()
        query = "SELECT id, bytes, clock_s FROM picture ORDER BY row LIMIT ?"
        with mapped(self._path):
            found = self._writer.execute(query, (limit,)).fetchall()
        return [(id_, size, now_s - clock_s) for id_, size, clock_s in found]

    def delete(self, pictures: Sequence[tuple[str, int]]) -> None:
        """Deletes rows, all or none.

        Args:
            pictures: Id and bytes of each.
        """
        with mapped(self._path), transaction(self._writer):
            self._writer.executemany(
                "DELETE FROM picture WHERE id = ?", [(id_,) for id_, _ in pictures]
            )
        self.count -= len(pictures)
        self.bytes -= sum(size for _, size in pictures)

    def sizes(self) -> dict[str, int]:
        """Returns the bytes of every picture by its id."""
        with mapped(self._path):
            return dict(self._writer.execute("SELECT id, bytes FROM picture"))

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

    def close(self) -> None:
        """Closes it."""
        with self._reading:
            self._reader.close()
        self._writer.close()


def _item(row: Iterable[sqlite3.Row]) -> EvidenceItem:
    *first, heatmap, size = row
    return EvidenceItem(*first, bool(heatmap), size)  # type: ignore[arg-type, call-arg]
