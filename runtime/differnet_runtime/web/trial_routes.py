"""The API of what an operator corrects and tries: labels, thresholds, counters, trials, notes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi import Path as PathKey
from pydantic import Field
from starlette.responses import Response

from ..config.models import Name
from ..errors import DifferNetError
from ..labels import Label, Labelled
from ..model_file.contract import StrictModel
from ..names import ContentHash, Note
from ..sentences import sentence
from .answers import Refused
from .model_views import (
    LabelSummary,
    LabelToSet,
    LabelView,
    ModelView,
    ShadowToStart,
    ShadowView,
    ThresholdToSet,
)
from .routes import EntryPath, Nothing
from .routing import DIGITS, Call, CallDep, CameraDep, StationRoute, media, problems

router = APIRouter(route_class=StationRoute)


class LabelsQuery(StrictModel):
    """Which labels: of one camera, only good parts or defects, at most so many."""

    camera: Name | None = None
    label: Label | None = None
    limit: Annotated[int, Field(ge=1, le=10_000), DIGITS] = 500


class LabelPage(StrictModel):
    """Labels, the latest first."""

    labels: list[LabelView]


class CamerasToReset(StrictModel):
    """Whose parts are counted anew: one camera, or all of them."""

    camera: Name | None = None


@router.get("/api/labels", responses=problems(404))
async def labels(call: CallDep, query: Annotated[LabelsQuery, Query()]) -> LabelPage:
    """What people said of kept pictures; the latest first."""
    call.check_camera(query.camera)
    found = [
        one
        for one in await call.reads.run(call.control.labels)
        if query.camera in (None, one.camera) and query.label in (None, one.label)
    ]
    return LabelPage(labels=found[: query.limit])


@router.post("/api/labels/{id}", responses=problems(404, 409))
async def label(call: CallDep, entry: EntryPath, body: LabelToSet) -> LabelToSet:
    """Labels a kept picture; answers with the label as it is stored."""

    def change() -> None:
        before, error = None, None
        try:
            before = call.control.label(entry, body, call.by)
        except DifferNetError as failed:
            error = str(failed)
            raise
        finally:
            old = _label_told(before) if before else "no label"
            call.note("label", f"{entry}: {old}", _label_told(body) if not error else None, error)

    await call.reads.run(change)
    return body


def _label_told(label: LabelToSet | Labelled) -> str:
    words = [label.label or "no label", label.kind, label.comment and f"({label.comment})"]
    return " ".join(word for word in words if word)


@router.get("/api/cameras/{camera}/labels", responses=problems(404))
async def label_summary(call: CallDep, camera: CameraDep) -> LabelSummary:
    """What labels say of a camera's model now, and which threshold decides."""
    return await call.reads.run(partial(call.control.label_summary, camera))


@router.post("/api/cameras/{camera}/threshold", responses=problems(404, 409))
async def set_threshold(call: CallDep, camera: CameraDep, body: ThresholdToSet) -> LabelSummary:
    """Sets the threshold of a camera's model."""
    change = partial(call.control.set_threshold, camera, body, call.by)
    return await _threshold(call, camera, change)


@router.post("/api/cameras/{camera}/threshold/undo", responses=problems(404, 409))
async def undo_threshold(call: CallDep, camera: CameraDep, _body: Nothing) -> LabelSummary:
    """Undoes the last change of the threshold."""
    return await _threshold(call, camera, partial(call.control.undo_threshold, camera))


async def _threshold(call: Call, camera: str, change: Callable[[], None]) -> LabelSummary:
    def audited() -> LabelSummary:
        before = _threshold_text(call, camera)
        try:
            change()
        except DifferNetError as error:
            call.note("threshold", before, None, str(error))
            raise
        call.note("threshold", before, _threshold_text(call, camera))
        return call.control.label_summary(camera)

    return await call.reads.run(audited)


def _threshold_text(call: Call, camera: str) -> str:
    found = call.control.label_summary(camera)
    value = "none" if found.threshold is None else f"{found.threshold:g}"
    return f"{camera}: {value} ({found.set_by})"


@router.post("/api/parts/reset", responses=problems(404))
async def reset_parts(call: CallDep, body: CamerasToReset) -> CamerasToReset:
    """Starts the counts of parts again from zero."""
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
"""The picture that the path names."""
ModelDep = Annotated[ContentHash, PathKey(alias="id")]
"""The model that the path names, by its content hash."""


class NoteToSet(StrictModel):
    """A person's note on a model; null or an empty text removes it."""

    note: Annotated[Note | None, Field(default=None)]


@router.put("/api/cameras/{camera}/shadow", responses=problems(404, 409))
async def start_shadow(call: CallDep, camera: CameraDep, body: ShadowToStart) -> ShadowView:
    """Starts a trial: the model scores the camera's frames without any effect on verdicts."""

    def audited() -> ShadowView:
        before = _told(call, camera)
        try:
            started = call.control.start_shadow(camera, body.model)
        except DifferNetError as error:
            call.note("shadow", before, None, str(error))
            raise
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
