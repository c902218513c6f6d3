"""Where the server may be bound, and how it ends."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest

from differnet_runtime.config.models import TlsConfig, WebConfig
from differnet_runtime.errors import ConfigError
from differnet_runtime.web.server import WebServer
from tests.fakes.station import FakeStation
from tests.runtime.waiting import wait_for
from tests.runtime.web.client import TOKEN, Client, certificate, of, wide


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "station.example"])
@pytest.mark.parametrize("missing", ["token_file", "tls"])
def test_wider_than_loopback_needs_token_and_tls(
    station: FakeStation, tmp_path: Path, host: str, missing: str
) -> None:
    config = wide(tmp_path).model_copy(update={"host": host, missing: None})
    with pytest.raises(ConfigError, match=r"web\.host"):
        WebServer(config, station, station.registry)


def test_a_short_token_is_refused_and_not_repeated(station: FakeStation, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("hunter2", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"web\.token_file") as raised:
        WebServer(WebConfig(token_file=token), station, station.registry)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("wrong", [TlsConfig(), TlsConfig(ca=Path("x"))])
def test_tls_without_a_certificate_is_refused(station: FakeStation, wrong: TlsConfig) -> None:
    with pytest.raises(ConfigError, match=r"web\.tls"):
        WebServer(WebConfig(tls=wrong), station, station.registry)


def test_what_is_no_certificate_is_named(station: FakeStation, tmp_path: Path) -> None:
    tls = certificate(tmp_path)
    assert tls.certificate is not None
    tls.certificate.write_text("no certificate", encoding="utf-8")
    with pytest.raises(ConfigError, match=str(tls.certificate)):
        WebServer(WebConfig(port=0, tls=tls), station, station.registry)


def test_a_port_in_use_is_named(server: WebServer, station: FakeStation) -> None:
    port = int(server.url.rstrip("/").rpartition(":")[2])
    with pytest.raises(ConfigError, match=f"port {port}"):
        WebServer(WebConfig(port=port), station, station.registry).start()


def test_bound_wide_it_speaks_tls_only(station: FakeStation, tmp_path: Path) -> None:
    config = wide(tmp_path)
    assert config.tls is not None
    server = WebServer(config, station, station.registry)
    server.start()
    try:
        client = of(server, ca=config.tls.certificate)
        assert client.get("/livez", Authorization=f"Bearer {TOKEN}").status == 200
        client.close()
        port = int(server.url.rstrip("/").rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
            plain.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"HTTP/1.1" not in plain.recv(100)
    finally:
        server.stop()


def test_it_stops_at_once_with_streams_open_and_calls_under_way(
    server: WebServer, station: FakeStation, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave, entered = threading.Event(), threading.Event()

    def stuck(_: str | None = None) -> None:
        entered.set()
        leave.wait(60)

    monkeypatch.setattr(station, "rollback", stuck)
    streams = [
        client.ask("GET", path, preload_content=False)
        for path in ("/api/events/stream", "/api/cameras/left/live.mjpg")
    ]
    statuses: list[int] = []
    asked = threading.Thread(
        target=lambda: statuses.append(client.post("/api/models/rollback", {}).status)
    )
    asked.start()
    try:
        assert entered.wait(10)
        start = time.monotonic()
        server.stop(timeout_s=20)
        assert not server.alive
        assert time.monotonic() - start < 4, "two seconds, and as much for a busy machine"
        asked.join(10)
        assert statuses == [503]
    finally:
        leave.set()
        for stream in streams:
            stream.close()
            stream.release_conn()


def test_it_stops_before_it_started(station: FakeStation) -> None:
    server = WebServer(WebConfig(port=0), station, station.registry)
    server.stop()
    assert not server.alive


def test_the_port_is_free_again(station: FakeStation) -> None:
    first = WebServer(WebConfig(port=0), station, station.registry)
    first.start()
    port = int(first.url.rstrip("/").rpartition(":")[2])
    first.stop()
    second = WebServer(WebConfig(port=port), station, station.registry)
    second.start()
    assert of(second).get("/livez").status == 200
    second.stop()
    wait_for(lambda: not second.alive)


def test_a_silent_connection_is_closed(
    server: WebServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("differnet_runtime.web.connections.HEAD_S", 0.3)
    port = int(server.url.rstrip("/").rpartition(":")[2])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as silent,
        socket.create_connection(("127.0.0.1", port), timeout=20) as slow,
    ):
        slow.sendall(b"GET /livez HTTP/1.1\r\nHost: local")
        assert silent.recv(100) == slow.recv(100) == b""
    assert client.get("/livez").status == 200
