"""What is known of kept pictures, and of their store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
