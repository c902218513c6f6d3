"""Streams: verdicts as server-sent events, pictures as motion JPEG."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import ValidationError
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from ..model_file.contract import StrictModel
from .answers import Refused
from .connections import Connection, Connections, of_busiest_sender
from .guard import Sessions
from .live import Jpeg
from .routes import EventsQuery, LiveQuery
from .routing import Call, CallDep, CameraDep, StationRoute, Whole, media, problems
from .views import ShownEvent

router = APIRouter(route_class=StationRoute)

EVENT_STREAM = "text/event-stream; charset=utf-8"
MOTION_JPEG = "multipart/x-mixed-replace; boundary=frame"

_EVENTS_S, _PICTURES_S, _COMMENT_S = 0.2, 0.1, 10.0


class _LastId(StrictModel):
    number: Whole


class Viewers:
    """The viewers of one kind of stream; at the limit, a new one replaces another.

    Args:
        most: Maximum number of viewers.
        connections: The connections of the server.
    """

    def __init__(self, most: int, connections: Connections) -> None:
        self._most, self._connections = most, connections
        self._watching: set[Connection] = set()

    def stream(self, call: Call, chunks: AsyncIterator[bytes], media: str) -> Response:
        """Returns the response that sends the chunks.

        Raises:
            Refused: The connection has ended.
        """
        connection = self._connections.of(call.request.scope.get("client"))
        if connection is None:
            raise Refused(503, "the connection has ended")
        return _Stream(chunks, media, self._watched(connection))

    @contextlib.contextmanager
    def _watched(self, connection: Connection) -> Iterator[None]:
        """At the limit, drops the slowest or else oldest viewer of the client that has the most."""
        staying = [one for one in self._watching if not one.dropped]
        if len(staying) >= self._most:
            busiest = of_busiest_sender(staying)
            slowest = max(busiest, key=lambda one: (one.unsent(), -one.began_s))
            self._connections.drop(slowest, "viewers")
        self._watching.add(connection)
        try:
            yield
        finally:
            self._watching.discard(connection)


class _Stream(StreamingResponse):
    def __init__(
        self,
        chunks: AsyncIterator[bytes],
        media: str,
        watched: contextlib.AbstractContextManager[None],
    ) -> None:
        super().__init__(chunks, headers={"content-type": media})
        self._watched = watched

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the stream."""
        with self._watched:
            await super().__call__(scope, receive, send)


class Streams:
    """The viewers of all streams, and when their streams end.

    Args:
        longest_s: Maximum duration in seconds; then a browser asks again, with token or session.
        stopping: Ends all streams when it is set.
        connections: The connections of the server.
        sessions: Ends all streams when its token is replaced; None if no token is needed.
    """

    def __init__(
        self,
        longest_s: float,
        stopping: threading.Event,
        connections: Connections,
        sessions: Sessions | None = None,
    ) -> None:
        self._longest_s, self._stopping, self._sessions = longest_s, stopping, sessions
        self.events, self.pictures = Viewers(32, connections), Viewers(16, connections)

    def until(self) -> Callable[[], bool]:
        """Returns a function that tells whether a stream that starts now may go on."""
        end_s, token = time.monotonic() + self._longest_s, self._tokens()

        def goes_on() -> bool:
            ended = time.monotonic() >= end_s or self._stopping.is_set()
            return not ended and self._tokens() == token

        return goes_on

    def _tokens(self) -> int:
        return 0 if self._sessions is None else self._sessions.tokens


@router.get(
    "/api/events/stream",
    response_class=Response,
    responses=media("Server-sent events.", EVENT_STREAM) | problems(404),
)
async def event_stream(call: CallDep, query: Annotated[EventsQuery, Query()]) -> Response:
    """Verdicts as they are given."""
    call.check_camera(query.camera)
    streams: Streams = call.request.app.state.streams
    return streams.events.stream(call, _verdicts(call, query, streams.until()), EVENT_STREAM)


@router.get(
    "/api/cameras/{camera}/live.mjpg",
    response_class=Response,
    responses=media("Motion JPEG.", MOTION_JPEG) | problems(404),
)
async def live_stream(
    call: CallDep, camera: CameraDep, query: Annotated[LiveQuery, Query()]
) -> Response:
    """The judged pictures of a camera as they arrive."""
    streams: Streams = call.request.app.state.streams
    pictures = _pictures(call, camera, query.overlay, streams.until())
    return streams.pictures.stream(call, pictures, MOTION_JPEG)


async def _verdicts(
    call: Call, query: EventsQuery, goes_on: Callable[[], bool]
) -> AsyncIterator[bytes]:
    recent, camera = call.control.recent, query.camera
    number = _start(call, query.after)
    said = time.monotonic()
    yield b"retry: 2000\n\n"
    while goes_on():
        newest = recent.number  # asked for first: a verdict may come in between
        if newest > number:
            found = recent.after(number, camera=camera, limit=query.limit)
            number = found[-1].number if found else newest
            if found:
                said = time.monotonic()
                yield "".join(
                    f"id: {one.number}\ndata: {ShownEvent.of(one.event).model_dump_json()}\n\n"
                    for one in found
                ).encode()
        elif time.monotonic() - said > _COMMENT_S:
            said = time.monotonic()
            yield b": still here\n\n"
        await asyncio.sleep(_EVENTS_S)


def _start(call: Call, number: int) -> int:
    """Returns the number to go on after: a browser sends it when it comes back."""
    recent = call.control.recent
    with contextlib.suppress(KeyError, ValidationError):
        sent = {"number": call.request.headers["last-event-id"]}
        number = _LastId.model_validate(sent).number
    return number if number <= recent.number else 0  # it counted before a restart


async def _pictures(
    call: Call, camera: str, overlay: bool, goes_on: Callable[[], bool]
) -> AsyncIterator[bytes]:
    number = 0
    while goes_on():
        jpeg = await call.reads.run(partial(call.control.jpeg, camera, overlay=overlay))
        if jpeg is not None and jpeg.number != number:
            number = jpeg.number
            yield _part(jpeg)
        await asyncio.sleep(_PICTURES_S)


def _part(jpeg: Jpeg) -> bytes:
    age_ms = (time.monotonic_ns() - jpeg.captured_ns) // 1_000_000
    head = (
        f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg.data)}\r\n"
        f"X-Frame-Age-Ms: {age_ms}\r\nX-Event-Id: {jpeg.event.id}\r\n\r\n"
    )
    return head.encode() + jpeg.data + b"\r\n"
