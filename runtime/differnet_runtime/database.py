"""SQLite for what must outlive a power cut: opened, or set aside and begun anew where damaged."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from .errors import StoreError
from .sentences import sentence

_BUSY_S = 5.0

log = logging.getLogger(__name__)
T = TypeVar("T")


class DamagedError(StoreError):
    """The file is no database, or a damaged one; it must be set aside."""


class FullError(StoreError):
    """The disk is full."""


@contextlib.contextmanager
def mapped(path: Path) -> Iterator[None]:
    """Maps SQLite's errors to ours.

    Raises:
        FullError: The disk is full.
        DamagedError: The database is damaged.
        StoreError: Anything else that SQLite or the disk refuses.
    """
    try:
        yield
    except sqlite3.Error as error:
        if "is full" in str(error):
            raise FullError(sentence("database_full", path=path, why=error)) from error
        # Python has a class of its own for all other causes, a full or failing disk among them.
        if type(error) is sqlite3.DatabaseError:
            raise DamagedError(f"{path}: {error}") from error
        raise StoreError(sentence("database_failed", path=path, why=error)) from error
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror or error}") from error


def connect(path: Path, schema: str, version: int, *, durable: bool) -> sqlite3.Connection:
    """Opens a database that any thread may use, one at a time; makes it where there is none.

    Args:
        path: Of the file; write-ahead files lie beside it.
        schema: Statements that make the tables of an empty one.
        version: Of the schema.
        durable: Whether a commit outlives a power cut; if not, the last ones may be undone by it,
            though never in part.

    Raises:
        DamagedError: It is damaged, or of another version.
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
            statements = f"{schema}; PRAGMA user_version = {version}"
            with transaction(connection):
                for statement in statements.split(";"):
                    connection.execute(statement)
        elif found != version:
            raise DamagedError(f"{path}: its version is {found}, not {version}")
        undo.pop_all()
        return connection


def read_rows(path: Path, query: str) -> Iterator[dict[str, Any]]:
    """Reads a database, which another process may be writing, and changes nothing.

    Args:
        path: Of the file.
        query: Gives the rows.

    Raises:
        DamagedError: It is damaged.
        StoreError: It can't be read, or has no such table.
    """
    with mapped(path):
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, timeout=_BUSY_S, uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            for row in connection.execute(query):
                yield dict(row)


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All statements within are done, or none."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def set_aside(path: Path) -> Path:
    """Renames a damaged database, so that a new one can be begun; `sqlite3` may still read it.

    Returns:
        Its new path.

    Raises:
        StoreError: It can't be renamed.
    """
    aside = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
    with mapped(path):
        path.rename(aside)
        for ending in ("-wal", "-shm"):
            beside = path.with_name(path.name + ending)
            with contextlib.suppress(FileNotFoundError):
                beside.rename(aside.with_name(aside.name + ending))
    log.error("%s is damaged: kept as %s, and a new one is begun", path, aside.name)
    return aside


def open_or_replace(path: Path, open_it: Callable[[], T], *, damaged: bool = False) -> T:
    """Opens a database; a damaged one is set aside, and a new one opened in its place.

    Args:
        path: File of the database.
        open_it: Opens the file, or creates it.
        damaged: Whether it is known to be damaged.

    Raises:
        StoreError: It can't be opened, or not be set aside.
    """
    if damaged and path.exists():
        set_aside(path)
    try:
        return open_it()
    except DamagedError:
        set_aside(path)
        return open_it()


def size(path: Path) -> int:
    """Returns the bytes of a database and its write-ahead file; 0 where there is none."""
    found = 0
    for name in (path.name, f"{path.name}-wal"):
        with contextlib.suppress(OSError):
            found += path.with_name(name).stat().st_size
    return found


class RunningClock:
    """Seconds that a station has run, from its first start on.

    What is kept for days ages by it: a wall clock that leaps by years must not delete anything.

    Args:
        start_s: What it showed when it was last written down.
    """

    def __init__(self, start_s: float = 0.0) -> None:
        self._offset_s = start_s - time.monotonic()

    def now_s(self) -> float:
        """Returns the seconds."""
        return self._offset_s + time.monotonic()
