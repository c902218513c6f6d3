"""The API of teaching: collects pictures of good parts, and trains a model on them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, TypeVar

from fastapi import APIRouter, Query
from fastapi import Path as InPath
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ..config.models import Name
from ..errors import OutputError
from ..files import os_errors
from ..model_file.contract import Region, StrictModel
from ..teaching.files import shown
from ..teaching.records import DatasetName, DatasetView, PictureId, TakenView, TeachView
from .answers import Refused
from .pages import HTML
from .routing import (
    Call,
    CallDep,
    Flag,
    StationRoute,
    Threads,
    announced_length,
    media,
    problems,
    require_media,
)

router = APIRouter(route_class=StationRoute)
T = TypeVar("T")

THUMBNAIL = 320
"""Longest side of a thumbnail, in pixels."""
MOST_MODEL = 512 << 20
"""Largest model file that can be uploaded, in bytes."""
_FILE_S = 30.0
"""Longest pause between two pieces of such a file."""
_ZIP, _BYTES, _JPEG = "application/zip", "application/octet-stream", "image/jpeg"
_REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""The report has scripts of its own. They run in a separate origin, which can neither send requests
to the station nor load anything."""


class DatasetToMake(StrictModel):
    """A new data set: its name (also the model's), its camera, and the region of a frame."""

    name: DatasetName
    camera: Name
    region: Region | None = None


class Collecting(StrictModel):
    """Whether every frame that shows a different part is taken."""

    on: bool


class Keeping(StrictModel):
    """False throws a picture out, true puts it back."""

    kept: bool


class TeachQuery(StrictModel):
    """Whether to list the pictures; even without them, `revision` shows when they change."""

    pictures: Flag = True


class PictureQuery(StrictModel):
    """Whether to return a thumbnail."""

    thumbnail: Flag = False


NameDep = Annotated[DatasetName, InPath()]
PictureDep = Annotated[PictureId, InPath(alias="id")]


async def _change(call: Call, what: str, change: Callable[[], T]) -> T:
    """Makes a change, and adds it or its failure to the audit trail."""

    def audited() -> T:
        with call.failure_noted("teach", what):
            done = change()
        call.note("teach", None, what)
        return done

    return await call.changes.run(audited)


@router.get("/api/teach")
async def data_sets(call: CallDep, query: Annotated[TeachQuery, Query()]) -> TeachView:
    """All data sets, and whether a model can be trained here."""
    return await call.reads.run(partial(call.control.teaching.view, pictures=query.pictures))


@router.post("/api/teach", status_code=201, responses=problems(409))
async def make(call: CallDep, body: DatasetToMake) -> DatasetView:
    """Makes a data set."""
    where = f" of {body.region}" if body.region else ""
    what = f"{body.name}: made for camera {body.camera}{where}"
    create = partial(call.control.teaching.create, body.name, body.camera, body.region)
    return await _change(call, what, create)


@router.get("/api/teach/{name}", responses=problems(404))
async def data_set(call: CallDep, name: NameDep) -> DatasetView:
    """A data set."""
    return await call.reads.run(partial(call.control.teaching.dataset, name))


@router.delete("/api/teach/{name}", status_code=204, responses=problems(404, 409))
async def delete(call: CallDep, name: NameDep) -> None:
    """Deletes a data set with its pictures; a model in the store stays."""
    await _change(call, f"{name}: deleted", partial(call.control.teaching.delete, name))


@router.post("/api/teach/{name}/collecting", responses=problems(404, 409))
async def collect(call: CallDep, name: NameDep, body: Collecting) -> DatasetView:
    """Switches collecting on or off."""
    what = f"{name}: collecting {'begun' if body.on else 'ended'}"
    return await _change(call, what, partial(call.control.teaching.collect, name, on=body.on))


@router.post("/api/teach/{name}/pictures", responses=problems(404, 409))
async def take(call: CallDep, name: NameDep) -> TakenView:
    """Takes the frame that the page shows now, if it shows a different part."""
    what = f"{name}: current frame taken"
    return await _change(call, what, partial(call.control.teaching.take, name))


@router.get("/api/teach/{name}/pictures/{id}", response_class=Response,
            responses={**media("The picture.", _JPEG), **problems(404)})  # fmt: skip
async def picture(
    call: CallDep, name: NameDep, number: PictureDep, query: Annotated[PictureQuery, Query()]
) -> Response:
    """A picture of a data set."""
    side = THUMBNAIL if query.thumbnail else None
    teaching = call.control.teaching
    data = await call.reads.run(lambda: shown(teaching.picture(name, number), side))
    return Response(data, media_type=_JPEG)


@router.post("/api/teach/{name}/pictures/{id}", responses=problems(404, 409))
async def keep(call: CallDep, name: NameDep, number: PictureDep, body: Keeping) -> DatasetView:
    """Throws a picture out, or puts it back."""
    what = f"{name}: picture {number} {'put back' if body.kept else 'thrown out'}"
    change = partial(call.control.teaching.keep, name, number, kept=body.kept)
    return await _change(call, what, change)


@router.post("/api/teach/{name}/training", status_code=202, responses=problems(404, 409))
async def train(call: CallDep, name: NameDep) -> DatasetView:
    """Starts a training with the pictures that were not thrown out."""
    what = f"{name}: training started"
    return await _change(call, what, partial(call.control.teaching.train, name))


@router.delete("/api/teach/{name}/training", responses=problems(404, 409))
async def cancel(call: CallDep, name: NameDep) -> DatasetView:
    """Cancels the training; the pictures stay."""
    what = f"{name}: training cancelled"
    return await _change(call, what, partial(call.control.teaching.cancel, name))


@router.get("/api/teach/{name}/report", response_class=Response,
            responses={**media("An HTML page.", HTML), **problems(404)})  # fmt: skip
async def report(call: CallDep, name: NameDep) -> Response:
    """The report of the last training."""
    teaching = call.control.teaching
    data = await call.reads.run(lambda: teaching.report(name).read_bytes())
    headers = {"content-type": HTML, "content-security-policy": _REPORT_POLICY}
    return Response(data, headers=headers)


@router.get("/api/teach/{name}/pictures.zip", response_class=Response,
            responses={**media("NAME/good/*.png, as train takes them.", _ZIP),
                       **problems(404, 409)})  # fmt: skip
async def zip_file(call: CallDep, name: NameDep) -> Response:
    """The pictures that were not thrown out, to train on another machine."""
    pieces = await call.reads.run(partial(call.control.teaching.pictures, name))
    headers = {"content-disposition": f'attachment; filename="{name}.zip"'}
    return StreamingResponse(_sent(pieces, call.reads), headers=headers, media_type=_ZIP)


async def _sent(pieces: Iterator[bytes], reads: Threads) -> AsyncIterator[bytes]:
    while (piece := await reads.run(lambda: next(pieces, None))) is not None:
        yield piece


@router.post(
    "/api/teach/{name}/model",
    responses=problems(404, 409),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {_BYTES: {"schema": {"type": "string", "format": "binary", "minLength": 1}}},
        }
    },
)
async def add_model(call: CallDep, name: NameDep) -> DatasetView:
    """Adds a model that was trained elsewhere to the camera's store, without activating it."""
    require_media(call.request, _BYTES)
    teaching = call.control.teaching
    folder = await call.reads.run(partial(teaching.folder, name))
    path = folder / f".model.{secrets.token_hex(6)}.partial"
    try:
        await _received(call.request, path, call.changes, teaching.require_room)
        add = partial(teaching.add_model, name, path)
        return await _change(call, f"{name}: model uploaded", add)
    finally:
        path.unlink(missing_ok=True)


async def _received(
    request: Request, path: Path, threads: Threads, require_room: Callable[[int], None]
) -> None:
    """Writes the body to a file.

    Raises:
        Refused: It is too long, empty, or comes too slowly.
        OutputError: The disk is full.
    """
    too_large = Refused(413, f"the file is larger than {MOST_MODEL >> 20} MiB")
    await threads.run(partial(require_room, announced_length(request, MOST_MODEL, too_large)))
    total, pieces = 0, request.stream().__aiter__()
    while piece := await _next(pieces):
        total += len(piece)
        if total > MOST_MODEL:
            raise too_large
        await threads.run(partial(_append, path, piece, require_room))
    if not total:
        raise Refused(400, "the body is empty")


async def _next(pieces: AsyncIterator[bytes]) -> bytes:
    try:
        return await asyncio.wait_for(anext(pieces, b""), _FILE_S)
    except asyncio.TimeoutError as error:
        raise Refused(408, f"no more of the file came for {_FILE_S:g} s") from error


def _append(path: Path, piece: bytes, require_room: Callable[[int], None]) -> None:
    require_room(len(piece))
    with os_errors(OutputError, path.parent), path.open("ab") as file:
        file.write(piece)
