"""What is answered: JSON of a model, or a problem in words with the right status."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ..errors import (
    CameraError,
    DifferNetError,
    EngineFault,
    LabelError,
    ModelFileError,
    ModelStoreError,
    TeachError,
    ViewsError,
)
from ..metadata import Part

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


class Problem(Part):
    """Why a request was not answered.

    Args:
        error: What happened.
        what_to_do: Where it is not in the error itself.
    """

    error: str
    what_to_do: str | None = None


class Refused(Exception):  # noqa: N818 - it is the request that errs
    """Ends the handling of a request with a problem."""

    def __init__(self, status: int, error: str, what_to_do: str | None = None) -> None:
        super().__init__(error)
        self.status = status
        self.problem = Problem(error=error, what_to_do=what_to_do)

    def response(self) -> Response:
        """Returns the answer."""
        return problem(self.status, self.problem)


def answer(part: Part, status: int = 200) -> Response:
    """Returns a model as JSON."""
    return Response(part.model_dump_json(), status, media_type=JSON)


def problem(status: int, what: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """Returns a problem as JSON."""
    body = what.model_dump_json(exclude_none=True)
    return Response(body, status, headers=headers, media_type=JSON)


def of_error(error: Exception) -> Response:
    """Returns the answer to an exception; what is no error of ours is logged, not shown."""
    if isinstance(error, Refused):
        return error.response()
    if isinstance(error, _CONFLICTS):
        return problem(409, Problem(error=str(error)))
    if isinstance(error, DifferNetError):
        return problem(503, Problem(error=str(error)))
    log.error("a request failed by a bug", exc_info=error)
    return problem(
        500, Problem(error="this is a bug of ours", what_to_do="send us the station's log")
    )


def of_validation(error: ValidationError) -> Response:
    """Returns which keys are wrong; what was received is not repeated."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    texts = [f"{'.'.join(str(key) for key in f['loc']) or 'body'}: {f['msg']}" for f in faults]
    if len(texts) > _MOST_ERRORS:
        texts = [*texts[:_MOST_ERRORS], f"and {len(texts) - _MOST_ERRORS} more"]
    no_json = any(fault["type"] == "json_invalid" for fault in faults)
    return problem(400 if no_json else 422, Problem(error="; ".join(texts)[:2000]))


async def of_status(_request: Request, error: Exception) -> Response:
    """Returns Starlette's own refusals (404, 405) as problems."""
    assert isinstance(error, HTTPException)
    text = {404: "there is nothing here", 405: "this address does not take that method"}
    what = Problem(error=text.get(error.status_code, error.detail), what_to_do="see /openapi.json")
    return problem(error.status_code, what, error.headers)
