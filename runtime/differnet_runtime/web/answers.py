"""Answers to requests that fail: a `Problem` in words, with the right status."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match

from ..errors import (
    CameraError,
    DifferNetError,
    EngineFault,
    LabelError,
    ModelFileError,
    ModelStoreError,
    TeachError,
    TooManyCommandsError,
    ViewsError,
)
from ..telling import Telling

log = logging.getLogger(__name__)

JSON = "application/json"
_CONFLICTS = (
    CameraError,
    EngineFault,
    LabelError,
    ModelFileError,
    ModelStoreError,
    TeachError,
    ViewsError,
)
"""The request was understood, and the station's state forbids it."""

_MOST_ERRORS = 5
_NOT_ALLOWED = 405
_NOTHING, _SEE = "there is nothing here", "see /openapi.json"


class Problem(Telling):
    """Why a request was not answered.

    Args:
        error: What happened.
        what_to_do: Where it is not in the error itself.
    """

    SENTENCES: ClassVar = ("error", "what_to_do")

    error: str
    what_to_do: str | None = None


class Refused(HTTPException):
    """Ends the handling of a request with a problem."""

    def __init__(self, status: int, error: str, what_to_do: str | None = None) -> None:
        super().__init__(status, error)
        self.problem = Problem(error=error, what_to_do=what_to_do)

    def response(self) -> Response:
        """Returns the answer."""
        return problem(self.status_code, self.problem)


def problem(status: int, what: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """Returns a problem as JSON."""
    body = what.model_dump_json(exclude_none=True, exclude_defaults=True)
    return Response(body, status, headers=headers, media_type=JSON)


def of_error(error: Exception) -> Response:
    """Returns the answer to an exception; what is no error of ours is logged, not shown."""
    if isinstance(error, RequestValidationError):
        error = _of_request(error)
    if isinstance(error, Refused):
        return error.response()
    if isinstance(error, TooManyCommandsError):
        return problem(429, Problem(error=str(error)), {"retry-after": "1"})
    if isinstance(error, HTTPException):  # FastAPI's own
        return _of_framework(error)
    if isinstance(error, ClientDisconnect):
        return Response(status_code=400)
    if isinstance(error, _CONFLICTS):
        return problem(409, Problem(error=str(error)))
    if isinstance(error, DifferNetError):
        return problem(503, Problem(error=str(error)))
    log.error("a request failed by a bug", exc_info=error)
    return problem(
        500, Problem(error="this is a bug of ours", what_to_do="send us the station's log")
    )


def of_faults(faults: Sequence[Any]) -> Refused:
    """Returns which keys are wrong; what was received is not repeated.

    Args:
        faults: As pydantic lists them.
    """
    texts = [
        f"{'.'.join(str(key) for key in fault['loc']) or 'body'}: {fault['msg']}"
        for fault in faults
    ]
    if len(texts) > _MOST_ERRORS:
        texts = [*texts[:_MOST_ERRORS], f"and {len(texts) - _MOST_ERRORS} more"]
    no_json = any(fault["type"] == "json_invalid" for fault in faults)
    return Refused(400 if no_json else 422, "; ".join(texts)[:2000])


def _of_request(error: RequestValidationError) -> Refused:
    """Drops the first item of each location, by which FastAPI says path, query or body."""
    faults = error.errors()
    if any(fault["loc"][0] == "path" for fault in faults):
        return Refused(404, _NOTHING, _SEE)  # nothing has a malformed name
    return of_faults([{**fault, "loc": fault["loc"][1:]} for fault in faults])


async def of_status(request: Request, error: Exception) -> Response:
    """Returns the refusals (404, 405) of requests that reach no route."""
    if isinstance(error, HTTPException) and error.status_code == _NOT_ALLOWED:
        error = HTTPException(_NOT_ALLOWED, headers={"Allow": ", ".join(_methods(request))})
    return of_error(error)


def _methods(request: Request) -> list[str]:
    """Returns all methods that an address takes; each has its own route."""
    routes = [one for one in iter_route_contexts(request.app.routes) if one.methods]
    found = [one for one in routes if one.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for one in found for method in one.methods or ()})


def _of_framework(error: HTTPException) -> Response:
    text = {404: _NOTHING, _NOT_ALLOWED: "this address does not take that method"}
    what = Problem(error=text.get(error.status_code, error.detail), what_to_do=_SEE)
    headers = dict(error.headers or {})
    if "GET" in headers.get("Allow", ""):
        headers["Allow"] += ", HEAD"  # see `guard.Guard`
    return problem(error.status_code, what, headers)
