"""What leaves the station: events with a stable id and a versioned form."""

from __future__ import annotations

import time
import uuid
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from .model_file.contract import StrictModel
from .names import Shown, ShownLines
from .records import Origin

_PICTURES = uuid.UUID("850c3a0f-4ecf-5cb7-83cf-48a4721a616e")
"""The namespace of the ids of events on pictures in files."""

SCHEMA: Literal[2] = 2
"""Raised whenever an older reader would misread a newer event; keys may be added without.

2: the score may be joined from those of several heads, so that the heatmap need not show why.
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


def new_id() -> str:
    """Returns an event's id: it stays the same however often the event is delivered."""
    return uuid.uuid4().hex


def picture_id(station: str, camera: str, source: str, origin: Origin) -> str:
    """Returns the id of the event on a picture in a file: the same whenever it is judged.

    Args:
        station: Name.
        camera: Name.
        source: Path of the folder or the video.
        origin: The picture.
    """
    told = "\0".join((station, camera, source, origin.key, origin.digest))
    return uuid.uuid5(_PICTURES, told).hex


class ModelRef(StrictModel):
    """Which model judged."""

    name: Shown
    hash: str


class FrameRef(StrictModel):
    """Which frame was judged.

    Args:
        name: File name, or source and number.
        index: Position in the source since it was opened.
        captured_at_s: Wall clock after the read, seconds since the epoch.
        age_ms: From the read to the verdict, by the monotonic clock.
        width: In pixels; likewise height.
        height: See width.
    """

    name: Shown
    index: int
    captured_at_s: float
    age_ms: float
    width: int
    height: int


class Event(StrictModel):
    """What every event has.

    Args:
        schema_version: See `SCHEMA`.
        id: Stable; a sink may deliver an event twice, and its id tells.
        at_s: Wall clock, seconds since the epoch.
        station: Name.
    """

    schema_version: Literal[1, 2] = SCHEMA
    id: str = Field(default_factory=new_id)
    at_s: float = Field(default_factory=time.time)
    station: str


class InspectionEvent(Event):
    """A verdict.

    Args:
        type: Always `inspection`.
        camera: Name.
        part: Id that came with the trigger, or None.
        trigger: What asked for it.
        verdict: GOOD, DEFECT or NO_DECISION.
        reject: Whether the part must go: true for everything but GOOD.
        code: Of a NO_DECISION's reason, for programs (`frozen`, `engine_timeout`).
        reason: The same for people.
        score: None where there is none.
        threshold: Of the model that judged, or the station's own.
        good_percentile: Share in percent of good calibration parts that score at most so much.
        head: Name of the head with the greatest score, which decides (`whole`, `coarse`, `fine`);
            None where the model has no heads or there is no score.
        heads: Score of each head by its name; None likewise.
        decided_by: In words, what the head judges that decided; None where nothing was decided.
        note: For people, where the heatmap need not show what is wrong.
        model: None where no model saw the frame.
        backend: What ran it.
        frame: None where there was no frame.
        stages_ms: Milliseconds per stage.
        evidence: Id of the kept picture, or None.
        identical_to: Name of a picture that this camera judged before, with the same content; None
            where there was none, or the source is live.
        first_event: Id of the event on the first frame of the same part; the event's own id on
            that frame; None where there is no part (a camera that was lost).
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
    """k of the last n parts were not good."""

    type: Literal["alarm"] = "alarm"
    camera: str
    rejects: int
    undecided: int
    frames: int


class StateEvent(Event):
    """Something of the station changed its state.

    Args:
        type: Always `state`.
        component: `camera:NAME`, `parts:NAME`, `engine`, `gpu`, `sink:NAME`, `outbox`, `evidence`,
            `labels`, `model`, `configuration`; `engine:NAME`, `gpu:NAME` and `model:NAME` of a
            camera's own model.
        state: The new one (`ok`, `stalled`, `degraded`).
        reason: In words.
    """

    type: Literal["state"] = "state"
    component: str
    state: str
    reason: ShownLines | None = None


class AuditEvent(Event):
    """Somebody changed something, logged in, or tried to.

    Args:
        type: Always `audit`.
        action: What was done; `activate` and `rollback` are changes of the model.
        by: `token`, `session` and its name, `anybody` where no token is needed, `files` where the
            configuration, the model store or the model file changed; `stranger` sent wrong tokens.
        address: Where it came from over the network; of several wrong tokens, most of them.
        old: What was valid before, or None.
        new: What is valid now, or None.
        error: Why it failed; None where it was done.
        count: How often, since the entry before: wrong tokens are told once a minute.
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
