"""What is committed to the outbox, and the status of the outbox and its deliveries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..model_file.contract import StrictModel
from ..records import Origin


@dataclass(frozen=True)
class Count:
    """What a verdict adds to its camera's part counts; a part that turns out worse is moved.

    Args:
        camera: Name of the camera.
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
    """Cameras whose part counts restart at zero, at a wall-clock time in seconds."""

    cameras: tuple[str, ...]
    at_s: float


@dataclass(frozen=True)
class JudgedPicture:
    """A picture in a folder or video that has its verdict.

    Args:
        camera: Name of the camera.
        source: Path of the folder or the video.
        origin: Identifies the picture within the source.
        verdict: GOOD, DEFECT or NO_DECISION.
        committed: Called by the writing thread once the verdict is on disk.
    """

    camera: str
    source: str
    origin: Origin
    verdict: str
    committed: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class GonePictures:
    """Pictures that are no longer in their folder, by their keys; see `JudgedPicture`."""

    camera: str
    source: str
    keys: tuple[str, ...]


@dataclass(frozen=True)
class OutboxEntry:
    """An event with what is committed in the same transaction.

    Args:
        id: The event's id.
        text: The event as JSON; None if no sink is to get it.
        picture: The picture that it is about, if that is in a folder or video.
        count: What it adds to its camera's part counts.
    """

    id: str
    text: str | None
    picture: JudgedPicture | None = None
    count: Count | None = None


Item = OutboxEntry | GonePictures | Reset
"""Everything that can be committed."""


class PartsView(StrictModel):
    """The part counts of a camera since midnight or a reset.

    Args:
        since_s: Wall clock, seconds since the epoch.
        good: Parts judged good.
        defect: Parts judged defective.
        undecided: Parts without a decision; they count as rejected.
        yield_percent: Share of good parts; None before the first part.
    """

    since_s: float
    good: int = 0
    defect: int = 0
    undecided: int = 0
    yield_percent: float | None = None


@dataclass(frozen=True)
class OutboxStatus:
    """A snapshot of the outbox.

    Args:
        pending: By sink, the events that it has not acknowledged yet.
        waiting_in_memory: Entries that are not committed yet.
        committed: Events committed since the start.
        dropped: Events lost to a cap since the start.
        oldest_age_s: Age of the oldest event that some sink has not acknowledged, in seconds that
            the station ran; None if there is none.
        bytes: Size of the database.
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
    """A snapshot of the delivery to one sink.

    Args:
        sink: Name of the sink.
        connected: Whether the last attempt worked and the sink reports no problem.
        problem: The last error while it does not, without passwords.
        delivered: Events acknowledged since the start.
        failures: Attempts that failed since the start.
        stuck_s: Seconds for which it has acknowledged nothing although events wait, or could not
            be connected; None while it works or has nothing to do.
        caution: What is delivered differently from the configuration, or not at all; or None.
        undeliverable: Events skipped since the start because the receiver can never take them.
    """

    sink: str
    connected: bool
    problem: str | None
    delivered: int
    failures: int
    stuck_s: float | None = None
    caution: str | None = None
    undeliverable: int = 0
