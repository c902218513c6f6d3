"""What is known of kept pictures, and of their store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ..capture_record import View
from ..events import InspectionEvent
from ..metadata import ModelMetadata

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
