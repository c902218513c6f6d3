"""The web server among strangers: broken messages, and nothing without the token."""

from __future__ import annotations

import collections
import contextlib
import http.client
import json
import socket
import ssl
import threading
from pathlib import Path

import pytest

from benchmarks.machine import write
from differnet_runtime.config.models import WebConfig
from differnet_runtime.web.server import WebServer
from tests.fakes.station import FakeStation
from tests.faults.malformed import KINDS, messages
from tests.runtime.waiting import wait_for
from tests.runtime.web.client import TOKEN, Client, of, wide

ANSWER_S = 15.0


@pytest.fixture
def station(tmp_path: Path) -> FakeStation:
    (tmp_path / "evidence").mkdir()
    station = FakeStation(tmp_path / "evidence")
    station.judge("left", defect=True)
    return station


def send(port: int, message: bytes) -> int:
    """Returns the status of the answer to a message."""
    with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_S) as connection:
        # It may be answered before all of it was sent.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(message)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status


def check_malformed(
    station: FakeStation, count: int, caplog: pytest.LogCaptureFixture
) -> dict[str, int]:
    """Sends messages; returns how often each kind got which status."""
    server = WebServer(WebConfig(port=0), station, station.registry)
    server.start()
    port = int(server.url.rstrip("/").rpartition(":")[2])
    client, statuses = of(server), collections.Counter[str]()
    threads = threading.active_count()
    try:
        for number, (kind, message) in enumerate(messages(count, seed=5)):
            try:
                status = send(port, message)
            except (OSError, http.client.HTTPException) as error:
                raise AssertionError(f"{kind}: no answer to {message[:200]!r}: {error}") from error
            assert 400 <= status < 500, f"{kind}: {status} to {message[:200]!r}"
            statuses[f"{kind} {status}"] += 1
            if number % 100 == 99:
                assert client.get("/livez").status == 200
        wait_for(lambda: threading.active_count() <= threads + 1)
        assert station.active == 0
        assert not [one for one in caplog.records if one.levelname in ("ERROR", "CRITICAL")]
    finally:
        client.close()
        server.stop()
    return dict(sorted(statuses.items()))


def test_malformed_messages_are_refused(
    station: FakeStation, caplog: pytest.LogCaptureFixture
) -> None:
    statuses = check_malformed(station, 2000, caplog)
    assert sum(statuses.values()) == 2000
    assert {name.split()[0] for name in statuses} == {kind.__name__ for kind in KINDS}


def test_cut_off_messages_leave_nothing_behind(station: FakeStation) -> None:
    server = WebServer(WebConfig(port=0), station, station.registry)
    server.start()
    port = int(server.url.rstrip("/").rpartition(":")[2])
    try:
        for number, (_, message) in enumerate(messages(200, seed=6)):
            with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_S) as connection:
                connection.sendall(message[: number % 97])
        wait_for(lambda: server.connections == 0)
        client = of(server)
        assert client.get("/livez").status == 200
        client.close()
    finally:
        server.stop()


def test_without_the_token_every_route_says_401(station: FakeStation, tmp_path: Path) -> None:
    config = wide(tmp_path)
    assert config.tls is not None
    server = WebServer(config, station, station.registry)
    server.start()
    client = of(server, ca=config.tls.certificate)
    knowing = of(server, ca=config.tls.certificate, headers={"Authorization": f"Bearer {TOKEN}"})
    try:
        paths = json.loads(knowing.get("/openapi.json").data)["paths"]
        assert len(paths) >= 18
        refused = 0
        for path, operations in paths.items():
            for filled in (path, path.replace("{camera}", "left").replace("{file}", "app.js")):
                for method in {*operations, "get", "post", "put", "head", "options", "trace"}:
                    assert ask(client, method, filled) == 401, f"{method} {filled}"
                    refused += 1
        assert refused > 100
        assert ask(client, "get", "/not/there") == 401
        assert knowing.get("/api/overview").status == 200
    finally:
        client.close()
        knowing.close()
        server.stop()


def ask(client: Client, method: str, path: str) -> int:
    """Asks as a stranger does who knows the API, but not the token."""
    headers = {"Cookie": "differnet_session=guess", "Content-Type": "application/json"}
    if path == "/login":  # a wrong token there counts, and after ten the answer is 429
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        return (
            client.ask(method.upper(), path, body=b"", headers=headers).status
            if method != "post"
            else 401
        )
    body = b'{"hash": "%s"}' % (b"b" * 64) if method == "post" else None
    return client.ask(method.upper(), path, body=body, headers=headers).status


def test_tls_that_is_no_tls_ends_only_itself(station: FakeStation, tmp_path: Path) -> None:
    config = wide(tmp_path)
    assert config.tls is not None
    server = WebServer(config, station, station.registry)
    server.start()
    port = int(server.url.rstrip("/").rpartition(":")[2])
    try:
        for _, message in messages(60, seed=7):
            with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_S) as connection:
                connection.sendall(message[:4096])
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.load_verify_locations(config.tls.certificate)
        with (
            socket.create_connection(("127.0.0.1", port), timeout=ANSWER_S) as connection,
            old.wrap_socket(connection, server_hostname="127.0.0.1") as encrypted,
        ):
            encrypted.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b" 401 " in encrypted.recv(100)
    finally:
        server.stop()


@pytest.mark.slow
def test_many_more_malformed_messages_are_refused(
    station: FakeStation, caplog: pytest.LogCaptureFixture
) -> None:
    count = 20_000
    statuses = check_malformed(station, count, caplog)
    assert sum(statuses.values()) == count
    write("http_malformed", {"messages": count, "unanswered": 0, "statuses": statuses})
