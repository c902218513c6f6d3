"""The database of what people enter: a file of its own, which no cap of others touches."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from ..database import DamagedError, connect, mapped, set_aside, transaction
from ..errors import StoreError

FILE = "station.sqlite"
"""Below the state folder of a station."""

_VERSION = 1
_SCHEMA = """
CREATE TABLE label (
    id TEXT PRIMARY KEY,
    label TEXT NOT NULL,
    kind TEXT,
    comment TEXT,
    labelled_at_s REAL NOT NULL,
    labelled_by TEXT NOT NULL,
    at_s REAL NOT NULL,
    camera TEXT NOT NULL,
    part TEXT,
    first TEXT,
    verdict TEXT NOT NULL,
    score REAL,
    threshold REAL,
    model TEXT,
    view TEXT
);
CREATE TABLE threshold (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    at_s REAL NOT NULL,
    by TEXT NOT NULL,
    camera TEXT NOT NULL,
    model TEXT NOT NULL,
    old REAL,
    new REAL NOT NULL,
    configured REAL,
    undone INTEGER NOT NULL DEFAULT 0
)
"""


class Book:
    """Opens the database when it is first needed; any thread may use it. A commit outlives a crash.

    Args:
        path: Of the file; a damaged one is set aside and a new one begun.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self.problem: str | None = None
        """Why nothing can be entered; None after what went well."""

    @contextlib.contextmanager
    def use(self) -> Iterator[sqlite3.Connection]:
        """Gives the database for one transaction.

        Raises:
            StoreError: It can't be opened, read or written.
        """
        with self._lock:
            try:
                with mapped(self._path):
                    connection = self._opened()
                    with transaction(connection):
                        yield connection
                self.problem = None
            except DamagedError as error:
                self.problem = str(error)
                self._set_aside()
                raise
            except StoreError as error:
                self.problem = str(error)
                raise

    def close(self) -> None:
        """Closes it."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            try:
                self._connection = connect(self._path, _SCHEMA, _VERSION, durable=True)
            except DamagedError:
                set_aside(self._path)
                self._connection = connect(self._path, _SCHEMA, _VERSION, durable=True)
        return self._connection

    def _set_aside(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        with contextlib.suppress(StoreError):
            set_aside(self._path)
