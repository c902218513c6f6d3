"""What is shown of labels, and of thresholds that were set on the station."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ..labels import Label, Labelled, Summary, ThresholdChange
from ..labels.records import Comment, Kind
from ..metadata import Part

_LIMIT = 1e30


class LabelToSet(Part):
    """What a person says of a kept picture.

    Args:
        label: `good`, or `defect`; null takes the label back.
        kind: Of the defect.
        comment: A few lines.
    """

    label: Label | None
    kind: Kind | None = None
    comment: Comment | None = None


class LabelView(Labelled):
    """A label, and whether its picture is still kept."""

    picture: bool


class ThresholdToSet(Part):
    """A threshold for the model that judges a camera now.

    Args:
        threshold: Scores above it are defects.
        force: Set it although more labelled defects would pass, or most good parts be rejected.
    """

    threshold: Annotated[float, Field(ge=-_LIMIT, le=_LIMIT, allow_inf_nan=False)]
    force: bool = False


class LabelSummary(Summary):
    """What labels say of the model that judges a camera now.

    Args:
        camera: Name.
        name: Name of the model; empty, like the hash, where none judges yet.
        hash: Of its file's content.
        threshold: That decides now; None where the model has none.
        set_by: Where it comes from: the model, the configuration, or a person on the station.
        changes: Thresholds that were set on the station for this camera, the latest first.
    """

    camera: str
    name: str
    hash: str
    threshold: float | None = None
    set_by: Literal["model", "configuration", "station"]
    changes: list[ThresholdChange]
