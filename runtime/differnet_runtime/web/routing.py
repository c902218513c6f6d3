"""How a request reaches its handler: the checks before it, and what every handler can use.

Each module of routes makes a router, which `server.ROUTERS` lists:

    router = APIRouter(route_class=StationRoute)

    @router.post("/api/models/activate", responses=problems(409))
    async def activate(call: CallDep, body: Activation) -> Models:
        return await call.changes.run(partial(call.control.activate, body.hash))

Handlers and dependencies are coroutines. Whatever blocks runs in `call.reads` or `call.changes`,
including `call.note`, which adds a change to the audit trail. A query or a body is one
`StrictModel`. A handler without a body model may read `call.request.stream()`, and must limit it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from functools import partial
from inspect import iscoroutinefunction
from typing import Annotated, Any, TypeVar

from fastapi import Depends
from fastapi.routing import APIRoute
from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from ..errors import DifferNetError
from ..events import AuditAction
from ..sentences import sentence
from .answers import JSON, Problem, Refused, of_error, of_faults
from .control import Control

T = TypeVar("T")


class Threads:
    """Runs blocking calls in daemon threads, for which a stop of the station does not wait.

    Args:
        most: Maximum number of calls at once.
    """

    def __init__(self, most: int) -> None:
        self._free = asyncio.Semaphore(most)

    @property
    def busy(self) -> bool:
        """Whether the next call would have to wait."""
        return self._free.locked()

    async def run(self, call: Callable[[], T]) -> T:
        """Returns the result of a call, or raises its error."""
        await self._free.acquire()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def settle(give: Callable[[], None]) -> None:
            self._free.release()
            if not future.done():  # else a stop cancelled it
                give()

        def work() -> None:
            try:
                give = partial(future.set_result, call())
            except BaseException as error:  # it is raised where it is awaited
                give = partial(future.set_exception, error)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(settle, give)

        try:
            threading.Thread(target=work, name="web-call", daemon=True).start()
        except RuntimeError:  # as many threads as the system allows
            self._free.release()
            raise
        return await future


MOST_BODY = 64 << 10
_BODY_S = 10.0
_PROBLEMS = {
    400: "The request is malformed.",
    401: "The token is missing or wrong.",
    403: "Changes over HTTP are switched off, or a foreign page asked for one.",
    404: "What the path names does not exist.",
    408: "The body came too slowly.",
    409: "The station's state forbids it.",
    413: "The body is too long.",
    415: "The body is of another type.",
    421: "The Host header does not name loopback.",
    422: "A value is not as described.",
    429: "Too many wrong tokens or commands came from this address.",
    431: "The address and headers are too long.",
    503: "The station can't answer just now.",
}

Responses = dict[int | str, dict[str, Any]]


def problems(*statuses: int) -> Responses:
    """Returns the description of a route's problems, for its `responses`."""
    return {one: {"model": Problem, "description": _PROBLEMS[one]} for one in statuses}


ALWAYS = problems(400, 421, 422, 431, 503)
OF_TOKENS = problems(401, 429)
_OF_CHANGES = problems(403, 408, 413, 415)


def media(description: str, *kinds: str) -> Responses:
    """Returns the description of an answer that is not JSON, for a route's `responses`."""
    return {200: {"description": description, "content": {kind: {} for kind in kinds}}}


def _whole(value: object) -> object:
    """Accepts digits only: a whole number in a query can be written in one way."""
    if isinstance(value, str) and not _in_digits(value):
        raise ValueError("write a whole number in digits")
    return value


def _in_digits(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19


def _flag(value: object) -> object:
    if isinstance(value, str) and value not in ("true", "false"):
        raise ValueError("write true or false")
    return value


DIGITS = BeforeValidator(_whole)
Whole = Annotated[int, Field(ge=0, le=10**18 - 1), DIGITS]
Flag = Annotated[bool, BeforeValidator(_flag)]


@dataclass(frozen=True)
class Call:
    """A request, with what its handler needs.

    Args:
        request: The request itself.
        control: The station.
        reads: Threads for quick calls.
        changes: Threads for slow calls.
        health: Threads for `/livez` and `/readyz`, which no other call keeps waiting.
    """

    request: Request
    control: Control
    reads: Threads
    changes: Threads
    health: Threads

    @property
    def by(self) -> str:
        """Who sent the request, as the audit trail names them."""
        return str(self.request.state.by)

    @property
    def address(self) -> str:
        """The address that the request came from."""
        return self.request.client.host if self.request.client else ""

    def check_camera(self, name: str | None) -> None:
        """Checks that a camera exists, if a name is given.

        Raises:
            Refused: There is no such camera.
        """
        if name is not None and name not in self.control.cameras():
            raise Refused(404, sentence("no_such_camera"), "/api/overview lists them")

    def note(
        self,
        action: AuditAction,
        old: str | None = None,
        new: str | None = None,
        error: str | None = None,
    ) -> None:
        """Adds the change to the audit trail, and waits until the entry is on disk.

        Blocks for a moment: call it in a thread of `reads` or `changes`.
        """
        audit = self.control.audit
        audit.add(action, self.by, address=self.address, old=old, new=new, error=error)
        audit.settle()

    @contextlib.contextmanager
    def failure_noted(self, action: AuditAction, old: str | None) -> Iterator[None]:
        """Adds a failure of the body to the audit trail; `note` adds its success."""
        try:
            yield
        except DifferNetError as error:
            self.note(action, old, error=str(error))
            raise


async def _call(request: Request) -> Call:
    state = request.app.state
    return Call(request, state.control, state.reads, state.changes, state.health)


CallDep = Annotated[Call, Depends(_call)]


async def _camera(call: CallDep, camera: str) -> str:
    call.check_camera(camera)
    return camera


CameraDep = Annotated[str, Depends(_camera)]
"""Name of the camera in the path; 404 if there is no such camera."""


class StationRoute(APIRoute):
    """A route that accepts only what it describes, and answers every error as a `Problem`."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:  # noqa: ANN401
        if not iscoroutinefunction(endpoint):  # FastAPI's own threads would hold up a stop
            raise TypeError(f"{endpoint.__name__} must be `async def`; see web/routing.py")
        if options.get("methods") != ["GET"]:
            options["responses"] = _OF_CHANGES | (options.get("responses") or {})
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Returns FastAPI's handler, with checks before it and errors turned into problems."""
        handle = super().get_route_handler()
        takes_query = bool(self.dependant.query_params)
        body: Any = None if self.body_field is None else self.body_field.field_info.annotation
        model = None if body is None else TypeAdapter(body)

        async def checked(request: Request) -> Response:
            try:
                _check_keys(request, takes_query)
                if model is not None:
                    require_media(request, JSON)
                    request = _StrictRequest(request, model)
                return await handle(request)
            except asyncio.CancelledError:  # a stop does not wait for a slow call
                return Refused(503, sentence("station_stops")).response()
            except Exception as error:
                return of_error(error)

        return checked


class _StrictRequest(Request):
    """Reads a body of limited size in limited time, as strict JSON of its model."""

    def __init__(self, request: Request, model: TypeAdapter[Any]) -> None:
        super().__init__(request.scope, request.receive)
        self._model = model

    async def body(self) -> bytes:
        """Returns the body."""
        if not hasattr(self, "_body"):
            self._body = await read_body(self)
        if not self._body:
            raise Refused(400, "the body is empty")
        return self._body

    async def json(self) -> object:
        """Returns the body as its model."""
        try:
            return self._model.validate_json(await self.body(), strict=True)
        except ValidationError as error:
            raise of_faults(error.errors()) from error


def _check_keys(request: Request, takes_query: bool) -> None:
    """Refuses query keys that FastAPI would ignore.

    Raises:
        Refused: A key appears twice, or the route takes no query.
    """
    keys = [key for key, _ in request.query_params.multi_items()]
    if len(set(keys)) != len(keys):
        raise Refused(422, "a key appears twice")
    if keys and not takes_query:
        extra = {"type": "extra_forbidden", "msg": "Extra inputs are not permitted"}
        raise of_faults([{**extra, "loc": (key,)} for key in keys])


def require_media(request: Request, media: str) -> None:
    """Checks the `Content-Type`.

    Raises:
        Refused: It is another type.
    """
    received = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if received != media:
        raise Refused(415, f"the body must be {media}", f"send `Content-Type: {media}`")


async def read_body(request: Request) -> bytes:
    """Returns the body.

    Raises:
        Refused: It is too long, or comes too slowly.
    """
    try:
        return await asyncio.wait_for(_bounded(request), _BODY_S)
    except asyncio.TimeoutError as error:
        raise Refused(408, f"the body did not come within {_BODY_S:g} s") from error


def announced_length(request: Request, most: int, too_long: Refused) -> int:
    """Returns the body's length as its `Content-Length` says, in bytes; 0 if it does not say.

    Args:
        request: The request.
        most: The greatest length that is accepted.
        too_long: Raised if the length is greater, or not a number.
    """
    length = request.headers.get("content-length", "0")
    if not _in_digits(length) or int(length) > most:
        raise too_long
    return int(length)


async def _bounded(request: Request) -> bytes:
    too_large = Refused(413, f"the body is longer than {MOST_BODY} bytes")
    announced_length(request, MOST_BODY, too_large)
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MOST_BODY:
            raise too_large
    return bytes(data)
