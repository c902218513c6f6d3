"""A label and a change of threshold, as they are stored."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from ..metadata import Part
from ..names import Lines, in_words
from ..printable import UNPRINTABLE

Label = Literal["good", "defect"]
LONGEST_KIND, LONGEST_COMMENT = 64, 1000
_RESERVED = ("good", "ground_truth", "groundtruth", "gt", "mask", "masks")
_MASKS = ("_mask", "_masks")
_NOT_IN_NAMES = rf'/\\:*?"<>|{UNPRINTABLE}'


def _own_folder(kind: str) -> str:
    if kind.casefold() in _RESERVED or kind.casefold().endswith(_MASKS):
        raise ValueError(f"{kind} names another folder of a data set; choose another word")
    return kind


Kind = Annotated[
    str,
    Field(
        min_length=1,
        max_length=LONGEST_KIND,
        pattern=f"^[^ .\\-{_NOT_IN_NAMES}](?:[^{_NOT_IN_NAMES}]*[^ .{_NOT_IN_NAMES}])?$",
        description=f"No folder of a data set's own: {', '.join(_RESERVED)}, or one that ends with "
        f"{' or '.join(_MASKS)}.",
    ),
    in_words(
        'write printable characters without / \\ : * ? " < > |, no space, dot or dash at the start '
        "and no space or dot at the end: it names a folder"
    ),
    AfterValidator(_own_folder),
]
"""Of a defect: the folder that the export puts its pictures into."""
Comment = Annotated[Lines, Field(max_length=LONGEST_COMMENT)]


class Labelled(Part):
    """A picture that a person has labelled, with all that must be known when the picture is gone.

    Args:
        id: Of the kept picture, and of its event.
        label: What the part really is.
        kind: Of the defect; None where it was not said.
        comment: Of the person.
        labelled_at_s: Wall clock, seconds since the epoch.
        labelled_by: As in the audit trail.
        at_s: Of the verdict.
        camera: Name.
        part: Id of the part that came with the trigger.
        first: Id of the event on the part's first frame.
        verdict: That the station gave.
        score: None where there was none; likewise threshold.
        threshold: See score.
        model: Content hash of the model that judged.
        view: What it sees of the frame, as JSON (`capture_record.View`).
    """

    id: str
    label: Label
    kind: str | None = None
    comment: str | None = None
    labelled_at_s: float
    labelled_by: str
    at_s: float
    camera: str
    part: str | None = None
    first: str | None = None
    verdict: str
    score: float | None = None
    threshold: float | None = None
    model: str | None = None
    view: str | None = None

    @property
    def rejected(self) -> bool:
        """Whether the station rejected it."""
        return self.verdict != "GOOD"

    @property
    def wrong(self) -> bool:
        """Whether the verdict was a false reject or a miss."""
        return self.rejected == (self.label == "good")


class ThresholdChange(Part):
    """A threshold that was set on the station.

    Args:
        at_s: Wall clock, seconds since the epoch.
        by: Who, as in the audit trail.
        camera: Whose verdicts it decides.
        model: Content hash of the model that it is for.
        old: What was valid before.
        new: What is valid since.
        configured: The configuration's own threshold at that time. Where that is changed later, the
            configuration counts again.
        undone: It was taken back.
    """

    at_s: float
    by: str
    camera: str
    model: str
    old: float | None
    new: float
    configured: float | None
    undone: bool = False
