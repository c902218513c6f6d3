"""SQLite databases that survive a power cut; a damaged one is set aside and replaced."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from .errors import StoreError
from .sentences import sentence

_BUSY_S = 5.0

T = TypeVar("T")

log = logging.getLogger(__name__)


class DamagedError(StoreError):
    """The file is not a database, is damaged, or has an unknown version."""


class FullError(StoreError):
    """The disk is full."""


@contextlib.contextmanager
def mapped(path: Path) -> Iterator[None]:
    """Maps SQLite's errors to ours.

    Raises:
        FullError: The disk is full.
        DamagedError: The database is damaged.
        StoreError: Any other error of SQLite or the disk.
    """
    try:
        yield
    except sqlite3.Error as error:
        if "is full" in str(error):
            raise FullError(sentence("database_full", path=path, why=error)) from error
        # Every other cause has its own subclass, a full or failing disk among them.
        if type(error) is sqlite3.DatabaseError:
            raise DamagedError(f"{path}: {error}") from error
        raise StoreError(sentence("database_failed", path=path, why=error)) from error
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror or error}") from error


def open_or_replace(path: Path, open_it: Callable[[], T], *, damaged: bool = False) -> T:
    """Opens a database; a damaged one is set aside and a new one created in its place.

    Args:
        path: The path of the database file.
        open_it: Opens or creates it; raises `DamagedError` if it is damaged.
        damaged: Whether it is already known to be damaged.

    Raises:
        StoreError: It can't be opened.
    """
    if damaged and path.exists():
        set_aside(path)
    try:
        return open_it()
    except DamagedError:
        set_aside(path)
        return open_it()


def connect(path: Path, schema: str, version: int, *, durable: bool) -> sqlite3.Connection:
    """Opens a database, or creates it; the connection may be used by one thread at a time.

    Args:
        path: The file; SQLite's write-ahead files lie beside it.
        schema: SQL statements, separated by semicolons, that create the tables.
        version: Version of the schema, stored as `user_version`.
        durable: Whether a commit survives a power cut. If not, the last commits may be lost, but
            each as a whole.

    Raises:
        DamagedError: It is damaged, or has another version.
        StoreError: It can't be opened.
    """
    with mapped(path), contextlib.ExitStack() as undo:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        undo.callback(connection.close)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        (found,) = connection.execute("PRAGMA user_version").fetchone()
        if found == 0:
            with transaction(connection):
                for statement in f"{schema}; PRAGMA user_version = {version}".split(";"):
                    connection.execute(statement)
        elif found != version:
            raise DamagedError(f"{path}: its version is {found}, not {version}")
        undo.pop_all()
        return connection


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commits all statements in the block, or none if it raises an error."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def read_rows(path: Path, query: str) -> Iterator[dict[str, Any]]:
    """Yields the rows of a query; opens the database read-only, so its writer is not disturbed.

    Raises:
        DamagedError: It is damaged.
        StoreError: It can't be read, or has no such table.
    """
    with mapped(path):
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, timeout=_BUSY_S, uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            yield from map(dict, connection.execute(query))


def set_aside(path: Path) -> Path:
    """Renames a damaged database and its write-ahead files, so that a new one can be created.

    Returns:
        Its new path, NAME.damaged-NANOSECONDS; the `sqlite3` command may still recover rows.

    Raises:
        StoreError: It can't be renamed.
    """
    aside = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
    with mapped(path):
        path.rename(aside)
        for ending in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                path.with_name(path.name + ending).rename(aside.with_name(aside.name + ending))
    log.error("%s is damaged: kept as %s, and a new one is begun", path, aside.name)
    return aside


def size(path: Path) -> int:
    """Returns the bytes of a database and its write-ahead file; 0 if there is none."""
    found = 0
    for name in (path.name, f"{path.name}-wal"):
        with contextlib.suppress(OSError):
            found += path.with_name(name).stat().st_size
    return found


class Database:
    """A database that one thread writes and any thread reads; its rows are dated by `now_s`.

    Args:
        path: The file; see `connect`.
        schema: SQL statements that create the tables, `clock` with its one row among them.
        version: Version of the schema.
        later: SQL statements for what the first release did not have.
        durable: Whether a commit survives a power cut.

    Raises:
        DamagedError: It is damaged.
        StoreError: It can't be opened.
    """

    def __init__(
        self, path: Path, schema: str, version: int, later: str = "", *, durable: bool
    ) -> None:
        self._path = path
        self._writer = connect(path, schema, version, durable=durable)
        self._reader = connect(path, schema, version, durable=durable)
        self._reading = threading.Lock()
        with mapped(path):
            for statement in filter(str.strip, later.split(";")):
                self._writer.execute(statement)
        ((seconds,),) = self.read("SELECT seconds FROM clock")
        self._offset_s: float = seconds - time.monotonic()

    def now_s(self) -> float:
        """Returns the seconds that the station has run since its first start, across restarts.

        A wall clock that is set wrong must not delete anything.
        """
        return self._offset_s + time.monotonic()

    def read(self, query: str, *values: object) -> list[Any]:
        """Returns the rows of a query; called by any thread.

        Raises:
            DamagedError: It is damaged.
            StoreError: It can't be read.
        """
        with self._reading, mapped(self._path):
            return self._reader.execute(query, values).fetchall()

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Yields the connection of the thread that writes, within one transaction.

        Raises:
            DamagedError: It is damaged.
            FullError: The disk is full.
            StoreError: It can't be written.
        """
        with mapped(self._path), transaction(self._writer):
            yield self._writer

    def close(self) -> None:
        """Closes the database."""
        with self._reading:
            self._reader.close()
        self._writer.close()
