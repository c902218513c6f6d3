"""What is shown of a model that is tried beside the one that judges a camera."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ..metadata import Part


class ShadowToStart(Part):
    """The model to try, by its content hash."""

    model: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Side(Part):
    """What one of the two models says of a frame.

    Args:
        verdict: NO_DECISION where it can't judge the frame; that rejects the part, too.
        score: None where there is none.
        threshold: Likewise.
    """

    verdict: Literal["GOOD", "DEFECT", "NO_DECISION"]
    score: float | None = None
    threshold: float | None = None


class Difference(Part):
    """A frame that one model rejects and the other does not.

    Args:
        id: Of its picture.
        time: Of the live verdict, ISO 8601.
        live: What the model says that judges.
        shadow: What the other one says.
    """

    id: str
    time: str
    live: Side
    shadow: Side


class ShadowView(Part):
    """A model on trial: it sees a camera's frames after the live model, and decides nothing.

    Args:
        camera: Name.
        model: Its content hash.
        since: ISO 8601; the counts begin anew when another model judges.
        state: `failed` has ended; the reason is in `error`.
        error: See state.
        judged: Frames that both have judged.
        skipped: Frames that only the live model judged, since no engine was free for the other.
        agree: Of the judged ones, those that both reject or neither does.
        only_live_rejects: Those that the live model alone rejects.
        only_shadow_rejects: Those that the model on trial alone rejects.
        differing: The latest frames where they differ, the newest first.
    """

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
