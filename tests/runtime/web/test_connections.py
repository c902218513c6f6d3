"""How many connections there are, who gives way, and how long each may wait."""

from __future__ import annotations

import resource
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from differnet_runtime.config.models import TlsConfig, WebConfig
from differnet_runtime.web import connections as module
from differnet_runtime.web.answers import Troubles
from differnet_runtime.web.connections import Connections, Listener, most_connections, sender_of
from differnet_runtime.web.server import WebServer
from tests.fakes.station import FakeStation
from tests.runtime.waiting import wait_for
from tests.runtime.web.client import Client, certificate, of

ASKS = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Listening:
    """A listener on loopback whose clients come from whatever loopback address they like."""

    def __init__(self, most: int) -> None:
        self.troubles = Troubles()
        self.connections = Connections(self.troubles, most)
        self.listener = Listener(socket.AF_INET, ("127.0.0.1", 0), self.connections, self.troubles)
        self.clients = ExitStack()
        self.peers: list[tuple[str, int]] = []

    def client(self, address: str = "127.0.0.1") -> socket.socket:
        """Connects, and is accepted."""
        client = self.connect(address)
        wait_for(self.accepts)
        return client

    def connect(self, address: str = "127.0.0.1") -> socket.socket:
        client = self.clients.enter_context(
            socket.create_connection(
                self.listener.getsockname(), timeout=10, source_address=(address, 0)
            )
        )
        self.peers.append(client.getsockname())
        return client

    def accepts(self) -> bool:
        try:
            self.listener.accept()
        except BlockingIOError:
            return False
        return True


@contextmanager
def listening(most: int) -> Iterator[Listening]:
    found = Listening(most)
    with found.clients, found.listener:
        yield found
        for peer in found.peers:
            if (one := found.connections.of(peer)) is not None:
                one.close()
        assert len(found.connections) == 0


def is_open(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return client.recv(1) != b""
    except BlockingIOError:
        return True


def test_one_address_that_takes_too_much_loses_its_own_oldest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("differnet_runtime.web.connections._REPLACED_S", 0.0)
    with listening(8) as found:
        other = found.client("127.0.0.2")
        clients = [found.client() for _ in range(9)]
        assert [is_open(one) for one in clients] == [False] * 3 + [True] * 6
        assert is_open(other)
        assert found.troubles.counts["sender_full"] == 3


def test_one_address_that_comes_again_and_again_is_refused_and_others_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("differnet_runtime.web.connections._REPLACED_S", 3600.0)
    with listening(8) as found:
        clients = [found.client() for _ in range(7)]
        refused = [found.connect() for _ in range(2)]
        other = found.client("127.0.0.2")
        assert [is_open(one) for one in clients] == [False] + [True] * 6
        assert is_open(other)
        for one in refused:
            assert one.recv(1) == b""
        assert found.troubles.counts["sender_full"] == 3


def test_of_many_addresses_the_one_with_the_most_gives_way() -> None:
    with listening(8) as found:
        many = [found.client() for _ in range(6)]
        few = [found.client(f"127.0.0.{k}") for k in (2, 3, 4, 5)]
        assert all(map(is_open, few))
        assert [is_open(one) for one in many] == [False] * 2 + [True] * 4
        assert found.troubles.counts["full"] == 2


def test_whose_client_waits_for_an_answer_gives_way_last() -> None:
    with listening(4) as found:
        first = found.client()
        served = found.connections.of(first.getsockname())
        assert served is not None
        served.works()
        found.client()
        found.client()
        found.client()
        assert is_open(first)


def test_what_waits_too_long_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(4) as found:
        idle, busy = found.client(), found.client()
        served = found.connections.of(busy.getsockname())
        assert served is not None
        served.works()
        now_s = module.time.monotonic()
        monkeypatch.setattr(module.time, "monotonic", lambda: now_s + module.HEAD_S + 1)
        found.connections.sweep()
        assert not is_open(idle)
        assert is_open(busy)
        assert found.troubles.counts["no_request"] == 1


def test_a_closed_connection_frees_its_place_and_not_that_of_its_successor() -> None:
    with listening(4) as found:
        client = found.client()
        peer = client.getsockname()
        first = found.connections.of(peer)
        assert first is not None
        again = socket.fromfd(first.fileno(), socket.AF_INET, socket.SOCK_STREAM)
        second = found.connections.add(again, peer)
        first.close()
        assert found.connections.of(peer) is second


def test_strangers_leave_the_last_descriptors_to_inspection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (18, 18))
    with listening(4) as found:
        with socket.create_connection(found.listener.getsockname(), timeout=10) as client:
            wait_for(lambda: not found.accepts() and not is_open(client))
        assert len(found.connections) == 0
        assert found.troubles.counts["descriptors"] == 1


@pytest.mark.parametrize(
    ("limit", "most"),
    [(64, 16), (256, 64), (1024, 256), (1 << 20, 256), (resource.RLIM_INFINITY, 256), (8, 8)],
)
def test_the_limit_follows_that_of_descriptors(
    limit: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert most_connections() == most


@pytest.mark.parametrize(
    ("host", "sender"),
    [
        ("10.0.0.5", "10.0.0.5"),
        ("::ffff:10.0.0.5", "10.0.0.5"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8:0:0:ffff::2", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("nonsense", "nonsense"),
    ],
)
def test_who_owns_an_address(host: str, sender: str) -> None:
    assert sender_of(host) == sender


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("sent", [b"", ASKS[:20], b"\x16\x03\x01"])
def test_what_never_becomes_a_request_is_closed(
    station: FakeStation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tls: bool, sent: bytes
) -> None:
    monkeypatch.setattr(module, "HEAD_S", 0.3)
    config = WebConfig(port=0, tls=certificate(tmp_path) if tls else None)
    with (
        serving(station, config) as (_, port),
        socket.create_connection(("127.0.0.1", port), timeout=20) as silent,
        suppress(ConnectionResetError),
    ):
        silent.sendall(sent)
        while silent.recv(1000):
            pass


@pytest.mark.parametrize("second", [ASKS[:1], ASKS[:-1]])
def test_a_second_request_has_its_deadline_too(
    station: FakeStation, monkeypatch: pytest.MonkeyPatch, second: bytes
) -> None:
    monkeypatch.setattr("differnet_runtime.web.connections.HEAD_S", 0.3)
    with (
        serving(station, WebConfig(port=0)) as (_, port),
        socket.create_connection(("127.0.0.1", port), timeout=20) as client,
    ):
        client.sendall(ASKS + second)
        received = b""
        while chunk := client.recv(1000):
            received += chunk
        assert received.count(b"HTTP/1.1 200") == 1
    assert station.troubles.counts["no_request"] == 1


@pytest.mark.parametrize("tls", [False, True])
def test_a_client_that_does_not_read_is_dropped_and_costs_a_piece_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tls: bool
) -> None:
    monkeypatch.setattr("differnet_runtime.web.connections.WRITE_S", 0.5)
    (tmp_path / "kept").mkdir()
    station = FakeStation(tmp_path / "kept")
    entry = station.judge("left", defect=True).id
    (tmp_path / "kept" / f"{entry}-image.png").write_bytes(b"x" * (8 << 20))
    settings = certificate(tmp_path) if tls else None
    with serving(station, WebConfig(port=0, tls=settings)) as (server, port), ExitStack() as stack:
        asked = f"GET /api/evidence/{entry}/image HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        for _ in range(3):
            client = stack.enter_context(connected(port, settings))
            client.sendall(asked * 4)
        wait_for(lambda: station.troubles.counts["not_reading"] == 3)
        wait_for(lambda: server.connections == 0)


def test_a_large_file_arrives_whole(station: FakeStation, client: Client) -> None:
    entry = station.kept[0].id
    content = bytes(range(256)) * 4096
    (station.folder / f"{entry}-image.png").write_bytes(content)
    answer = client.get(f"/api/evidence/{entry}/image")
    assert answer.data == content
    assert answer.headers["content-length"] == str(len(content))
    assert answer.headers["content-type"] == "image/png"
    assert client.ask("HEAD", f"/api/evidence/{entry}/image").status == 200


@contextmanager
def serving(station: FakeStation, config: WebConfig) -> Iterator[tuple[WebServer, int]]:
    server = WebServer(config, station, station.registry)
    server.start()
    try:
        yield server, int(server.url.rstrip("/").rpartition(":")[2])
    finally:
        client = of(server, ca=config.tls.certificate if config.tls else None)
        assert client.get("/livez").status == 200
        client.close()
        server.stop()
        assert not server.alive


def connected(port: int, tls: TlsConfig | None) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    client.settimeout(20)
    client.connect(("127.0.0.1", port))
    if tls is None:
        return client
    context = ssl.create_default_context(cafile=str(tls.certificate))
    return context.wrap_socket(client, server_hostname="127.0.0.1")


def test_small_answers_are_sent_at_once() -> None:
    with listening(4) as found:
        accepted = found.connections.of(found.client().getsockname())
        assert accepted is not None
        assert accepted.proto == socket.IPPROTO_TCP  # asyncio then sets TCP_NODELAY
