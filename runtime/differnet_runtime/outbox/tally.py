"""How many parts each camera had since midnight or a reset: rows in the events' database.

A count is committed together with its event, so a crash loses neither or both.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

SCHEMA = """
CREATE TABLE IF NOT EXISTS tally (
    camera TEXT PRIMARY KEY,
    day TEXT NOT NULL,
    since_s REAL NOT NULL,
    good INTEGER NOT NULL,
    defect INTEGER NOT NULL,
    undecided INTEGER NOT NULL
)
"""
_ADD = """
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
    """What a verdict adds to its camera's parts; a part that turns out worse is moved.

    Args:
        camera: Name.
        at_s: Wall clock, seconds since the epoch.
        good: Parts judged good.
        defect: Parts judged defective.
        undecided: Parts without a decision; they count as rejected.
    """

    camera: str
    at_s: float
    good: int = 0
    defect: int = 0
    undecided: int = 0


@dataclass(frozen=True)
class Reset:
    """Cameras whose counting begins anew."""

    cameras: tuple[str, ...]
    at_s: float


@dataclass(frozen=True)
class Tally:
    """The parts of a camera.

    Args:
        since_s: Midnight or the reset, seconds since the epoch.
        good: See `Count`.
        defect: See `Count`.
        undecided: See `Count`.
    """

    since_s: float
    good: int = 0
    defect: int = 0
    undecided: int = 0


def add(connection: sqlite3.Connection, count: Count) -> None:
    """Adds to a camera's parts; the first of a new day begin at zero."""
    day, midnight_s = _day(count.at_s)
    connection.execute(
        _ADD, (count.camera, day, midnight_s, count.good, count.defect, count.undecided)
    )


def reset(connection: sqlite3.Connection, wanted: Reset) -> None:
    """Begins the counting of cameras anew."""
    day, _ = _day(wanted.at_s)
    connection.executemany(_RESET, [(name, day, wanted.at_s) for name in wanted.cameras])


def read(connection: sqlite3.Connection, now_s: float, names: Iterable[str]) -> dict[str, Tally]:
    """Returns the parts of cameras since midnight or the reset."""
    day, midnight_s = _day(now_s)
    query = "SELECT camera, since_s, good, defect, undecided FROM tally WHERE day = ?"
    found = {name: Tally(*counts) for name, *counts in connection.execute(query, (day,))}
    return {name: found.get(name, Tally(midnight_s)) for name in names}


def _day(at_s: float) -> tuple[str, float]:
    """Returns the local date and its midnight."""
    return _day_of(int(at_s // 60))


@lru_cache(maxsize=1)
def _day_of(minute: int) -> tuple[str, float]:
    """Returns the same; most counts are of one minute, and the time zone's rules take their time.

    Args:
        minute: Whole minutes since the epoch; every day begins with one.
    """
    local = time.localtime(minute * 60)
    midnight_s = time.mktime((*local[:3], 0, 0, 0, *local[6:8], -1))
    return time.strftime("%Y-%m-%d", local), midnight_s
