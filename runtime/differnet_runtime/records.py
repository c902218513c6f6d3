"""The nouns of inspection: what passes from the camera to the verdict, and the words for it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8] | NDArray[np.uint16]
"""A picture: `(H, W)` or `(H, W, 3)` BGR, uint8 or uint16."""

MOST_PIXELS = 1 << 28
"""Most pixels of a picture, 16,384 x 16,384: a small file can promise more and fill the memory."""


class Verdict(str, Enum):
    """The verdict on a part; every output treats NO_DECISION as a reject."""

    GOOD = "GOOD"
    DEFECT = "DEFECT"
    NO_DECISION = "NO_DECISION"


@dataclass(frozen=True)
class Origin:
    """The file that a frame was read from, in the state in which it was read.

    Args:
        name: Name of the frame.
        key: Name, size in bytes and modification time in ns, as `NAME|SIZE|TIME`.
        digest: Hash of the content, hexadecimal; empty where the file couldn't be read.
    """

    name: str
    key: str
    digest: str = ""


@dataclass(frozen=True)
class Frame:
    """One picture from a source.

    Args:
        image: `(H, W, 3)` BGR or `(H, W)` grey, uint8 or uint16.
        name: File name, or source and index; what a person looks it up by.
        index: Position in the source, from 0.
        captured_ns: `time.monotonic_ns()` after the read.
        captured_at_s: Wall clock in seconds since the epoch, after the read.
        stream_ms: The stream's own time stamp, where it has one.
        damage: Why its pixels can't be trusted (a packet was lost before it), or None.
        unchanged_s: Seconds for which a live source has given the same pixels.
        origin: The file of a picture in a folder, or of a video that is judged frame by frame.
        waiting: Number of pictures that wait behind this one in its folder; None where unknown.

    Example:
        >>> frame = Frame(np.zeros((480, 640, 3), np.uint8), "part.png", 0, 0, 0.0)
        >>> frame.image.shape
        (480, 640, 3)
    """

    image: Image
    name: str
    index: int
    captured_ns: int
    captured_at_s: float
    stream_ms: float | None = None
    damage: str | None = None
    unchanged_s: float = 0.0
    origin: Origin | None = None
    waiting: int | None = None


@dataclass(frozen=True)
class Score:
    """An anomaly score with all that is needed to judge it.

    Args:
        value: The raw score: near 1 for good parts, or a negative log-likelihood.
        threshold: Above it a part is a defect; None until the model is calibrated.
        good_percentile: Share in percent of good calibration parts that score at most `value`.
        lowest: Lowest plausible score; one below it comes from a fault, not from a part.
        heatmap: `(rows, columns) float32`, where the model has windows.
        heads: Score of each head by its name, in the model's order; empty where it has none.
        refused: NO_DECISION for a picture that can't be trusted, whatever its score; else None.

    Example:
        >>> Score(1.4, threshold=2.0, good_percentile=93.0, heads={"whole": 1.4, "fine": 0.9}).head
        'whole'
    """

    value: float
    threshold: float | None
    good_percentile: float | None
    lowest: float | None = None
    heatmap: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)
    heads: dict[str, float] = field(default_factory=dict, hash=False)
    refused: Decision | None = None

    @property
    def finite(self) -> bool:
        """Whether the score is a finite number."""
        return math.isfinite(self.value)

    @property
    def head(self) -> str | None:
        """Name of the head with the greatest score, which decides; None without heads."""
        known = self.heads if all(map(math.isfinite, self.heads.values())) else {}
        return max(known, key=known.__getitem__, default=None)


@dataclass(frozen=True)
class Decision:
    """A verdict and, for NO_DECISION, its reason: for people, and a code for programs.

    Example:
        >>> Decision.none("black", "the picture is black").verdict.value
        'NO_DECISION'
    """

    verdict: Verdict
    reason: str | None = None
    code: str | None = None

    @classmethod
    def none(cls, code: str, reason: str) -> Decision:
        """Returns NO_DECISION with its code and reason."""
        return cls(Verdict.NO_DECISION, reason, code)


@dataclass(frozen=True)
class Inspection:
    """Everything known of one inspected frame; `record()` is its JSON line.

    Args:
        name: Name of the frame.
        index: Position of the frame in its source, from 0.
        captured_at_s: Wall clock of the capture, seconds since the epoch.
        decision: Verdict, code and reason.
        score: The score; None if the frame never reached the model.
        stages_ms: Milliseconds per stage, and `total` from the frame at hand to its verdict.
    """

    name: str
    index: int
    captured_at_s: float
    decision: Decision
    score: Score | None = None
    stages_ms: dict[str, float] = field(default_factory=dict)

    @property
    def decided_by(self) -> str | None:
        """What the head that decided judges, in words; see `decided_by`."""
        return decided_by(self.score.head if self.score else None, self.decision.verdict)

    @property
    def note(self) -> str | None:
        """For people, where the heatmap need not show what is wrong; see `note`."""
        if self.score is None:
            return None
        heatmap = self.score.heatmap is not None
        return note(self.score.head, self.decision.verdict, heatmap=heatmap)

    def record(self) -> dict[str, Any]:
        """Returns the JSON-ready record (no NaN: a score that is not finite becomes null)."""
        score = self.score
        head = score.head if score else None
        return {
            "name": self.name,
            "index": self.index,
            "captured_at_s": round(self.captured_at_s, 6),
            "verdict": self.decision.verdict.value,
            "code": self.decision.code,
            "reason": self.decision.reason,
            "score": score.value if score and score.finite else None,
            "threshold": score.threshold if score else None,
            "good_percentile": score.good_percentile if score else None,
            "head": head,
            "heads": dict(score.heads) if score and head else None,
            "decided_by": self.decided_by,
            "note": self.note,
            "stages_ms": {stage: round(ms, 3) for stage, ms in self.stages_ms.items()},
        }


WORDS = {
    "whole": "the picture as a whole",
    "coarse": "larger areas",
    "fine": "small details",
}
"""What each head judges, by its name."""


def in_words(head: str | None) -> str | None:
    """Says in words what a head judges; None if no head is given."""
    return None if head is None else WORDS.get(head, head)


def decided_by(head: str | None, verdict: str) -> str | None:
    """Says in words which head decided; None where nothing was decided or a file has no heads."""
    return in_words(head) if verdict in ("GOOD", "DEFECT") else None


def note(head: str | None, verdict: str, *, heatmap: bool) -> str | None:
    """Explains why the heatmap of a defective part may show little.

    Args:
        head: Name of the head with the highest score, or None.
        verdict: GOOD, DEFECT or NO_DECISION.
        heatmap: Whether there is a heatmap.

    Returns:
        A sentence if the picture as a whole made the part a defect, else None.
    """
    if verdict != "DEFECT" or head != "whole":
        return None
    more = "; the heatmap shows where its areas differ most" if heatmap else ""
    return f"The picture as a whole is unusual{more}"
