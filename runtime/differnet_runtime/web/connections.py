"""The listening socket: a bounded number of connections, with a deadline for every wait.

At the limit, a new connection replaces the one that has been idle for longest, so clients that hold
connections open lock nobody out. `Connections` knows no HTTP; `Deadlines` tells it what each
connection waits for, and sends responses in pieces.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import resource
import socket
import struct
import termios
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from fcntl import ioctl
from functools import lru_cache
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .answers import Troubles

HEAD_S = 15.0
"""Time limit for a complete request head, from the accepted connection (TLS handshake included) or
from the end of the previous response."""

_MOST, _LEAST = 256, 8
_RESERVE = 512
"""File descriptors that are kept for inspection: cameras, engine, databases, sinks."""
_BUFFER = 64 << 10
"""Bytes of the kernel's buffer in each direction, which it doubles; its own choice grows to MiB."""
_UNREAD = ("not_reading", "viewers")
_WAITING = 512
"""Connections that the kernel queues until they are accepted."""
_VANISHED_MS = 30_000
_REPLACED_S = 0.02
"""Least time between two connections of an address at its limit that each replace an older one;
others are refused. Accepting thousands a second would take CPU time from inspection."""
_REFUSED = 64
"""Connections refused in a row before the event loop serves the open ones."""


class Connection(socket.socket):
    """An accepted connection, with the deadline of its current wait.

    Args:
        accepted: The accepted socket, whose descriptor this object takes over.
        peer: Address and port of the client.
        closed: Called after the connection was closed.
    """

    def __init__(
        self,
        accepted: socket.socket,
        peer: tuple[str, int],
        closed: Callable[[Connection], None],
    ) -> None:
        family, kind, protocol = accepted.family, accepted.type, accepted.proto
        super().__init__(family, kind, protocol, accepted.detach())
        self.peer, self.sender = peer, sender_of(peer[0])
        self.dropped, self.began_s = False, time.monotonic()
        self._closed_call = closed
        self.waits("no_request", HEAD_S)

    def waits(self, reason: str, seconds: float) -> None:
        """Sets a deadline, since the server waits for the client.

        Args:
            reason: Kind of trouble if the deadline passes.
            seconds: Time limit in seconds.
        """
        self.reason, self.since_s = reason, time.monotonic()
        self.until_s: float | None = self.since_s + seconds

    def works(self) -> None:
        """Clears the deadline, since the client waits for the server."""
        self.since_s, self.until_s = time.monotonic(), None

    def unsent(self) -> int:
        """Returns the number of bytes that the client has not acknowledged yet."""
        try:
            return int(struct.unpack("i", ioctl(self.fileno(), termios.TIOCOUTQ, b"\0" * 4))[0])
        except OSError:  # it is closed
            return 0

    def forget_unsent(self) -> None:
        """Makes the kernel discard unsent bytes when the connection is closed."""
        with contextlib.suppress(OSError):
            self.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def close(self) -> None:
        """Closes the connection, which frees its place."""
        super().close()
        self._closed_call(self)


class Connections:
    """The open connections; used by the web server's thread only, except for `len`.

    Args:
        troubles: Counts the connections that are dropped.
        most: Maximum number of connections; None takes what the limit on descriptors allows.
    """

    def __init__(self, troubles: Troubles, most: int | None = None) -> None:
        self._troubles = troubles
        self._most = most_connections() if most is None else most
        self._most_of_one = max(1, self._most * 3 // 4)
        self._open: dict[tuple[str, int], Connection] = {}
        self._staying_of: Counter[str] = Counter()
        self._replaced_s = float("-inf")

    def __len__(self) -> int:
        return len(self._open)

    def add(self, accepted: socket.socket, peer: tuple[str, int]) -> Connection | None:
        """Registers an accepted connection, which at the limit replaces an idle one.

        Returns None, and closes it, if its address is at its limit and has just replaced another.
        """
        if not self._make_room(sender_of(peer[0])):
            accepted.close()
            return None
        connection = Connection(accepted, peer, self._closed)
        self._open[peer] = connection
        self._staying_of[connection.sender] += 1
        return connection

    def of(self, peer: tuple[str, int] | None) -> Connection | None:
        """Returns the connection to a peer; None if it is closed."""
        return None if peer is None else self._open.get((peer[0], peer[1]))

    def drop(self, connection: Connection, reason: str) -> None:
        """Shuts a connection down at once, whatever is in its buffers.

        Args:
            connection: An open connection.
            reason: Kind of trouble, for the counts.
        """
        self._troubles.note(reason, connection.sender)
        if reason in _UNREAD:
            connection.forget_unsent()
        self._shut(connection)

    def sweep(self) -> None:
        """Drops the connections whose deadline has passed."""
        now_s = time.monotonic()
        for one in self._staying():
            if one.until_s is not None and now_s > one.until_s:
                self.drop(one, one.reason)

    def drop_all(self) -> None:
        """Shuts all connections down, since the server stops."""
        for one in self._staying():
            self._shut(one)

    def _shut(self, connection: Connection) -> None:
        """Shuts a connection down; the event loop then closes it."""
        if not connection.dropped:
            connection.dropped = True
            self._leaves(connection)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    def _closed(self, connection: Connection) -> None:
        if self._open.get(connection.peer) is connection:
            del self._open[connection.peer]
            if not connection.dropped:
                self._leaves(connection)

    def _leaves(self, connection: Connection) -> None:
        self._staying_of -= Counter([connection.sender])  # drops a sender at zero

    def _staying(self) -> list[Connection]:
        return [one for one in self._open.values() if not one.dropped]

    def _make_room(self, sender: str) -> bool:
        if len(self._open) < self._most_of_one:
            return True
        if self._staying_of[sender] >= self._most_of_one:
            return self._replace(sender)
        if self._staying_of.total() >= self._most:
            self.drop(_idlest(of_busiest_sender(self._staying())), "full")
        return True

    def _replace(self, sender: str) -> bool:
        """Makes room among a sender's own connections, but not more often than every 20 ms."""
        now_s = time.monotonic()
        if now_s - self._replaced_s < _REPLACED_S:
            self._troubles.note("sender_full", sender)
            return False
        self._replaced_s = now_s
        self.drop(_idlest([one for one in self._staying() if one.sender == sender]), "sender_full")
        return True


class Listener(socket.socket):
    """A listening socket that accepts a bounded number of connections.

    Args:
        family: Address family, as `socket.getaddrinfo` returns it.
        address: Address to bind, as `socket.getaddrinfo` returns it.
        connections: Registers the accepted connections.
        troubles: Counts the refused connections.

    Raises:
        OSError: The address can't be bound.
    """

    def __init__(
        self,
        family: int,
        address: tuple[Any, ...],
        connections: Connections,
        troubles: Troubles,
    ) -> None:
        # With its protocol said, asyncio sends small answers at once (TCP_NODELAY).
        super().__init__(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._connections, self._troubles = connections, troubles
        self._last = _last_descriptor()
        try:
            self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)  # inherited, as the next
            self.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            self.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _VANISHED_MS)
            self.bind(address)
            self.listen()
        except OSError:
            self.close()
            raise
        self.setblocking(False)

    def listen(self, backlog: int = _WAITING) -> None:
        """Starts listening; the backlog is at least 512, more than the event loop asks for."""
        super().listen(max(backlog, _WAITING))

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        """Accepts the next connection that there is room for.

        Raises:
            BlockingIOError: No connection is waiting.
        """
        for _ in range(_REFUSED):
            accepted, address = super().accept()
            peer = (address[0], address[1])
            if accepted.fileno() > self._last:
                accepted.close()
                self._troubles.note("descriptors", sender_of(peer[0]))
            elif (connection := self._connections.add(accepted, peer)) is not None:
                return connection, address
        raise BlockingIOError


@lru_cache(maxsize=1024)
def sender_of(host: str) -> str:
    """Returns what identifies a client: its IPv4 address, or its IPv6 network (/64)."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address), 64), strict=False))


def of_busiest_sender(connections: Iterable[Connection]) -> list[Connection]:
    """Returns the connections of the client that has the most."""
    every = list(connections)
    counts = Counter(one.sender for one in every)
    most = max(counts.values())
    return [one for one in every if counts[one.sender] == most]


def most_connections() -> int:
    """Returns how many connections the limit on descriptors allows, each with an open file."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY:
        return _MOST
    reserve = min(_RESERVE, soft // 2)
    return max(_LEAST, min(_MOST, (soft - reserve) // 2))


def _last_descriptor() -> int:
    """Returns the number up to which connections may take descriptors.

    The system gives the lowest free number, so a higher one means that few are left.
    """
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return (1 << 30) if soft == resource.RLIM_INFINITY else soft - max(16, soft // 8)


def _idlest(connections: list[Connection]) -> Connection:
    """Returns the connection that has waited longest; a busy one only if all are busy."""
    return min(connections, key=lambda one: (one.until_s is None, one.since_s))


WRITE_S = 10.0
"""Time limit for a client to take the next piece of a response."""
PIECE = 64 << 10
"""Bytes of a response that are handed over at once; the next piece waits until they are sent."""


class Deadlines:
    """ASGI middleware that sets the connections' deadlines, and sends responses in pieces.

    Args:
        app: The application behind it.
        connections: The connections of the server.
        troubles: Counts responses that fail halfway.
    """

    def __init__(self, app: ASGIApp, connections: Connections, troubles: Troubles) -> None:
        self._app, self._connections, self._troubles = app, connections, troubles

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request."""
        connection = self._connections.of(scope.get("client"))
        if connection is None:  # it ended meanwhile
            return
        connection.works()

        async def send_timed(message: Message) -> None:
            for piece in _pieces(message):
                connection.waits("not_reading", WRITE_S)
                await send(piece)
                await asyncio.sleep(0)  # the event loop may find that the client has gone
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
