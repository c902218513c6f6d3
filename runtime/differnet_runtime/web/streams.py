"""What goes on: verdicts as server-sent events, pictures as motion JPEG."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

from pydantic import ValidationError
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from ..metadata import Part
from .answers import Refused
from .connections import Connection, Connections, of_busiest_sender
from .control import Jpeg
from .endpoints import Call, Content, Endpoint, Whole, known_camera
from .routes import CAMERA, EventsQuery, LiveQuery
from .sessions import Sessions

EVENT_STREAM = "text/event-stream; charset=utf-8"
MOTION_JPEG = "multipart/x-mixed-replace; boundary=frame"

_EVENTS_S, _PICTURES_S, _COMMENT_S = 0.2, 0.1, 10.0


class _LastId(Part):
    number: Whole


class Viewers:
    """Those who watch a stream; where too many do, the newest takes the place of another.

    Args:
        most: At once.
        connections: Of the server.
    """

    def __init__(self, most: int, connections: Connections) -> None:
        self._most, self._connections = most, connections
        self._watching: set[Connection] = set()

    def stream(self, call: Call, chunks: AsyncIterator[bytes], media: str) -> Response:
        """Returns the answer that sends the chunks.

        Raises:
            Refused: The connection has ended.
        """
        connection = self._connections.of(call.request.scope.get("client"))
        if connection is None:
            raise Refused(503, "the connection has ended")
        return _Stream(chunks, media, partial(self._watch, connection))

    async def _watch(self, connection: Connection, send: Callable[[], Awaitable[None]]) -> None:
        self._make_room()
        self._watching.add(connection)
        try:
            await send()
        finally:
            self._watching.discard(connection)

    def _make_room(self) -> None:
        """Ends one of the address that watches most: who reads least, or else watches longest."""
        staying = [one for one in self._watching if not one.dropped]
        if len(staying) >= self._most:
            busiest = of_busiest_sender(staying)
            slowest = max(busiest, key=lambda one: (one.unsent(), -one.began_s))
            self._connections.drop(slowest, "viewers")


class _Stream(StreamingResponse):
    def __init__(
        self,
        chunks: AsyncIterator[bytes],
        media: str,
        watch: Callable[[Callable[[], Awaitable[None]]], Awaitable[None]],
    ) -> None:
        super().__init__(chunks, headers={"content-type": media})
        self._watch = watch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends it."""
        await self._watch(partial(super().__call__, scope, receive, send))


def streams(
    longest_s: float,
    stopping: threading.Event,
    connections: Connections,
    sessions: Sessions | None = None,
) -> list[Endpoint]:
    """Returns the routes of streams.

    Args:
        longest_s: Then a stream ends, and a browser asks again, with its token or session.
        stopping: Ends them.
        connections: Of the server.
        sessions: A new token there ends them, too; None where none is needed.
    """

    def tokens() -> int:
        return 0 if sessions is None else sessions.tokens

    def until() -> Callable[[], bool]:
        """Returns what says whether a stream that begins now goes on."""
        end_s, token = time.monotonic() + longest_s, tokens()
        return lambda: time.monotonic() < end_s and tokens() == token and not stopping.is_set()

    events, pictures = Viewers(32, connections), Viewers(16, connections)

    async def verdicts(call: Call) -> Response:
        if call.query.camera is not None:
            known_camera(call.control, call.query.camera)
        return events.stream(call, _verdicts(call, until()), EVENT_STREAM)

    async def motion(call: Call) -> Response:
        return pictures.stream(call, _pictures(call, call.camera, until()), MOTION_JPEG)

    return [
        Endpoint("GET", "/api/events/stream", "Verdicts as they are given.", verdicts,
                 {200: Content("Server-sent events.", media=(EVENT_STREAM,))}, (404,),
                 query=EventsQuery),
        Endpoint("GET", "/api/cameras/{camera}/live.mjpg", "The judged pictures.", motion,
                 {200: Content("Motion JPEG.", media=(MOTION_JPEG,))}, (404,), CAMERA,
                 LiveQuery),
    ]  # fmt: skip


async def _verdicts(call: Call, goes_on: Callable[[], bool]) -> AsyncIterator[bytes]:
    recent, camera = call.control.recent, call.query.camera
    number = _start(call)
    said = time.monotonic()
    yield b"retry: 2000\n\n"
    while goes_on():
        newest = recent.number  # asked for first: a verdict may come in between
        if newest > number:
            found = recent.after(number, camera=camera, limit=call.query.limit)
            number = found[-1].number if found else newest
            lines = [f"id: {one.number}\ndata: {one.event.model_dump_json()}\n\n" for one in found]
            if lines:
                said = time.monotonic()
                yield "".join(lines).encode()
        elif time.monotonic() - said > _COMMENT_S:
            said = time.monotonic()
            yield b": still here\n\n"
        await asyncio.sleep(_EVENTS_S)


def _start(call: Call) -> int:
    """Returns the number to go on after: a browser sends it when it comes back."""
    recent, number = call.control.recent, call.query.after
    with contextlib.suppress(KeyError, ValidationError):
        sent = {"number": call.request.headers["last-event-id"]}
        number = _LastId.model_validate(sent).number
    return number if number <= recent.number else 0  # it counted before a restart


async def _pictures(call: Call, camera: str, goes_on: Callable[[], bool]) -> AsyncIterator[bytes]:
    overlay, number = call.query.overlay, 0
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
