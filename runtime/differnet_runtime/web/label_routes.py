"""The API of labels, thresholds and counters: what an operator corrects on the page."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated

from pydantic import Field
from starlette.responses import Response

from ..config.models import Name
from ..errors import DifferNetError
from ..events import AuditAction
from ..labels import Label, Labelled
from ..metadata import Part
from .answers import Refused, answer
from .endpoints import DIGITS, Call, Content, Endpoint, known_camera
from .label_views import LabelSummary, LabelToSet, LabelView, ThresholdToSet
from .routes import CAMERA, ENTRY, Nothing


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


async def _labels(call: Call) -> Response:
    query = call.query
    if query.camera is not None:
        known_camera(call.control, query.camera)
    found = [
        one
        for one in await call.reads.run(call.control.labels)
        if query.camera in (None, one.camera) and query.label in (None, one.label)
    ]
    return answer(Labels(labels=found[: query.limit]))


async def _label(call: Call) -> Response:
    entry, body = call.request.path_params["id"], call.body
    if not ENTRY.fullmatch(entry):
        raise Refused(404, "there is no such picture (any more)")

    def change() -> None:
        before, error = None, None
        try:
            before = call.control.label(entry, body, call.by)
        except DifferNetError as failed:
            error = str(failed)
            raise
        finally:
            old = _told(before) if before else "no label"
            _note(call, "label", f"{entry}: {old}", _told(body) if not error else None, error)

    await call.reads.run(change)
    return answer(body)


def _told(label: LabelToSet | Labelled) -> str:
    words = [label.label or "no label", label.kind, label.comment and f"({label.comment})"]
    return " ".join(word for word in words if word)


async def _summary(call: Call) -> Response:
    return answer(await call.reads.run(partial(call.control.label_summary, call.camera)))


async def _set_threshold(call: Call) -> Response:
    change = partial(call.control.set_threshold, call.camera, call.body, call.by)
    return await _threshold(call, change)


async def _undo_threshold(call: Call) -> Response:
    return await _threshold(call, partial(call.control.undo_threshold, call.camera))


async def _threshold(call: Call, change: Callable[[], None]) -> Response:
    camera = call.camera

    def audited() -> LabelSummary:
        before = _threshold_text(call, camera)
        try:
            change()
        except DifferNetError as error:
            _note(call, "threshold", before, None, str(error))
            raise
        _note(call, "threshold", before, _threshold_text(call, camera))
        return call.control.label_summary(camera)

    return answer(await call.reads.run(audited))


def _threshold_text(call: Call, camera: str) -> str:
    found = call.control.label_summary(camera)
    value = "none" if found.threshold is None else f"{found.threshold:g}"
    return f"{camera}: {value} ({found.set_by})"


async def _reset(call: Call) -> Response:
    one = call.body.camera
    names = call.control.cameras() if one is None else [known_camera(call.control, one)]

    def audited() -> None:
        call.control.reset_parts(tuple(names))
        _note(call, "reset", None, f"counts reset: {', '.join(names)}")

    await call.reads.run(audited)
    return answer(call.body)


def _note(
    call: Call, action: AuditAction, old: str | None, new: str | None, error: str | None = None
) -> None:
    """Adds an entry, and has it on disk before the request is answered."""
    call.control.audit.add(action, call.by, address=call.address, old=old, new=new, error=error)
    call.control.audit.settle()


def labelling() -> list[Endpoint]:
    """Returns the routes of labels, thresholds and counters."""
    entry = {"id": {"type": "string", "pattern": ENTRY.pattern}}
    said = Content("What labels say now, and which threshold decides.", LabelSummary)
    return [
        Endpoint("GET", "/api/labels", "What people said of kept pictures.", _labels,
                 {200: Content("The latest first.", Labels)}, (404,), query=LabelsQuery),
        Endpoint("POST", "/api/labels/{id}", "Labels a kept picture.", _label,
                 {200: Content("As it is stored.", LabelToSet)}, (404, 409), entry,
                 body=LabelToSet),
        Endpoint("GET", "/api/cameras/{camera}/labels", "What labels say of a camera's model.",
                 _summary, {200: said}, (404,), CAMERA),
        Endpoint("POST", "/api/cameras/{camera}/threshold", "Sets the threshold.", _set_threshold,
                 {200: said}, (404, 409), CAMERA, body=ThresholdToSet),
        Endpoint("POST", "/api/cameras/{camera}/threshold/undo", "Undoes the last change.",
                 _undo_threshold, {200: said}, (404, 409), CAMERA, body=Nothing),
        Endpoint("POST", "/api/parts/reset", "Starts the counts of parts again from zero.", _reset,
                 {200: Content("Whose.", CamerasToReset)}, (404,), body=CamerasToReset),
    ]  # fmt: skip
