"""HTTP as uvicorn speaks it, with a limit on silence, answers in JSON, and an end that is one."""

from __future__ import annotations

import asyncio
import socket

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from .answers import JSON, Problem

HEAD_S = 15.0
"""A connection that has not sent a request for so long is closed: it keeps others from theirs."""
_LAST_WORDS_S = 0.2

_BODY = Problem(error="this is no HTTP/1.1 request").model_dump_json(exclude_none=True).encode()
_HEADERS = [
    ("content-type", JSON),
    ("content-length", str(len(_BODY))),
    ("x-content-type-options", "nosniff"),
    ("connection", "close"),
]


class Protocol(H11Protocol):
    """A connection."""

    _silence: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts the clock."""
        super().connection_made(transport)
        self._silence = self.loop.call_later(HEAD_S, self._end_if_silent)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the clock."""
        if self._silence is not None:
            self._silence.cancel()
        super().connection_lost(exc)

    def _end_if_silent(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - it says the same
        """Answers what is no HTTP; in the middle of an answer, the connection just ends."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            for event in (
                h11.Response(status_code=400, headers=_HEADERS, reason=b"Bad Request"),
                h11.Data(data=_BODY),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


class Server(uvicorn.Server):
    """Ends what does not end by itself: a client that reads no more, TLS that waits for a word."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Closes all connections; in the end without asking."""
        await super().shutdown(sockets)
        if self.server_state.tasks:  # cancelled, and about to say so
            await asyncio.wait(list(self.server_state.tasks), timeout=_LAST_WORDS_S)
        for connection in list(self.server_state.connections):
            assert isinstance(connection, Protocol)
            connection.transport.abort()
        for _ in range(3):  # TLS, TCP, and the socket itself
            await asyncio.sleep(0)
