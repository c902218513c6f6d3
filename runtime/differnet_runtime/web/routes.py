"""The API of the station, without teaching and streams.

Overview, events, evidence, models, audit trail and triggers; and what an operator corrects and
tries: labels, thresholds, counters, trials and notes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

from fastapi import APIRouter, Query
from fastapi import Path as PathKey
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from pydantic import Field
from starlette.responses import Response

from ..config.models import Name
from ..errors import TooManyCommandsError
from ..events import AuditAction, AuditEvent
from ..labels import Label, Labelled
from ..model_file.contract import StrictModel
from ..names import ContentHash, Note, PartId
from ..sentences import sentence
from .answers import Refused
from .audit import switching
from .connections import sender_of
from .control import Control
from .live import RecentEvent
from .model_views import (
    LabelSummary,
    LabelToSet,
    LabelView,
    ModelView,
    ShadowToStart,
    ShadowView,
    ThresholdToSet,
)
from .pages import FileAnswer
from .routing import DIGITS, Call, CallDep, CameraDep, Flag, StationRoute, Whole, media, problems
from .views import Alive, EvidenceEntry, EvidenceKind, Health, Overview, ShownEvent

router = APIRouter(route_class=StationRoute)

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
Verdict = Literal["GOOD", "DEFECT", "NO_DECISION"]
EntryId = Annotated[str, Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z_-]{0,127}$")]
EntryPath = Annotated[EntryId, PathKey(alias="id")]
"""Id of the kept picture in the path."""
_MEDIA = {".jpg": "image/jpeg", ".png": "image/png"}


class LiveQuery(StrictModel):
    """Whether heatmap and verdict are drawn on the picture."""

    overlay: Flag = False


class EventsQuery(StrictModel):
    """Selects verdicts: number to start after, camera, and maximum number."""

    camera: Name | None = None
    after: Whole = 0
    limit: Annotated[int, Field(ge=1, le=2000), DIGITS] = 500


class Events(StrictModel):
    """Verdicts since the start that are still in memory, oldest first."""

    events: list[RecentEvent]
    latest: int


class EvidenceQuery(StrictModel):
    """Selects kept pictures: camera, verdict, id to start before, and maximum number."""

    camera: Name | None = None
    verdict: Verdict | None = None
    before: EntryId | None = None
    limit: Annotated[int, Field(ge=1, le=500), DIGITS] = 60


class EvidencePage(StrictModel):
    """Kept pictures, newest first."""

    entries: list[EvidenceEntry]


class Models(StrictModel):
    """The models of this station."""

    models: list[ModelView]


class Activation(StrictModel):
    """The model to switch to; its name is needed only if the station has it under several."""

    hash: ContentHash
    name: Name | None = None


class Nothing(StrictModel):
    """An empty object."""


class Rollback(StrictModel):
    """The model to roll back; may be omitted if the station has only one."""

    name: Name | None = None


class PartToJudge(StrictModel):
    """The part in front of the camera."""

    part: PartId | None = None


class AuditQuery(StrictModel):
    """Maximum number of entries."""

    limit: Annotated[int, Field(ge=1, le=200), DIGITS] = 50


class Audit(StrictModel):
    """Changes, logins and wrong tokens since the start that are still in memory, newest first."""

    entries: list[AuditEvent]


@router.get("/livez", responses={503: {"model": Alive, "description": "It should be restarted."}})
async def livez(call: CallDep, response: Response) -> Alive:
    """Whether every stage makes progress."""
    live = await call.health.run(call.control.live)
    response.status_code = 200 if live else 503
    return Alive(live=live)


@router.get("/readyz", responses={503: {"model": Health, "description": "It does not."}})
async def readyz(call: CallDep, response: Response) -> Health:
    """Whether every camera gives verdicts, and the reasons if not."""
    health = await call.health.run(call.control.health)
    response.status_code = 200 if health.ready else 503
    return health


@router.get(
    "/metrics",
    response_class=Response,
    responses=media("The station's metrics.", PROMETHEUS),
)
async def metrics(call: CallDep) -> Response:
    """Metrics for Prometheus."""
    registry: CollectorRegistry = call.request.app.state.registry
    figures = await call.reads.run(partial(generate_latest, registry))
    return Response(figures, media_type=PROMETHEUS)


@router.get("/api/overview")
async def overview(call: CallDep) -> Overview:
    """The state of everything: cameras, engine, sinks, outbox and evidence."""
    return await call.reads.run(call.control.overview)


@router.get(
    "/api/cameras/{camera}/live.jpg",
    response_class=Response,
    responses=media(
        "The picture; X-Frame-Age-Ms says how old it is, X-Event holds its verdict as JSON.",
        "image/jpeg",
    )
    | problems(404),
)
async def live_picture(
    call: CallDep, camera: CameraDep, query: Annotated[LiveQuery, Query()]
) -> Response:
    """The newest judged picture of a camera."""
    jpeg = await call.reads.run(partial(call.control.jpeg, camera, overlay=query.overlay))
    if jpeg is None:
        raise Refused(404, "this camera has no judged picture yet")
    age_ms = (time.monotonic_ns() - jpeg.captured_ns) // 1_000_000
    headers = {
        "X-Frame-Number": str(jpeg.number),
        "X-Frame-Age-Ms": str(age_ms),
        "X-Event": json.dumps(
            ShownEvent.of(jpeg.event).model_dump(mode="json")
        ),  # ASCII, as a header must be
    }
    return Response(jpeg.data, headers=headers, media_type="image/jpeg")


@router.get("/api/events", responses=problems(404))
async def events(call: CallDep, query: Annotated[EventsQuery, Query()]) -> Events:
    """The latest verdicts, numbered; the next request continues after `latest`."""
    call.check_camera(query.camera)
    recent = call.control.recent
    found = recent.after(query.after, camera=query.camera, limit=query.limit)
    return Events.model_construct(events=found, latest=recent.number)


@router.get("/api/evidence", responses=problems(404))
async def evidence(call: CallDep, query: Annotated[EvidenceQuery, Query()]) -> EvidencePage:
    """Kept pictures, newest first."""
    call.check_camera(query.camera)
    wanted = partial(call.control.evidence, query.camera, query.verdict, query.before, query.limit)
    return EvidencePage(entries=await call.reads.run(wanted))


@router.get(
    "/api/evidence/{id}/{kind}",
    response_class=Response,
    responses=media("The picture.", *_MEDIA.values()) | problems(404),
)
async def evidence_file(call: CallDep, entry: EntryPath, kind: EvidenceKind) -> Response:
    """A kept picture."""
    found = await call.reads.run(partial(_open_evidence, call.control, entry, kind))
    if found is None:
        raise Refused(404, sentence("no_such_picture"))
    return FileAnswer(*found, call.reads)


def _open_evidence(control: Control, entry: str, kind: EvidenceKind) -> tuple[BinaryIO, str] | None:
    path: Path | None = control.evidence_file(entry, kind)
    if path is None and kind == "thumbnail":
        path = control.evidence_file(entry, "image")
    try:
        return (path.open("rb"), _MEDIA[path.suffix]) if path is not None else None
    except FileNotFoundError:  # a cap took it just now
        return None


@router.get("/api/models")
async def models(call: CallDep) -> Models:
    """The models of this station."""
    return Models(models=await call.reads.run(call.control.models))


@router.post("/api/models/activate", responses=problems(409))
async def activate(call: CallDep, body: Activation) -> Models:
    """Switches to a model; answers once it judges."""
    return await _switch(call, "activate", partial(call.control.activate, body.hash, body.name))


@router.post("/api/models/rollback", responses=problems(409))
async def rollback(call: CallDep, body: Rollback) -> Models:
    """Switches back to the previous model."""
    return await _switch(call, "rollback", partial(call.control.rollback, body.name))


async def _switch(call: Call, action: AuditAction, change: Callable[[], None]) -> Models:
    def audited() -> None:
        try:
            with switching(call.control, action, call.by, call.address):
                change()
        finally:
            call.control.audit.settle()

    await call.changes.run(audited)
    return await models(call)


@router.get("/api/audit")
async def audit(call: CallDep, query: Annotated[AuditQuery, Query()]) -> Audit:
    """Who changed what, logged in, or sent a wrong token; newest first."""
    return Audit(entries=call.control.audit.latest(query.limit))


@router.post("/api/cameras/{camera}/trigger", responses=problems(404, 409, 429))
async def trigger(call: CallDep, camera: CameraDep, body: PartToJudge) -> ShownEvent:
    """Judges a part now."""
    if call.changes.busy:
        raise Refused(503, sentence("too_many_requests"), "try again")
    sender = sender_of(call.address)
    try:
        verdict = call.control.trigger(camera, body.part, sender)
    except TooManyCommandsError as error:  # costs no thread
        call.control.troubles.note("commands", sender, str(error))
        raise
    return ShownEvent.of(await call.changes.run(verdict))


class LabelsQuery(StrictModel):
    """Selects labels: camera, good parts or defects, and maximum number."""

    camera: Name | None = None
    label: Label | None = None
    limit: Annotated[int, Field(ge=1, le=10_000), DIGITS] = 500


class LabelPage(StrictModel):
    """Labels, latest first."""

    labels: list[LabelView]


class CamerasToReset(StrictModel):
    """The camera whose part counts are reset; null for all cameras."""

    camera: Name | None = None


@router.get("/api/labels", responses=problems(404))
async def labels(call: CallDep, query: Annotated[LabelsQuery, Query()]) -> LabelPage:
    """Labels of kept pictures, latest first."""
    call.check_camera(query.camera)
    found = [
        one
        for one in await call.reads.run(call.control.labelling.labels)
        if query.camera in (None, one.camera) and query.label in (None, one.label)
    ]
    return LabelPage(labels=found[: query.limit])


@router.post("/api/labels/{id}", responses=problems(404, 409))
async def label(call: CallDep, entry: EntryPath, body: LabelToSet) -> LabelToSet:
    """Labels a kept picture; answers with the label as it is stored."""

    def audited() -> None:
        with call.failure_noted("label", f"{entry}: no label"):
            before = call.control.labelling.label(entry, body, call.by)
        old = _label_told(before) if before else "no label"
        call.note("label", f"{entry}: {old}", _label_told(body))

    await call.reads.run(audited)
    return body


def _label_told(label: LabelToSet | Labelled) -> str:
    words = [label.label or "no label", label.kind, label.comment and f"({label.comment})"]
    return " ".join(word for word in words if word)


@router.get("/api/cameras/{camera}/labels", responses=problems(404))
async def label_summary(call: CallDep, camera: CameraDep) -> LabelSummary:
    """What labels say about a camera's current model, and its threshold."""
    return await call.reads.run(partial(call.control.labelling.summary, camera))


@router.post("/api/cameras/{camera}/threshold", responses=problems(404, 409))
async def set_threshold(call: CallDep, camera: CameraDep, body: ThresholdToSet) -> LabelSummary:
    """Sets the threshold of a camera's model."""
    change = partial(call.control.labelling.set_threshold, camera, body, call.by)
    return await _threshold(call, camera, change)


@router.post("/api/cameras/{camera}/threshold/undo", responses=problems(404, 409))
async def undo_threshold(call: CallDep, camera: CameraDep, _body: Nothing) -> LabelSummary:
    """Undoes the last change of the threshold."""
    return await _threshold(call, camera, partial(call.control.labelling.undo_threshold, camera))


async def _threshold(call: Call, camera: str, change: Callable[[], None]) -> LabelSummary:
    def audited() -> LabelSummary:
        before = _threshold_text(call, camera)
        with call.failure_noted("threshold", before):
            change()
        call.note("threshold", before, _threshold_text(call, camera))
        return call.control.labelling.summary(camera)

    return await call.reads.run(audited)


def _threshold_text(call: Call, camera: str) -> str:
    found = call.control.labelling.summary(camera)
    value = "none" if found.threshold is None else f"{found.threshold:g}"
    return f"{camera}: {value} ({found.set_by})"


@router.post("/api/parts/reset", responses=problems(404))
async def reset_parts(call: CallDep, body: CamerasToReset) -> CamerasToReset:
    """Resets the counts of parts to zero."""
    call.check_camera(body.camera)
    names = call.control.cameras() if body.camera is None else [body.camera]

    def audited() -> None:
        call.control.reset_parts(tuple(names))
        call.note("reset", None, f"counts reset: {', '.join(names)}")

    await call.reads.run(audited)
    return body


_JPEG = "image/jpeg"
_PICTURE = media("A frame on which the two models differ.", _JPEG)
PictureDep = Annotated[str, PathKey(alias="id", pattern=r"^[0-9]{1,18}$")]
"""Number of the picture in the path."""
ModelDep = Annotated[ContentHash, PathKey(alias="id")]
"""Content hash of the model in the path."""


class NoteToSet(StrictModel):
    """A person's note on a model; null or an empty text removes it."""

    note: Annotated[Note | None, Field(default=None)]


@router.put("/api/cameras/{camera}/shadow", responses=problems(404, 409))
async def start_shadow(call: CallDep, camera: CameraDep, body: ShadowToStart) -> ShadowView:
    """Starts a trial: the model scores the camera's frames without any effect on verdicts."""

    def audited() -> ShadowView:
        before = _told(call, camera)
        with call.failure_noted("shadow", before):
            started = call.control.start_shadow(camera, body.model)
        call.note("shadow", before, _told(call, camera))
        return started

    return await call.changes.run(audited)


@router.get("/api/cameras/{camera}/shadow", responses=problems(404))
async def shadow(call: CallDep, camera: CameraDep) -> ShadowView:
    """The trial on a camera: how often its model and the live model agree."""
    found = call.control.shadow(camera)
    if found is None:
        raise Refused(404, sentence("no_trial"))
    return found


@router.delete("/api/cameras/{camera}/shadow", status_code=204, responses=problems(404))
async def stop_shadow(call: CallDep, camera: CameraDep) -> None:
    """Ends the trial on a camera."""

    def audited() -> None:
        before = _told(call, camera)
        if call.control.stop_shadow(camera):
            call.note("shadow", before, _told(call, camera))

    await call.changes.run(audited)


@router.get("/api/cameras/{camera}/shadow/{id}", response_class=Response,
            responses={**_PICTURE, **problems(404)})  # fmt: skip
async def shadow_picture(call: CallDep, camera: CameraDep, picture: PictureDep) -> Response:
    """A frame that only one of the two models rejects; the latest 24 are kept."""
    data = call.control.shadow_picture(camera, picture)
    if data is None:
        raise Refused(404, sentence("no_such_picture"))
    return Response(data, media_type=_JPEG)


def _told(call: Call, camera: str) -> str:
    found = call.control.shadow(camera)
    return f"{camera}: {'no trial' if found is None else f'trial of {found.model[:12]}'}"


@router.put("/api/models/{id}/note", responses=problems(404, 409))
async def note_model(call: CallDep, model: ModelDep, body: NoteToSet) -> ModelView:
    """Stores a note on a model, beside its file; answers with the model."""

    def audited() -> ModelView:
        noted = call.control.note_model(model, body.note or "")
        if noted is None:
            raise Refused(404, sentence("no_such_model"), "/api/models lists them")
        call.note("note", None, f"{noted.name} {model[:12]}: {noted.note or 'no note'}")
        return noted

    return await call.changes.run(audited)
