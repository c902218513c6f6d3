"""The API's view of trials (shadows)."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from ..metadata import Part
from ..names import ContentHash
from ..telling import Telling


class ShadowToStart(Part):
    """The model to try, by its content hash."""

    model: ContentHash


class Side(Part):
    """One of the two models' result for a frame.

    Args:
        verdict: NO_DECISION if it can't judge the frame, which also rejects the part.
        score: None if there is none.
        threshold: None if there is none.
    """

    verdict: Literal["GOOD", "DEFECT", "NO_DECISION"]
    score: float | None = None
    threshold: float | None = None


class Difference(Part):
    """A frame that one model rejects and the other does not.

    Args:
        id: Id of its picture.
        time: Time of the live verdict, ISO 8601.
        live: The live model's result.
        shadow: The result of the model on trial.
    """

    id: str
    time: str
    live: Side
    shadow: Side


class ShadowView(Telling):
    """A trial: a second model scores a camera's frames after the live model, without any effect.

    Args:
        camera: Name of the camera.
        model: Content hash of the model on trial.
        since: Start of the counts, ISO 8601; they start again when the live model changes.
        state: A trial that is `failed` has ended.
        error: Why it failed; None if it did not.
        judged: Number of frames that both models judged.
        skipped: Number of frames that only the live model judged, since the engines were busy.
        agree: Number of judged frames that both models reject, or neither does.
        only_live_rejects: Number of judged frames that only the live model rejects.
        only_shadow_rejects: Number of judged frames that only the model on trial rejects.
        differing: The latest frames on which they differ, the newest first.
    """

    SENTENCES: ClassVar = ("error",)

    camera: str
    model: str
    since: str
    state: Literal["starting", "running", "failed"]
    error: str | None = None
    judged: int = 0
    skipped: int = 0
    agree: int = 0
    only_live_rejects: int = 0
    only_shadow_rejects: int = 0
    differing: list[Difference] = Field(default_factory=list)
