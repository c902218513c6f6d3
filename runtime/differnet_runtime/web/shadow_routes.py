"""The API of trials (shadows), and of notes on models."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from fastapi import Path as PathKey
from pydantic import Field
from starlette.responses import Response

from ..errors import DifferNetError
from ..metadata import Part
from ..names import ContentHash, Note
from ..sentences import sentence
from .answers import Refused
from .control import ModelView
from .routing import Call, CallDep, CameraDep, StationRoute, media, problems
from .shadow_views import ShadowToStart, ShadowView

router = APIRouter(route_class=StationRoute)

_JPEG = "image/jpeg"
_PICTURE = media("A frame on which the two models differ.", _JPEG)
PictureDep = Annotated[str, PathKey(alias="id", pattern=r"^[0-9]{1,18}$")]
"""The picture that the path names."""
ModelDep = Annotated[ContentHash, PathKey(alias="id")]
"""The model that the path names, by its content hash."""


class NoteToSet(Part):
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
