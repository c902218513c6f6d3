"""Which pictures of folders and videos were judged: rows beside the events, in the same database.

A row is committed together with its event, so a crash leaves both or neither.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from ..records import Origin
from .records import JudgedPicture

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
