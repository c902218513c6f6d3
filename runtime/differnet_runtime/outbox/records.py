"""What the outbox and its deliveries say of themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..records import Origin


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
class Entry:
    """What is committed together.

    Args:
        id: Of the event.
        text: The event as JSON; None where no sink is to get it.
        picture: That it is about, if it is in a file.
    """

    id: str
    text: str | None
    picture: JudgedPicture | None = None


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
