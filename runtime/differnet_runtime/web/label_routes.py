"""The API of labels, thresholds and counters: what an operator corrects on the page."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from ..config.models import Name
from ..errors import DifferNetError
from ..labels import Label, Labelled
from ..metadata import Part
from .label_views import LabelSummary, LabelToSet, LabelView, ThresholdToSet
from .routes import EntryPath, Nothing
from .routing import DIGITS, Call, CallDep, CameraDep, StationRoute, problems

router = APIRouter(route_class=StationRoute)


class LabelsQuery(Part):
    """Which labels: of one camera, only good parts or defects, at most so many."""

    camera: Name | None = None
    label: Label | None = None
    limit: Annotated[int, Field(ge=1, le=10_000), DIGITS] = 500


class Labels(Part):
    """Labels, the latest first."""

    labels: list[LabelView]


class CamerasToReset(Part):
    """Whose parts are counted anew: one camera, or all of them."""

    camera: Name | None = None


@router.get("/api/labels", responses=problems(404))
async def labels(call: CallDep, query: Annotated[LabelsQuery, Query()]) -> Labels:
    """What people said of kept pictures; the latest first."""
    call.check_camera(query.camera)
    found = [
        one
        for one in await call.reads.run(call.control.labels)
        if query.camera in (None, one.camera) and query.label in (None, one.label)
    ]
    return Labels(labels=found[: query.limit])


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
            old = _told(before) if before else "no label"
            call.note("label", f"{entry}: {old}", _told(body) if not error else None, error)

    await call.reads.run(change)
    return body


def _told(label: LabelToSet | Labelled) -> str:
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
    await call.reads.run(partial(call.control.reset_parts, tuple(names)))
    call.note("reset", None, f"counts reset: {', '.join(names)}")
    return body
