"""A small broker (MQTT 3.1.1 and 5) that keeps to its rules, and ends whoever does not."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 1, 2, 3, 4, 5, 6, 7
SUBSCRIBE, SUBACK, PING, PONG, DISCONNECT = 8, 9, 12, 13, 14
TOO_MANY, TOO_LARGE, NO_RETAIN, NO_QOS, BAD_PASSWORD = 0x93, 0x95, 0x9A, 0x9B, 0x86


@dataclass
class Rules:
    """What the broker allows.

    Args:
        window: Receive Maximum.
        qos: Maximum QoS.
        retain: Whether messages may be retained.
        packet: Maximum Packet Size in bytes, or None.
        acknowledges: Whether it ever does.
        delay_s: Before an acknowledgement.
        accepts: Whether it accepts connections (else: wrong password).
    """

    window: int = 65535
    qos: int = 2
    retain: bool = True
    packet: int | None = None
    acknowledges: bool = True
    delay_s: float = 0.0
    accepts: bool = True

    @property
    def properties(self) -> bytes:
        """As they stand in CONNACK; only what differs from the default is told."""
        told = b"" if self.window == 65535 else b"\x21" + struct.pack(">H", self.window)
        told += b"" if self.qos == 2 else bytes([0x24, self.qos])
        told += b"" if self.retain else b"\x25\x00"
        return told + (b"" if self.packet is None else b"\x27" + struct.pack(">I", self.packet))


class ScriptedBroker:
    """Listens on loopback from `start` to `stop`; between them, nobody can reach it.

    Args:
        rules: Kept to at each moment.
        certificates: Folder of `write_certificates`: it then speaks TLS.
    """

    def __init__(self, rules: Rules, certificates: Path | None = None) -> None:
        self.rules = rules
        self.messages: list[tuple[str, bytes, int, bool]] = []
        """Topic, payload, QoS, retained: all that it took, in order."""
        self.wills: list[tuple[int, bool]] = []
        """QoS and retain of each last will."""
        self.subscriptions: list[str] = []
        self.ended: list[int] = []
        """Reasons for which it ended connections."""
        self.most = 0
        """Messages that were on their way at once."""
        self.port = 0
        self._context: ssl.SSLContext | None = None
        if certificates is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
        self._server: socket.socket | None = None
        self._open: set[_Connection] = set()

    def start(self) -> None:
        self._server = socket.create_server(("127.0.0.1", self.port), reuse_port=False)
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._server,), daemon=True).start()

    def stop(self) -> None:
        """Ends all connections, and takes no more."""
        assert self._server is not None
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for connection in list(self._open):
            connection.end()

    @property
    def states(self) -> list[str]:
        """What the delivered state events said."""
        return [
            json.loads(data)["state"] for topic, data, *_ in self.messages if "/state/" in topic
        ]

    def _accept(self, server: socket.socket) -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError, EOFError):
            if self._context is not None:
                client = self._context.wrap_socket(client, server_side=True)
            connection = _Connection(self, client)
            self._open.add(connection)
            try:
                connection.serve()
            finally:
                self._open.discard(connection)
                connection.end()


@dataclass(eq=False)
class _Connection:
    broker: ScriptedBroker
    client: socket.socket
    newest: bool = False
    flying: set[bytes] = field(default_factory=set)
    sending: threading.Lock = field(default_factory=threading.Lock)

    def serve(self) -> None:
        head, body = self._packet()
        assert head >> 4 == CONNECT
        if not self._connected(body):
            return
        while True:
            head, body = self._packet()
            kind = head >> 4
            if kind == PUBLISH and not self._published(head, body):
                return
            if kind == SUBSCRIBE:
                start = 3 + body[2] if self.newest else 2
                (length,) = struct.unpack(">H", body[start : start + 2])
                self.broker.subscriptions.append(body[start + 2 : start + 2 + length].decode())
                self._send(SUBACK << 4, body[:2] + (b"\0\0" if self.newest else b"\0"))
            if kind == PUBREL:
                self._settle(PUBCOMP, body[:2])
            if kind == PING:
                self._send(PONG << 4, b"")
            if kind == DISCONNECT:
                return

    def _connected(self, body: bytes) -> bool:
        rules, flags = self.broker.rules, body[7]
        self.newest = body[6] == 5
        qos, retain = flags >> 3 & 3, bool(flags & 0x20)
        self.broker.wills.append((qos, retain))
        reason = 0 if rules.accepts else BAD_PASSWORD if self.newest else 4
        if self.newest and not reason:
            reason = NO_QOS if qos > rules.qos else NO_RETAIN if retain > rules.retain else 0
        elif not reason and (qos > rules.qos or retain > rules.retain):
            return False  # as mosquitto does: MQTT 3.1.1 has no word for it
        told = rules.properties if self.newest else b""
        self._send(CONNACK << 4, bytes([0, reason]) + (bytes([len(told)]) + told) * self.newest)
        return not reason

    def _published(self, head: int, body: bytes) -> bool:
        rules, qos, retain = self.broker.rules, head >> 1 & 3, bool(head & 1)
        (length,) = struct.unpack(">H", body[:2])
        topic, rest = body[2 : 2 + length].decode(), body[2 + length :]
        number, rest = (rest[:2], rest[2:]) if qos else (b"", rest)
        payload = rest[1 + rest[0] :] if self.newest else rest
        if qos:
            self.flying.add(number)
            self.broker.most = max(self.broker.most, len(self.flying))
        size = len(body) + (2 if len(body) < 128 else 3)
        large = rules.packet is not None and size > rules.packet
        for wrong, reason in (
            (qos > rules.qos, NO_QOS),
            (retain > rules.retain, NO_RETAIN),
            (large, TOO_LARGE),
            (self.newest and len(self.flying) > rules.window, TOO_MANY),
        ):
            if wrong:
                self.broker.ended.append(reason)
                if self.newest:
                    self._send(DISCONNECT << 4, bytes([reason]))
                return False
        self.broker.messages.append((topic, payload, qos, retain))
        if qos and rules.acknowledges:
            answer = PUBACK if qos == 1 else PUBREC
            if rules.delay_s:
                threading.Timer(rules.delay_s, self._settle, (answer, number)).start()
            else:
                self._settle(answer, number)
        return True

    def _settle(self, kind: int, number: bytes) -> None:
        if kind != PUBREC:
            self.flying.discard(number)
        with suppress(OSError):
            self._send(kind << 4, number)

    def _send(self, head: int, body: bytes) -> None:
        with self.sending:
            self.client.sendall(bytes([head, len(body)]) + body)

    def _packet(self) -> tuple[int, bytes]:
        head, length, shift = self._read(1)[0], 0, 0
        while True:
            byte = self._read(1)[0]
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return head, self._read(length)

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            if not (got := self.client.recv(count - len(data))):
                raise EOFError
            data += got
        return data

    def end(self) -> None:
        with suppress(OSError):
            self.client.shutdown(socket.SHUT_RDWR)
        self.client.close()


@contextmanager
def scripted(rules: Rules, certificates: Path | None = None) -> Iterator[ScriptedBroker]:
    broker = ScriptedBroker(rules, certificates)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()
