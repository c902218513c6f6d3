"""Events, which leave the station: their ids are stable, and their schema is versioned."""

from __future__ import annotations

import time
import uuid
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from .model_file.contract import StrictModel
from .names import Shown, ShownLines
from .records import Origin

_PICTURES = uuid.UUID("850c3a0f-4ecf-5cb7-83cf-48a4721a616e")
"""Namespace of the ids of events on pictures in files."""

SCHEMA: Literal[2] = 2
"""Version of the schema, raised if older readers would misread newer events; not for new keys.

2: the score may be joined from those of several heads, so the heatmap may not show the reason.
"""

Trigger = Literal["free", "http", "mqtt"]
AuditAction = Literal[
    "login",
    "logout",
    "wrong_token",
    "activate",
    "rollback",
    "threshold",
    "configuration",
    "label",
    "reset",
    "shadow",
    "note",
    "teach",
]


def picture_id(station: str, camera: str, source: str, origin: Origin) -> str:
    """Returns the id of the event on a picture in a file, the same whenever it is judged.

    Args:
        station: Name of the station.
        camera: Name of the camera.
        source: Path of the folder or the video.
        origin: Identifies the picture within the source.
    """
    name = "\0".join((station, camera, source, origin.key, origin.digest))
    return uuid.uuid5(_PICTURES, name).hex


class ModelRef(StrictModel):
    """The model that judged, by its name and content hash."""

    name: Shown
    hash: str


class FrameRef(StrictModel):
    """The frame that was judged.

    Args:
        name: File name, or source and number.
        index: Position in the source since it was opened.
        captured_at_s: Wall clock after the read, seconds since the epoch.
        age_ms: Milliseconds from the read to the verdict, by the monotonic clock.
        width: In pixels.
        height: In pixels.
    """

    name: Shown
    index: int
    captured_at_s: float
    age_ms: float
    width: int
    height: int


class Event(StrictModel):
    """Base class of all events.

    Args:
        schema_version: Version of the schema; see `SCHEMA`.
        id: Stable id, by which a receiver recognises an event that is delivered twice.
        at_s: Wall clock, seconds since the epoch.
        station: Name of the station.
    """

    schema_version: Literal[1, 2] = SCHEMA
    id: str = Field(default_factory=lambda: uuid.uuid4().hex)
    at_s: float = Field(default_factory=time.time)
    station: str


class InspectionEvent(Event):
    """A verdict.

    Args:
        type: Kind of event, always `inspection`.
        camera: Name of the camera.
        part: Id of the part that came with the trigger; None if it had none.
        trigger: What asked for the verdict; `free` if the camera runs free.
        verdict: GOOD, DEFECT or NO_DECISION.
        reject: Whether the part must be rejected: true for everything but GOOD.
        code: Reason of a NO_DECISION, for programs (`frozen`, `engine_timeout`).
        reason: Reason of a NO_DECISION, for people.
        score: Anomaly score of the frame; None if there is none.
        threshold: Threshold of the model that judged, or the station's own.
        good_percentile: Percentage of the good calibration parts with at most this score.
        head: Name of the head with the greatest score, which decides (`whole`, `coarse`, `fine`);
            None if the model has no heads or there is no score.
        heads: Score of each head by its name; None if `head` is.
        decided_by: In words, what the deciding head looks at; None if nothing was decided.
        note: For people, if the heatmap may not show what is wrong.
        model: Model that judged; None if no model saw the frame.
        backend: Backend that ran the model.
        frame: The frame; None if there was none.
        stages_ms: Milliseconds per stage.
        evidence: Id of the kept picture, or None.
        identical_to: Name of a picture with the same content that this camera judged before; None
            if there is none, or the source is live.
        first_event: Id of the event on the first frame of the same part, which may be this one;
            None if the verdict is on no part (a camera that was lost).
        part_frame: Number of the frame within its part, from 1.
    """

    type: Literal["inspection"] = "inspection"
    camera: str
    part: str | None = None
    trigger: Trigger = "free"
    verdict: Literal["GOOD", "DEFECT", "NO_DECISION"]
    reject: bool
    code: str | None = None
    reason: ShownLines | None = None
    score: float | None = None
    threshold: float | None = None
    good_percentile: float | None = None
    head: str | None = None
    heads: dict[str, float] | None = None
    decided_by: str | None = None
    note: str | None = None
    model: ModelRef | None = None
    backend: str | None = None
    frame: FrameRef | None = None
    stages_ms: dict[str, float] = Field(default_factory=dict)
    evidence: str | None = None
    identical_to: Shown | None = None
    first_event: Shown | None = None
    part_frame: Annotated[int, Field(ge=1)] = 1


class AlarmEvent(Event):
    """k of the last n frames were not GOOD; see `[decision]`."""

    type: Literal["alarm"] = "alarm"
    camera: str
    rejects: int
    undecided: int
    frames: int


class StateEvent(Event):
    """A component of the station changed its state.

    Args:
        type: Kind of event, always `state`.
        component: `camera:NAME`, `parts:NAME`, `engine`, `gpu`, `sink:NAME`, `outbox`, `evidence`,
            `labels`, `model`, `configuration`; `engine:NAME`, `gpu:NAME` and `model:NAME` for a
            camera's own model.
        state: The new state (`ok`, `stalled`, `degraded`).
        reason: Why, in words; None if it is ok.
    """

    type: Literal["state"] = "state"
    component: str
    state: str
    reason: ShownLines | None = None


class AuditEvent(Event):
    """Somebody changed something, logged in, or tried to.

    Args:
        type: Kind of event, always `audit`.
        action: What was done; `activate` and `rollback` are changes of the model.
        by: `token`, `session` and its name, `anybody` if no token is needed, `files` if the
            configuration, the model store or the model file changed; `stranger` for wrong tokens.
        address: Network address of the sender; for several wrong tokens, the most frequent one.
        old: What was valid before, or None.
        new: What is valid now, or None.
        error: Why it failed; None if it succeeded.
        count: Number of occurrences since the last entry; wrong tokens are reported once a minute.
    """

    type: Literal["audit"] = "audit"
    action: AuditAction
    by: str
    address: str | None = None
    old: ShownLines | None = None
    new: ShownLines | None = None
    error: ShownLines | None = None
    count: int = 1


AnyEvent = Annotated[
    InspectionEvent | AlarmEvent | StateEvent | AuditEvent, Field(discriminator="type")
]
EVENT: TypeAdapter[InspectionEvent | AlarmEvent | StateEvent | AuditEvent] = TypeAdapter(AnyEvent)
"""Reads any event from JSON; `EVENT.json_schema()` is the documented schema."""
