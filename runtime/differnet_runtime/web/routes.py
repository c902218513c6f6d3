"""The API: what can be read and asked, over one table."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal, get_args

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from pydantic import Field
from starlette.responses import Response

from ..config.models import Name
from ..events import AuditAction, AuditEvent, InspectionEvent
from ..metadata import Part
from ..names import PartId
from .answers import Refused, answer
from .audit import switching
from .control import EvidenceEntry, EvidenceKind, Health, ModelView, Overview
from .endpoints import DIGITS, Call, Content, Endpoint, Flag, Whole, known_camera
from .files import FileAnswer
from .health_views import Alive
from .recent import RecentEvent

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
Verdict = Literal["GOOD", "DEFECT", "NO_DECISION"]
ENTRY = re.compile(r"^[0-9A-Za-z][0-9A-Za-z_-]{0,127}$")
_KINDS = get_args(EvidenceKind)
EntryId = Annotated[str, Field(pattern=ENTRY.pattern)]
_NAME = {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]{0,63}$"}
CAMERA = {"camera": _NAME}
_MEDIA = {".jpg": "image/jpeg", ".png": "image/png"}


class LiveQuery(Part):
    """Whether heatmap and verdict are drawn on the picture."""

    overlay: Flag = False


class EventsQuery(Part):
    """Which verdicts: only later ones than a number, of one camera, at most so many."""

    camera: Name | None = None
    after: Whole = 0
    limit: Annotated[int, Field(ge=1, le=2000), DIGITS] = 500


class Events(Part):
    """Verdicts since the start that are still in memory, the oldest first."""

    events: list[RecentEvent]
    latest: int


class EvidenceQuery(Part):
    """Which kept pictures: of one camera or verdict, older than one, at most so many."""

    camera: Name | None = None
    verdict: Verdict | None = None
    before: EntryId | None = None
    limit: Annotated[int, Field(ge=1, le=500), DIGITS] = 60


class Evidence(Part):
    """Kept pictures, the newest first."""

    entries: list[EvidenceEntry]


class Models(Part):
    """The models of this station."""

    models: list[ModelView]


class Activation(Part):
    """The model to switch to, by its content hash."""

    hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Nothing(Part):
    """An empty object."""


class Rollback(Part):
    """The model whose predecessor judges again; may be left out where there is only one."""

    name: Name | None = None


class PartToJudge(Part):
    """The part in front of the camera."""

    part: PartId | None = None


class AuditQuery(Part):
    """At most so many entries."""

    limit: Annotated[int, Field(ge=1, le=200), DIGITS] = 50


class Audit(Part):
    """Changes, logins and wrong tokens since the start that are still in memory, newest first."""

    entries: list[AuditEvent]


async def _livez(call: Call) -> Response:
    live = await call.workers.health.run(call.control.live)
    return answer(Alive(live=live), 200 if live else 503)


async def _readyz(call: Call) -> Response:
    health = await call.workers.health.run(call.control.health)
    return answer(health, 200 if health.ready else 503)


async def _overview(call: Call) -> Response:
    return answer(await call.reads.run(call.control.overview))


async def _live(call: Call) -> Response:
    camera, overlay = call.camera, call.query.overlay
    jpeg = await call.reads.run(partial(call.control.jpeg, camera, overlay=overlay))
    if jpeg is None:
        raise Refused(404, "this camera has no judged picture yet")
    age_ms = (time.monotonic_ns() - jpeg.captured_ns) // 1_000_000
    headers = {
        "X-Frame-Number": str(jpeg.number),
        "X-Frame-Age-Ms": str(age_ms),
        "X-Event": json.dumps(jpeg.event.model_dump(mode="json")),  # ASCII, as a header must be
    }
    return Response(jpeg.data, headers=headers, media_type="image/jpeg")


async def _events(call: Call) -> Response:
    query, recent = call.query, call.control.recent
    if query.camera is not None:
        known_camera(call.control, query.camera)
    found = recent.after(query.after, camera=query.camera, limit=query.limit)
    return answer(Events.model_construct(events=found, latest=recent.number))


async def _evidence(call: Call) -> Response:
    query = call.query
    if query.camera is not None:
        known_camera(call.control, query.camera)
    wanted = partial(call.control.evidence, query.camera, query.verdict, query.before, query.limit)
    return answer(Evidence(entries=await call.reads.run(wanted)))


async def _evidence_file(call: Call) -> Response:
    entry, kind = call.request.path_params["id"], call.request.path_params["kind"]
    found = await call.reads.run(partial(_open_evidence, call, entry, kind))
    if found is None:
        raise Refused(404, "there is no such picture (any more)")
    return FileAnswer(*found, call.reads)


def _open_evidence(call: Call, entry: str, kind: EvidenceKind) -> tuple[BinaryIO, str] | None:
    if not ENTRY.fullmatch(entry) or kind not in _KINDS:
        return None
    path: Path | None = call.control.evidence_file(entry, kind)
    if path is None and kind == "thumbnail":
        path = call.control.evidence_file(entry, "image")
    try:
        return (path.open("rb"), _MEDIA[path.suffix]) if path is not None else None
    except FileNotFoundError:  # a cap took it just now
        return None


async def _models(call: Call) -> Response:
    return answer(Models(models=await call.reads.run(call.control.models)))


async def _activate(call: Call) -> Response:
    return await _switch(call, "activate", partial(call.control.activate, call.body.hash))


async def _rollback(call: Call) -> Response:
    return await _switch(call, "rollback", partial(call.control.rollback, call.body.name))


async def _switch(call: Call, action: AuditAction, change: Callable[[], None]) -> Response:
    def audited() -> None:
        with switching(call.control, action, call.by, call.address):
            change()

    await call.changes.run(audited)
    return await _models(call)


async def _audit(call: Call) -> Response:
    return answer(Audit(entries=call.control.audit.latest(call.query.limit)))


async def _trigger(call: Call) -> Response:
    if call.changes.busy:
        raise Refused(503, "too many requests wait for a verdict", "try again")
    return answer(
        await call.changes.run(partial(call.control.trigger, call.camera, call.body.part))
    )


def metrics(registry: CollectorRegistry) -> Endpoint:
    """Returns the route that Prometheus scrapes."""

    async def handler(call: Call) -> Response:
        return Response(
            await call.reads.run(partial(generate_latest, registry)), media_type=PROMETHEUS
        )

    text = Content("The station's figures.", media=(PROMETHEUS,))
    return Endpoint("GET", "/metrics", "Figures for Prometheus.", handler, {200: text})


def api() -> list[Endpoint]:
    """Returns the routes of the API."""
    return [*_health(), *_seen(), *_kept(), *_asked()]


def _health() -> list[Endpoint]:
    live, not_live = Content("It is.", Alive), Content("It should be restarted.", Alive)
    ready, unready = Content("It does.", Health), Content("It does not.", Health)
    return [
        Endpoint("GET", "/livez", "Whether every stage makes progress.", _livez,
                 {200: live, 503: not_live}),
        Endpoint("GET", "/readyz", "Whether every camera gives verdicts; why not.", _readyz,
                 {200: ready, 503: unready}),
        Endpoint("GET", "/api/overview", "The state of everything.", _overview,
                 {200: Content("Cameras, engine, sinks, outbox and evidence.", Overview)}),
    ]  # fmt: skip


def _seen() -> list[Endpoint]:
    picture = Content(
        "The picture; X-Frame-Age-Ms says how old it is, X-Event holds its verdict as JSON.",
        media=("image/jpeg",),
    )
    return [
        Endpoint("GET", "/api/cameras/{camera}/live.jpg", "The newest judged picture.", _live,
                 {200: picture}, (404,), CAMERA, LiveQuery),
        Endpoint("GET", "/api/events", "The latest verdicts.", _events,
                 {200: Content("Numbered; `latest` is where to go on after.", Events)}, (404,),
                 query=EventsQuery),
    ]  # fmt: skip


def _kept() -> list[Endpoint]:
    path: dict[str, dict[str, Any]] = {
        "id": {"type": "string", "pattern": ENTRY.pattern},
        "kind": {"type": "string", "enum": list(_KINDS)},
    }
    picture = Content("The picture.", media=tuple(_MEDIA.values()))
    return [
        Endpoint("GET", "/api/evidence", "Kept pictures.", _evidence,
                 {200: Content("What is known of each.", Evidence)}, (404,), query=EvidenceQuery),
        Endpoint("GET", "/api/evidence/{id}/{kind}", "A kept picture.", _evidence_file,
                 {200: picture}, (404,), path),
    ]  # fmt: skip


def _asked() -> list[Endpoint]:
    models = Content("All models, as they are now.", Models)
    return [
        Endpoint("GET", "/api/models", "The models of this station.", _models, {200: models}),
        Endpoint("GET", "/api/audit", "Who changed what, logged in or tried to.", _audit,
                 {200: Content("The newest first.", Audit)}, query=AuditQuery),
        Endpoint("POST", "/api/models/activate", "Switches to a model; answers once it judges.",
                 _activate, {200: models}, (409,), body=Activation),
        Endpoint("POST", "/api/models/rollback", "Switches back to the model before.",
                 _rollback, {200: models}, (409,), body=Rollback),
        Endpoint("POST", "/api/cameras/{camera}/trigger", "Judges a part now.", _trigger,
                 {200: Content("The verdict.", InspectionEvent)}, (404, 409), CAMERA,
                 body=PartToJudge),
    ]  # fmt: skip
