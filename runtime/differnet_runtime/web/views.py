"""What the API shows of a station: health, cameras, sinks, evidence, and the latest verdicts."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from ..events import InspectionEvent, ModelRef
from ..model_file.contract import StrictModel
from ..outbox.table import PartsView
from ..telling import Telling
from .model_views import EngineView


class RecentEvent(StrictModel):
    """A verdict and its place in the order of verdicts since the start."""

    number: int = Field(ge=1)
    event: InspectionEvent


class ShownEvent(InspectionEvent, Telling):
    """A verdict as the page gets it: its reason can be said in another language."""

    SENTENCES: ClassVar = ("reason",)

    @model_validator(mode="before")
    @classmethod
    def _show(cls, value: Any) -> Any:  # noqa: ANN401 - whatever is validated
        return dict(value) if type(value) is InspectionEvent else value

    @classmethod
    def of(cls, event: InspectionEvent) -> ShownEvent:
        """Returns an event with its reason taken apart."""
        return cls.model_construct(**dict(event), said=cls.taken_apart(dict(event)))


class Alive(StrictModel):
    """Whether every stage has made progress recently."""

    live: bool


class StateView(Telling):
    """The state of a component.

    Args:
        component: `camera:NAME`, `parts:NAME`, `engine`, `gpu`, `sink:NAME`, `outbox`, `evidence`,
            `labels`, `model`, `configuration`; `engine:NAME`, `gpu:NAME` and `model:NAME` for a
            camera's own model.
        state: `ok`, or what is wrong, as a code for programs.
        reason: What is wrong, in words.
        stops: Whether there are no verdicts while it lasts.
        values: The figures that `reason` mentions, by name.
    """

    SENTENCES: ClassVar = ("reason",)

    component: str
    state: str
    reason: str | None = None
    stops: bool = False
    values: dict[str, float] = Field(default_factory=dict)


class Health(StrictModel):
    """Whether the station does its work.

    Args:
        ready: Every camera and the engine give verdicts.
        degraded: Inspection goes on, but something is amiss (a full disk, a fallback engine).
        reasons: In words, each beginning with its component (`camera:left: stalled ...`).
        problems: The same for programs, in the same order.
        models: By camera, the model that judges it now.
    """

    ready: bool
    degraded: bool = False
    reasons: list[str] = Field(default_factory=list)
    problems: list[StateView] = Field(default_factory=list)
    models: dict[str, ModelRef] = Field(default_factory=dict)

    @classmethod
    def of(cls, states: Iterable[StateView]) -> Health:
        """Summarises the states of all components."""
        wrong = [state for state in states if state.state != "ok"]
        return cls(
            ready=not any(state.stops for state in wrong),
            degraded=any(not state.stops for state in wrong),
            reasons=[
                f"{state.component}: {state.state}" + (f": {state.reason}" if state.reason else "")
                for state in wrong
            ],
            problems=wrong,
        )


EvidenceKind = Literal["image", "heatmap", "thumbnail"]


class SettingView(Telling):
    """What became of a camera's setting; see `cameras.settings.Setting`."""

    SENTENCES: ClassVar = ("warning",)

    name: str
    requested: float | str | None = None
    actual: float | str | None = None
    warning: str | None = None


class CameraView(Telling):
    """A camera.

    Args:
        name: Of its table in the configuration.
        state: `running` gives verdicts on fresh frames; anything else is a fault or a start.
        reason: Why it does not run.
        source: Without password (`cameras.redact`).
        trigger: `free`, or `command` where it judges on request.
        fps: Verdicts a second, lately.
        frame_age_s: Since the last frame was read; None before the first.
        width: Of its frames, in pixels; likewise height.
        height: See width.
        frames: Read since the start.
        waiting: Pictures of a folder that waited when the last one was read; None elsewhere.
        reconnects: Since the start.
        refused_commands: Commands refused since the start: too fast, or too many waiting.
        verdicts: Count of each since the start.
        parts: Since midnight or a reset; None where they can't be read.
        threshold: That decides on its frames now; None where the model has none.
        alarm: What is wrong with its parts: all are rejected, too many are, or none comes.
        last: The last verdict.
        settings: Of the device.
        model: That judges it now.
        shadow: Content hash of the model on trial; None if there is no trial.
    """

    SENTENCES: ClassVar = ("reason",)

    name: str
    state: str
    reason: str | None = None
    source: str
    trigger: Literal["free", "command"] = "free"
    fps: float | None = None
    frame_age_s: float | None = None
    width: int | None = None
    height: int | None = None
    frames: int = 0
    waiting: int | None = None
    reconnects: int = 0
    refused_commands: int = 0
    verdicts: dict[str, int] = Field(default_factory=dict)
    parts: PartsView | None = None
    threshold: float | None = None
    alarm: str | None = None
    last: ShownEvent | None = None
    settings: list[SettingView] = Field(default_factory=list)
    model: ModelRef | None = None
    shadow: str | None = None


class SinkView(Telling):
    """A receiver of events.

    Args:
        name: `mqtt`, `jsonl`, or a webhook's (`webhook:mes`).
        state: `ok`; `down` does not take events at the moment; `limited` takes less than was
            configured.
        reason: Why.
        pending: Events that it has not confirmed.
        delivered: Confirmed since the start.
        undeliverable: Events that it can never take, passed over since the start.
    """

    SENTENCES: ClassVar = ("reason",)

    name: str
    state: str
    reason: str | None = None
    pending: int = 0
    delivered: int = 0
    undeliverable: int = 0


class OutboxView(Telling):
    """The events that wait for delivery.

    Args:
        state: `ok` or `degraded`.
        reason: Why.
        pending: Events that some sink has not confirmed.
        oldest_s: Age of the oldest of them; None where none waits.
        dropped: Deleted at the cap since the start.
        bytes: Of the database.
    """

    SENTENCES: ClassVar = ("reason",)

    state: str = "ok"
    reason: str | None = None
    pending: int = 0
    oldest_s: float | None = None
    dropped: int = 0
    bytes: int = 0


class EvidenceView(Telling):
    """The kept pictures.

    Args:
        state: `ok` or `degraded`.
        reason: Why.
        pictures: Kept.
        bytes: All files together.
        max_bytes: The cap.
        free_bytes: Of the disk.
        skipped: Pictures not kept (queue or disk full) since the start.
    """

    SENTENCES: ClassVar = ("reason",)

    state: str = "ok"
    reason: str | None = None
    pictures: int = 0
    bytes: int = 0
    max_bytes: int = 0
    free_bytes: int | None = None
    skipped: int = 0


class WebView(StrictModel):
    """The page's server among strangers.

    Args:
        troubles: How often something was refused or closed since the start, by kind.
    """

    troubles: dict[str, int] = Field(default_factory=dict)


class EvidenceEntry(StrictModel):
    """A kept picture.

    Args:
        id: Names it in `evidence_file`, and in its event.
        at_s: Wall clock of the event, seconds since the epoch.
        camera: Name.
        part: Id that came with the trigger.
        verdict: GOOD, DEFECT or NO_DECISION.
        reason: Of a NO_DECISION.
        score: None where there is none.
        threshold: Likewise.
        head: Name of the head with the greatest score; None without heads.
        decided_by: In words, what the model's head judges that decided; None without heads.
        note: For people, where the heatmap need not show what is wrong.
        kinds: What is kept of it; a thumbnail may be asked for in any case.
        bytes: Of its files.
        frames: Of the same part; this is the worst of them.
        label: What a person says that the part is; None where nobody has said so.
        defect: Kind of the defect, in that person's words.
        comment: Of that person.
    """

    id: str
    at_s: float
    camera: str
    part: str | None = None
    verdict: Literal["GOOD", "DEFECT", "NO_DECISION"]
    reason: str | None = None
    score: float | None = None
    threshold: float | None = None
    head: str | None = None
    decided_by: str | None = None
    note: str | None = None
    kinds: list[EvidenceKind]
    bytes: int = 0
    frames: int = 1
    label: Literal["good", "defect"] | None = None
    defect: str | None = None
    comment: str | None = None


class Overview(StrictModel):
    """All that the page shows at a glance.

    Args:
        station: Name.
        version: Of this package.
        at_s: Now, by the station's wall clock, seconds since the epoch.
        started_at_s: Wall clock, seconds since the epoch.
        uptime_s: By the monotonic clock.
        health: See `Health`.
        threshold: That of the first camera of `engine`; None where its model has none.
        cameras: In the order of the configuration.
        engine: The first one of `engines`: that of `[model]`, where a camera needs it.
        engines: One for each model.
        sinks: See `SinkView`.
        outbox: See `OutboxView`.
        evidence: See `EvidenceView`.
        web: See `WebView`.
    """

    station: str
    version: str
    at_s: float = Field(default_factory=time.time)
    started_at_s: float
    uptime_s: float
    health: Health
    threshold: float | None = None
    cameras: list[CameraView]
    engine: EngineView
    engines: list[EngineView] = Field(default_factory=list)
    sinks: list[SinkView] = Field(default_factory=list)
    outbox: OutboxView = OutboxView()
    evidence: EvidenceView = EvidenceView()
    web: WebView = WebView()
