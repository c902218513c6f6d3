"""Between server and application: says what each connection waits for, and sends in pieces."""

from __future__ import annotations

from collections.abc import Iterator

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .connections import HEAD_S, Connections
from .troubles import Troubles

WRITE_S = 10.0
"""A client must take the next piece of its answer within so long."""
PIECE = 64 << 10
"""Bytes of an answer that are handed over at once; the next waits until they are on their way."""


class Deadlines:
    """Keeps the time of every request.

    Args:
        app: What answers.
        connections: Those of the server.
        troubles: Counts answers that fail halfway.
    """

    def __init__(self, app: ASGIApp, connections: Connections, troubles: Troubles) -> None:
        self._app, self._connections, self._troubles = app, connections, troubles

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        connection = self._connections.of(scope.get("client"))
        if connection is None:  # it ended meanwhile
            return
        connection.works()

        async def send_timed(message: Message) -> None:
            for piece in _pieces(message):
                connection.waits("not_reading", WRITE_S)
                await send(piece)
                connection.works()
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                connection.waits("no_request", HEAD_S)

        try:
            await self._app(scope, receive, send_timed)
        except Exception as error:  # the server would write a traceback for each
            self._troubles.note("answer", connection.sender, f"{type(error).__name__}: {error}")


def _pieces(message: Message) -> Iterator[Message]:
    body = message.get("body", b"")
    if len(body) <= PIECE:
        yield message
        return
    for start in range(0, len(body), PIECE):
        last = start + PIECE >= len(body)
        more = message.get("more_body", False) or not last
        yield {**message, "body": bytes(body[start : start + PIECE]), "more_body": more}
