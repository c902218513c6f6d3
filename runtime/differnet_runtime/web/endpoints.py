"""A route, and how its handler is called: one table gives the routes and their description."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl

from pydantic import BeforeValidator, Field, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from ..metadata import Part
from .answers import JSON, Refused, of_error, of_validation
from .control import Control
from .threads import Threads, Workers

MOST_BODY = 64 << 10
_BODY_S = 10.0
FORM = "application/x-www-form-urlencoded"


def _whole(value: object) -> object:
    """Only digits: a whole number in a query has one way to be written."""
    if isinstance(value, str) and not (value.isascii() and value.isdigit() and len(value) < 19):
        raise ValueError("write a whole number in digits")
    return value


def _flag(value: object) -> object:
    if isinstance(value, str) and value not in ("true", "false"):
        raise ValueError("write true or false")
    return value


DIGITS = BeforeValidator(_whole)
Whole = Annotated[int, Field(ge=0, le=10**18 - 1), DIGITS]
Flag = Annotated[bool, BeforeValidator(_flag)]


class NoQuery(Part):
    """Of routes that take nothing in their query."""


@dataclass(frozen=True)
class Content:
    """What an answer holds: a model as JSON, or another media type."""

    text: str
    model: type[Part] | None = None
    media: tuple[str, ...] = (JSON,)


@dataclass(frozen=True)
class Call:
    """A checked request.

    Args:
        request: As it came.
        query: Of the endpoint's query model.
        body: Of its body model; None where it has none.
        control: The station.
        workers: Where its calls run.
    """

    request: Request
    query: Any
    body: Any
    control: Control
    workers: Workers

    @property
    def reads(self) -> Threads:
        """Where quick calls run."""
        return self.workers.reads

    @property
    def changes(self) -> Threads:
        """Where slow calls run."""
        return self.workers.changes

    @property
    def by(self) -> str:
        """Who asks, as the audit trail names them."""
        by: str = self.request.state.by
        return by

    @property
    def address(self) -> str:
        """Where the request came from."""
        return self.request.client.host if self.request.client else ""

    @property
    def camera(self) -> str:
        """The camera that the path names.

        Raises:
            Refused: There is none of that name.
        """
        return known_camera(self.control, self.request.path_params["camera"])


def known_camera(control: Control, name: str) -> str:
    """Returns the name.

    Raises:
        Refused: There is no such camera.
    """
    if name not in control.cameras():
        raise Refused(404, "there is no such camera", "/api/overview lists them")
    return name


@dataclass(frozen=True)
class Endpoint:
    """A route.

    Args:
        method: GET answers HEAD too.
        path: With its parameters in braces.
        summary: A sentence.
        handler: Answers a checked request.
        answers: What it answers, by status, problems apart.
        problems: The statuses of problems of its own.
        parameters: The path's parameters: their JSON schema.
        query: What may stand in its query.
        body: What must stand in its body, as JSON; or as a form where `form` is set.
        form: See body.
    """

    method: Literal["GET", "POST"]
    path: str
    summary: str
    handler: Callable[[Call], Awaitable[Response]]
    answers: Mapping[int, Content]
    problems: tuple[int, ...] = ()
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    query: type[Part] = NoQuery
    body: type[Part] | None = None
    form: bool = False

    def route(self, control: Control, workers: Workers) -> Route:
        """Returns the route, which never raises."""

        async def handle(request: Request) -> Response:
            try:
                try:
                    query = self.query.model_validate(_query(request))
                    body = await self._read(request) if self.body is not None else None
                except ValidationError as error:
                    return of_validation(error)
                return await self.handler(Call(request, query, body, control, workers))
            except asyncio.CancelledError:  # a stop does not wait for a slow call
                return Refused(503, "the station stops").response()
            except ClientDisconnect:
                return Response(status_code=400)
            except Exception as error:
                return of_error(error)

        return Route(self.path, handle, methods=[self.method])

    async def _read(self, request: Request) -> Part:
        assert self.body is not None
        _require_media(request, FORM if self.form else JSON)
        try:
            data = await asyncio.wait_for(_bounded(request), _BODY_S)
        except asyncio.TimeoutError as error:
            raise Refused(408, f"the body did not come within {_BODY_S:g} s") from error
        if self.form:
            return self.body.model_validate(_form(data))
        return self.body.model_validate_json(data, strict=True)


def _query(request: Request) -> dict[str, str]:
    return _once(request.query_params.multi_items())


def _form(data: bytes) -> dict[str, str]:
    try:
        return _once(parse_qsl(data.decode("ascii"), keep_blank_values=True, max_num_fields=20))
    except ValueError as error:
        raise Refused(400, "the body is not a form") from error


def _once(items: list[tuple[str, str]]) -> dict[str, str]:
    """Returns the keys' values.

    Raises:
        Refused: A key stands there twice, and which counts would be a guess.
    """
    found = dict(items)
    if len(found) != len(items):
        raise Refused(422, "a key appears twice")
    return found


def _require_media(request: Request, media: str) -> None:
    received = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if received != media:
        raise Refused(415, f"the body must be {media}", f"send `Content-Type: {media}`")


async def _bounded(request: Request) -> bytes:
    length = request.headers.get("content-length", "0")
    too_large = Refused(413, f"the body is longer than {MOST_BODY} bytes")
    if not length.isdigit() or int(length[:18]) > MOST_BODY:
        raise too_large
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MOST_BODY:
            raise too_large
    return bytes(data)
