"""How many parts each camera had since midnight or a reset: rows in the events' database.

A count is committed together with its event, so a crash loses neither or both.

What the outbox and its deliveries say of themselves.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

from ..records import Origin

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
class PartCounts:
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


def read(
    connection: sqlite3.Connection, now_s: float, names: Iterable[str]
) -> dict[str, PartCounts]:
    """Returns the parts of cameras since midnight or the reset."""
    day, midnight_s = _day(now_s)
    query = "SELECT camera, since_s, good, defect, undecided FROM tally WHERE day = ?"
    found = {name: PartCounts(*counts) for name, *counts in connection.execute(query, (day,))}
    return {name: found.get(name, PartCounts(midnight_s)) for name in names}


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


def _nothing() -> None:
    """Tells nobody."""


@dataclass(frozen=True)
class JudgedPicture:
    """A picture in a file that has its verdict.

    Args:
        camera: Name.
        source: Path of the folder or the video.
        origin: The picture.
        verdict: On it.
        committed: Called by the thread that writes once the verdict is on disk.
    """

    camera: str
    source: str
    origin: Origin
    verdict: str
    committed: Callable[[], None] = _nothing


@dataclass(frozen=True)
class OutboxEntry:
    """What is committed together.

    Args:
        id: Of the event.
        text: The event as JSON; None where no sink is to get it.
        picture: That it is about, if it is in a file.
        count: What it adds to its camera's parts.
    """

    id: str
    text: str | None
    picture: JudgedPicture | None = None
    count: Count | None = None


@dataclass(frozen=True)
class GonePictures:
    """Pictures that are no longer in their folder; the fields are those of `JudgedPicture`."""

    camera: str
    source: str
    keys: tuple[str, ...]


@dataclass(frozen=True)
class OutboxStatus:
    """How things stand.

    Args:
        pending: Events by sink that it has not taken yet.
        waiting_in_memory: Events that are not committed yet.
        committed: Events committed since the start.
        dropped: Events lost to a cap since the start.
        oldest_age_s: How long the oldest event that some sink has not taken has been waiting,
            in seconds that the station ran; None where there is none.
        bytes: Of the database.
        problem: Why events can't be committed, or None.
    """

    pending: dict[str, int]
    waiting_in_memory: int
    committed: int
    dropped: int
    oldest_age_s: float | None
    bytes: int
    problem: str | None


@dataclass(frozen=True)
class DeliveryStatus:
    """How a sink is doing.

    Args:
        sink: Its name.
        connected: Whether the last attempt worked and the sink knows of no problem.
        problem: The last error while it is not, without passwords.
        delivered: Events taken since the start.
        failures: Attempts that failed since the start.
        stuck_s: For how long it has taken nothing of what waits, or could not be connected; None
            while it takes events, or nothing waits and nothing is wrong.
        caution: What is delivered otherwise than configured, or not at all; or None.
        undeliverable: Events passed over since the start, since the receiver can't take them.
    """

    sink: str
    connected: bool
    problem: str | None
    delivered: int
    failures: int
    stuck_s: float | None = None
    caution: str | None = None
    undeliverable: int = 0
