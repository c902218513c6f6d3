"""Responses to failed requests, each with a `Problem` in words, and counts of misuse.

Each kind of misuse is counted, and logged at most once a minute.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
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
from ..teaching.teaching import UnknownError
from ..telling import Telling

log = logging.getLogger(__name__)

EVERY_S = 60.0
"""Each kind of trouble is logged when it begins, and then at most once in this time."""

_MOST_SENDERS = 256
TEXTS: Mapping[str, tuple[int, str]] = MappingProxyType(
    {
        "full": (logging.WARNING, "too many connections: the longest idle ones were closed"),
        "sender_full": (
            logging.WARNING,
            "too many connections from one address: its idle or new ones were closed",
        ),
        "descriptors": (
            logging.WARNING,
            "connections were refused: the remaining file descriptors are kept for inspection "
            "(raise LimitNOFILE)",
        ),
        "no_request": (logging.INFO, "connections were closed: no complete request came in time"),
        "not_reading": (
            logging.WARNING,
            "connections were closed: the client did not read its answer",
        ),
        "viewers": (logging.WARNING, "too many viewers of a stream: the slowest were closed"),
        "wrong_token": (logging.WARNING, "wrong tokens"),
        "commands": (logging.WARNING, "commands were refused: they came too fast"),
        "connection": (logging.WARNING, "connections failed"),
        "answer": (logging.ERROR, "answers failed halfway"),
    }
)
"""Log level and message of each kind of trouble."""


@dataclass
class Trouble:
    """One kind of trouble, and how often it has happened since the last report.

    Args:
        kind: A key of `TEXTS`.
        told_s: Monotonic time of the last report.
        count: Number of times since then.
        senders: Number of times by address, for the first 256 addresses.
        detail: Detail of the latest one, for the log; may be empty.
    """

    kind: str
    told_s: float = float("-inf")
    count: int = 0
    senders: Counter[str] = field(default_factory=Counter)
    detail: str = ""

    @property
    def sender(self) -> str:
        """The address that it came from most often; empty if none is known."""
        return max(self.senders, key=self.senders.__getitem__, default="")


class Troubles:
    """Counts trouble by kind, with a bounded memory and a bounded log. Thread-safe."""

    def __init__(self) -> None:
        self._kinds = {kind: Trouble(kind) for kind in TEXTS}
        self._totals = dict.fromkeys(TEXTS, 0)
        self._lock = threading.Lock()

    @property
    def counts(self) -> dict[str, int]:
        """Number of times that each kind has happened since the start."""
        with self._lock:
            return dict(self._totals)

    def note(self, kind: str, sender: str = "", detail: str = "") -> None:
        """Counts one occurrence.

        Args:
            kind: A key of `TEXTS`.
            sender: Address of the client; empty if it is not known.
            detail: The cause, for the log, which shows only the latest.
        """
        with self._lock:
            self._totals[kind] += 1
            known = self._kinds[kind]
            known.count += 1
            known.detail = detail
            if sender and (sender in known.senders or len(known.senders) < _MOST_SENDERS):
                known.senders[sender] += 1

    def due(self, now_s: float | None = None) -> list[Trouble]:
        """Returns the kinds that are due for a report, and resets their counts.

        Args:
            now_s: Monotonic time in seconds; None reads the clock.
        """
        now_s = time.monotonic() if now_s is None else now_s
        with self._lock:
            due = [
                one for one in self._kinds.values() if one.count and now_s - one.told_s >= EVERY_S
            ]
            self._kinds |= {one.kind: Trouble(one.kind, now_s) for one in due}
        return due


def tell(trouble: Trouble) -> None:
    """Logs a kind of trouble in one line."""
    level, text = TEXTS[trouble.kind]
    source = f", most from {trouble.sender}" if trouble.sender else ""
    detail = f" ({trouble.detail})" if trouble.detail else ""
    log.log(level, "%s: %d since the last report%s%s", text, trouble.count, source, detail)


JSON = "application/json"
_STATUSES: Mapping[type[DifferNetError], int] = MappingProxyType(
    {
        UnknownError: 404,
        TooManyCommandsError: 429,
        **dict.fromkeys((CameraError, EngineFault, LabelError, ModelFileError), 409),
        **dict.fromkeys((ModelStoreError, TeachError, ViewsError), 409),
        DifferNetError: 503,
    }
)
"""Status by the kind of error, a subclass before its base class. 409: the request was understood,
and the station's state forbids it."""

_MOST_ERRORS = 5
_NOT_ALLOWED = 405
_NOTHING, _SEE = "there is nothing here", "see /openapi.json"


class Problem(Telling):
    """Why a request failed.

    Args:
        error: What went wrong, in one sentence.
        what_to_do: What the client can do, if `error` does not say so.
    """

    SENTENCES: ClassVar = ("error", "what_to_do")

    error: str
    what_to_do: str | None = None


class Refused(HTTPException):
    """Raised by a handler to answer its request with a problem."""

    def __init__(self, status: int, error: str, what_to_do: str | None = None) -> None:
        super().__init__(status, error)
        self.problem = Problem(error=error, what_to_do=what_to_do)

    def response(self) -> Response:
        """Returns the response with the problem."""
        return problem(self.status_code, self.problem)


def problem(status: int, what: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """Returns a response that holds a problem as JSON."""
    body = what.model_dump_json(exclude_none=True, exclude_defaults=True)
    return Response(body, status, headers=headers, media_type=JSON)


def of_error(error: Exception) -> Response:
    """Returns the response to an exception; an unexpected one is logged, not shown."""
    if isinstance(error, RequestValidationError):
        error = _of_request(error)
    if isinstance(error, Refused):
        return error.response()
    if isinstance(error, HTTPException):  # FastAPI's own
        return _of_framework(error)
    if isinstance(error, ClientDisconnect):
        return Response(status_code=400)
    for kind, status in _STATUSES.items():
        if isinstance(error, kind):
            headers = {"retry-after": "1"} if status == 429 else None
            return problem(status, Problem(error=str(error)), headers)
    log.error("a request failed by a bug", exc_info=error)
    return problem(
        500, Problem(error="this is a bug of ours", what_to_do="send us the station's log")
    )


def of_faults(faults: Sequence[Any]) -> Refused:
    """Returns a refusal that names the invalid keys, without the values that were received.

    Args:
        faults: The errors, as `ValidationError.errors` returns them.
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
    """Answers a request that matches no route with status 404 or 405."""
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
