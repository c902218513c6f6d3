"""The API's views of a station: health, cameras, sinks, evidence, and the latest verdicts."""

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


class ShownEvent(InspectionEvent, Telling):
    """A verdict whose reason the page can translate."""

    SENTENCES: ClassVar = ("reason",)

    @model_validator(mode="before")
    @classmethod
    def _show(cls, value: Any) -> Any:  # noqa: ANN401 - whatever is validated
        return dict(value) if type(value) is InspectionEvent else value

    @classmethod
    def of(cls, event: InspectionEvent) -> ShownEvent:
        """Returns the view of an event."""
        return cls.model_construct(**dict(event), said=cls.taken_apart(dict(event)))


class Alive(StrictModel):
    """Whether every stage has made progress recently."""

    live: bool


class _Stated(Telling):
    """The base of the views of what has a state.

    Args:
        state: The state, as a code for programs.
        reason: Why it is in this state; None if nothing is wrong.
    """

    SENTENCES: ClassVar = ("reason",)

    state: str
    reason: str | None = None


class StateView(_Stated):
    """The state of a component.

    Args:
        component: `camera:NAME`, `parts:NAME`, `engine`, `gpu`, `sink:NAME`, `outbox`, `evidence`,
            `labels`, `model`, `configuration`; `engine:NAME`, `gpu:NAME` and `model:NAME` for a
            camera's own model.
        state: `ok`, or what is wrong, as a code for programs.
        reason: What is wrong, in words.
        stops: Whether there are no verdicts in this state.
        values: The numbers in `reason`, by name.
    """

    component: str
    stops: bool = False
    values: dict[str, float] = Field(default_factory=dict)


class Health(StrictModel):
    """Whether the station works.

    Args:
        ready: Whether every camera and engine gives verdicts.
        degraded: Whether inspection goes on with a fault (a full disk, a fallback engine).
        reasons: Reasons in words, each beginning with its component (`camera:left: stalled ...`).
        problems: The same reasons for programs, in the same order.
        models: The current model of each camera.
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
    """A camera's setting as requested and as reported; see `cameras.base.Setting`."""

    SENTENCES: ClassVar = ("warning",)

    name: str
    requested: float | str | None = None
    actual: float | str | None = None
    warning: str | None = None


class CameraView(_Stated):
    """A camera.

    Args:
        name: Name of the camera in the configuration.
        state: `running` gives verdicts on fresh frames; anything else is a fault or a start.
        reason: Why it is not running.
        source: The source without its password (`config.grammar.redact`).
        trigger: `free`, or `command` if it judges on request.
        fps: Recent number of verdicts per second.
        frame_age_s: Seconds since the last frame was read; None before the first.
        width: Width of its frames in pixels.
        height: Height of its frames in pixels.
        frames: Number of frames read since the start.
        waiting: Pictures of a folder that waited when the last one was read; None elsewhere.
        reconnects: Number of reconnects since the start.
        refused_commands: Commands refused since the start: too fast, or too many waiting.
        verdicts: Number of each verdict since the start.
        parts: Counts of parts since midnight or a reset; None if they can't be read.
        threshold: Threshold in use; None if the model has none.
        alarm: What is wrong with its parts: all are rejected, too many are, or none comes.
        last: The last verdict on its frames.
        settings: Settings of the device.
        model: The model that judges its frames.
        shadow: Content hash of the model on trial; None if there is no trial.
    """

    name: str
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


class SinkView(_Stated):
    """A receiver of events.

    Args:
        name: `mqtt`, `jsonl`, or a webhook's (`webhook:mes`).
        state: `ok`; `down` accepts no events at the moment; `limited` accepts less than was
            configured.
        reason: Why it is not `ok`.
        pending: Number of events that it has not confirmed.
        delivered: Number of events confirmed since the start.
        undeliverable: Number of events skipped since the start, since it can never accept them.
    """

    name: str
    pending: int = 0
    delivered: int = 0
    undeliverable: int = 0


class OutboxView(_Stated):
    """The events that wait for delivery.

    Args:
        state: `ok`, or `degraded` if something failed.
        reason: Why it is degraded.
        pending: Number of events that some sink has not confirmed.
        oldest_s: Age of the oldest of them in seconds; None if none is waiting.
        dropped: Number of events deleted at the limit since the start.
        bytes: Size of the database.
    """

    state: str = "ok"
    pending: int = 0
    oldest_s: float | None = None
    dropped: int = 0
    bytes: int = 0


class EvidenceView(_Stated):
    """The kept pictures.

    Args:
        state: `ok`, or `degraded` if something failed.
        reason: Why it is degraded.
        pictures: Number of kept pictures.
        bytes: Size of all files together.
        max_bytes: Limit of the size `bytes`.
        free_bytes: Free space on the disk.
        skipped: Number of pictures not kept since the start, as queue or disk were full.
    """

    state: str = "ok"
    pictures: int = 0
    bytes: int = 0
    max_bytes: int = 0
    free_bytes: int | None = None
    skipped: int = 0


class WebView(StrictModel):
    """The web server and its misuse.

    Args:
        troubles: Number of refused requests and closed connections since the start, by kind.
    """

    troubles: dict[str, int] = Field(default_factory=dict)


class EvidenceEntry(StrictModel):
    """A kept picture.

    Args:
        id: Id of the picture, as in its event.
        at_s: Wall-clock time of the event, in seconds since the epoch.
        camera: Name of the camera.
        part: Id of the part, from the trigger.
        verdict: GOOD, DEFECT or NO_DECISION.
        reason: Reason of a NO_DECISION.
        score: The score; None if there is none.
        threshold: The threshold; None if there is none.
        head: Name of the head with the greatest score; None without heads.
        decided_by: In words, what the deciding head judges; None without heads.
        note: A note for people if the heatmap may not show what is wrong.
        kinds: Kinds of its files; a thumbnail can be requested in any case.
        bytes: Size of its files.
        frames: Number of frames of the same part, of which this is the worst.
        label: A person's label for the part; None if there is none.
        defect: Kind of the defect, in that person's words.
        comment: Comment of that person.
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
        station: Name of the station.
        version: Version of this package.
        at_s: Current wall-clock time of the station, in seconds since the epoch.
        started_at_s: Wall-clock time of the start, in seconds since the epoch.
        uptime_s: Seconds since the start, by the monotonic clock.
        health: Whether the station works.
        threshold: Threshold of the first camera of `engine`; None if its model has none.
        cameras: All cameras, in the order of the configuration.
        engine: The first of `engines`: that of `[model]`, if a camera needs it.
        engines: One engine for each model.
        sinks: The receivers of the events.
        outbox: The events that wait for delivery.
        evidence: The pictures that are kept.
        web: Misuse of the web server.
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
