"""The listening socket: a bounded number of connections, each wait with a deadline.

When all places are taken, the connection that has waited longest is closed for the newest one, so
that strangers who hold connections shut nobody out. `Connections` knows no HTTP; `Deadlines` tells
it what each connection waits for, and sends answers in pieces.
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
"""From accepting a connection, TLS handshake included, or from the end of an answer, to a whole
request head."""

_MOST, _LEAST = 256, 8
_RESERVE = 512
"""Descriptors for inspection: cameras, engine, databases, sinks."""
_BUFFER = 64 << 10
"""Of the kernel, each way; it takes twice as much. Its own choice grows to megabytes."""
_UNREAD = ("not_reading", "viewers")
_WAITING = 512
"""Connections that the system may hold until they are accepted."""
_VANISHED_MS = 30_000
_REPLACED_S = 0.02
"""An address that has all its places gets a new connection in place of an old one this often at
most; more are refused. Accepting thousands a second would take the processor from inspection."""
_REFUSED = 64
"""Refused in a row before the connections that are open get their turn."""


class Connection(socket.socket):
    """An accepted connection.

    Args:
        accepted: As the system gave it; it is used up.
        peer: Address and port of the other side.
        closed: Called when it was closed.
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
        """Notes that it waits for its client.

        Args:
            reason: The kind of trouble that it is if nothing comes.
            seconds: How long it may.
        """
        self.reason, self.since_s = reason, time.monotonic()
        self.until_s: float | None = self.since_s + seconds

    def works(self) -> None:
        """Notes that its client waits for an answer."""
        self.since_s, self.until_s = time.monotonic(), None

    def unsent(self) -> int:
        """Returns the bytes that the client's side has not taken yet, as far as TCP knows."""
        try:
            return int(struct.unpack("i", ioctl(self.fileno(), termios.TIOCOUTQ, b"\0" * 4))[0])
        except OSError:  # it is closed
            return 0

    def forget_unsent(self) -> None:
        """Has the system throw away, at the end, what the client did not take."""
        with contextlib.suppress(OSError):
            self.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def close(self) -> None:
        """Closes it; its place is free again."""
        super().close()
        self._closed_call(self)


class Connections:
    """Those that are open; used by the web server's thread only, `len` by all.

    Args:
        troubles: Counts those that are closed.
        most: At once; None takes what the limit of file descriptors allows.
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
        """Returns an accepted connection as one of these; another may have to go for it.

        None where its address has all its places and got a new one a moment ago: it is closed.
        """
        if not self._make_room(sender_of(peer[0])):
            accepted.close()
            return None
        connection = Connection(accepted, peer, self._closed)
        self._open[peer] = connection
        self._staying_of[connection.sender] += 1
        return connection

    def of(self, peer: tuple[str, int] | None) -> Connection | None:
        """Returns the connection to a peer; None where it is gone."""
        return None if peer is None else self._open.get((peer[0], peer[1]))

    def drop(self, connection: Connection, reason: str) -> None:
        """Ends a connection from below, whatever is in its buffers.

        Args:
            connection: One of these.
            reason: A kind of trouble.
        """
        self._troubles.note(reason, connection.sender)
        if reason in _UNREAD:
            connection.forget_unsent()
        self._shut(connection)

    def sweep(self) -> None:
        """Drops those whose time is up."""
        now_s = time.monotonic()
        for one in self._staying():
            if one.until_s is not None and now_s > one.until_s:
                self.drop(one, one.reason)

    def drop_all(self) -> None:
        """Ends all: the server stops."""
        for one in self._staying():
            self._shut(one)

    def _shut(self, connection: Connection) -> None:
        """The event loop finds it ended, and closes it."""
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
        self._staying_of[connection.sender] -= 1
        if not self._staying_of[connection.sender]:
            del self._staying_of[connection.sender]

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
        """Refuses without a look at every connection: an attack asks hundreds of times a second."""
        now_s = time.monotonic()
        if now_s - self._replaced_s < _REPLACED_S:
            self._troubles.note("sender_full", sender)
            return False
        self._replaced_s = now_s
        self.drop(_idlest([one for one in self._staying() if one.sender == sender]), "sender_full")
        return True


class Listener(socket.socket):
    """Listens, and accepts a bounded number of connections.

    Args:
        family: And
        address: To bind, as `socket.getaddrinfo` gives them.
        connections: Takes those that it accepts.
        troubles: Counts those that it refuses.

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
        """Listens; the event loop asks for as many as it accepts at once, and more may wait."""
        super().listen(max(backlog, _WAITING))

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        """Accepts the next connection that there is room for.

        Raises:
            BlockingIOError: There is none now.
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
    """Returns whose an address is: itself, or of IPv6 its network, which one person may own."""
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
    """Returns those of the address that has the most."""
    every = list(connections)
    counts = Counter(one.sender for one in every)
    most = max(counts.values())
    return [one for one in every if counts[one.sender] == most]


def most_connections() -> int:
    """Returns how many connections the process's descriptors allow, each with an open file."""
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
    """Returns the one that has waited longest; one whose client waits only if all are such."""
    return min(connections, key=lambda one: (one.until_s is None, one.since_s))


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
