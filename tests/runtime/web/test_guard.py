"""Who may ask: loopback's own names, the token or its session, and no foreign page."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from starlette.datastructures import URL
from starlette.requests import HTTPConnection

from differnet_runtime.config.models import WebConfig
from differnet_runtime.web.guard import Sessions
from differnet_runtime.web.server import WebServer
from tests.fakes.station import HASHES, FakeStation
from tests.runtime.web.client import TOKEN, Client, of

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
def guarded(station: FakeStation, tmp_path: Path) -> Iterator[Client]:
    """On loopback, with a token and without changes."""
    token = tmp_path / "token"
    token.write_text(TOKEN, encoding="utf-8")
    config = WebConfig(port=0, token_file=token, changes=False)
    server = WebServer(config, station, station.registry)
    server.start()
    client = of(server)
    yield client
    client.close()
    server.stop()


def test_a_command_without_the_right_token_is_never_judged(
    station: FakeStation, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN, encoding="utf-8")
    server = WebServer(WebConfig(port=0, token_file=token), station, station.registry)
    server.start()
    client, judged = of(server), station.recent.number
    try:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": "differnet=wrong"}):
            for _ in range(20):
                path = "/api/cameras/right/trigger"
                assert client.post(path, {"part": "K7"}, **headers).status in (401, 429)
        assert station.recent.number == judged
        right = client.post(path, {"part": "K7"}, Authorization=f"Bearer {TOKEN}")
        assert (right.status, station.recent.number) == (200, judged + 1)
    finally:
        client.close()
        server.stop()


def log_in(client: Client, token: str) -> tuple[int, str]:
    answer = client.ask("POST", "/login", body=urlencode({"token": token}), headers=FORM)
    return answer.status, answer.headers.get("set-cookie", "")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "10.0.0.5", "127.0.0.1.nip.io", "[::2]", ""]
)
def test_a_name_that_is_not_loopbacks_is_refused(reader: Client, host: str) -> None:
    assert reader.get("/", Host=host).status == 421


@pytest.mark.parametrize(
    "host", ["localhost:1", "LOCALHOST", "127.0.0.1", "127.8.8.8:80", "[::1]:9"]
)
def test_loopbacks_own_names_are_answered_to(reader: Client, host: str) -> None:
    assert reader.get("/livez", Host=host).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_foreign_page_changes_nothing(
    client: Client, station: FakeStation, headers: dict[str, str]
) -> None:
    sent = {"json": {"hash": HASHES[1]}, "headers": headers}
    assert client.ask("POST", "/api/models/activate", **sent).status == 403
    assert station.active == 0


def test_the_own_page_may(client: Client, station: FakeStation) -> None:
    headers = {"Origin": client.root, "Sec-Fetch-Site": "same-origin"}
    sent = {"json": {"hash": HASHES[1]}, "headers": headers}
    assert client.ask("POST", "/api/models/activate", **sent).status == 200
    assert station.active == 1


def test_every_answer_tells_the_browser_to_be_strict(reader: Client) -> None:
    for path in ("/", "/static/app.js", "/api/overview", "/nothing", "/metrics"):
        headers = reader.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers


def test_without_the_token_there_is_nothing(guarded: Client) -> None:
    for path in ("/", "/static/app.js", "/livez", "/metrics", "/api/overview", "/nothing"):
        answer = guarded.get(path)
        assert answer.status == 401
        assert answer.headers["www-authenticate"] == "Bearer"


def test_a_browser_gets_the_form_which_says_nothing(guarded: Client) -> None:
    answer = guarded.get("/", Accept="text/html")
    assert answer.status == 401
    assert b"<form" in answer.data
    assert b"differnet" not in answer.data.lower()
    assert b"demo" not in answer.data


@pytest.mark.parametrize("sent", [f"Bearer {TOKEN}", f"bearer  {TOKEN}"])
def test_the_token_opens(guarded: Client, sent: str) -> None:
    assert guarded.get("/api/overview", Authorization=sent).status == 200


@pytest.mark.parametrize(
    "sent",
    ["Bearer", "Bearer ", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}x"],
)
def test_what_is_not_the_token_does_not(guarded: Client, sent: str) -> None:
    assert guarded.get("/api/overview", Authorization=sent).status == 401


def test_the_form_begins_a_session_and_logout_ends_it(guarded: Client) -> None:
    status, cookie = log_in(guarded, TOKEN)
    assert status == 303
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert TOKEN not in cookie
    session = cookie.split(";")[0]
    assert guarded.get("/", Cookie=session).status == 200
    assert guarded.ask("POST", "/logout", headers={**FORM, "Cookie": session}).status == 303
    assert guarded.get("/", Cookie=session).status == 401


def test_the_right_token_opens_whoever_guesses_beside_it(
    guarded: Client, station: FakeStation
) -> None:
    statuses = [log_in(guarded, f"guess {k}")[0] for k in range(12)]
    statuses += [guarded.get("/", Authorization=f"Bearer guess {k}").status for k in range(2)]
    assert statuses == [401] * 10 + [429] * 4
    assert guarded.get("/livez", Authorization=f"Bearer {TOKEN}").status == 200
    assert log_in(guarded, TOKEN)[0] == 303
    assert guarded.get("/", Authorization="Bearer guess").status == 429
    assert station.troubles.counts["wrong_token"] == 15


def test_wrong_tokens_are_forgotten_after_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions, now = Sessions(TOKEN), time.monotonic()
    for k in range(11):
        assert not sessions.right(f"guess {k}", "10.0.0.5")
    assert sessions.guesses("10.0.0.5")
    assert not sessions.guesses("10.0.0.6")
    monkeypatch.setattr(time, "monotonic", lambda: now + 61)
    assert not sessions.guesses("10.0.0.5")
    assert not sessions.right("guess", "10.0.0.5")
    assert not sessions.guesses("10.0.0.5")


def test_one_who_owns_a_network_of_ipv6_does_not_begin_anew_with_each_address() -> None:
    sessions = Sessions(TOKEN)
    for k in range(11):
        assert not sessions.right("guess", f"2001:db8::{k:x}")
    assert sessions.guesses("2001:db8::ffff")
    assert not sessions.guesses("2001:db8:0:1::1")


def test_changes_can_be_switched_off(guarded: Client, station: FakeStation) -> None:
    sent = {"json": {"hash": HASHES[1]}, "headers": {"Authorization": f"Bearer {TOKEN}"}}
    assert guarded.ask("POST", "/api/models/activate", **sent).status == 403
    assert station.active == 0


@pytest.mark.parametrize("token", [None, TOKEN])
@pytest.mark.parametrize(
    "host",
    [
        "localhost:1/login?x=",
        "localhost:1/logout#",
        "127.0.0.1/login",
        "me@localhost",
        "[::1",
        "a b",
    ],
)
def test_a_host_that_holds_more_than_a_host_is_refused(
    guarded: Client, station: FakeStation, host: str, token: str | None
) -> None:
    headers = {"Host": host} | ({"Authorization": f"Bearer {token}"} if token else {})
    sent = {"json": {"hash": HASHES[1]}, "headers": headers}
    assert guarded.ask("POST", "/api/models/activate", **sent).status == 400
    assert station.active == 0


@pytest.mark.parametrize(("token", "status"), [(None, 401), (TOKEN, 403)])
def test_the_address_that_is_routed_by_decides(
    guarded: Client,
    station: FakeStation,
    monkeypatch: pytest.MonkeyPatch,
    token: str | None,
    status: int,
) -> None:
    # As Starlette before 1.0.1 reads the address where the Host header holds one.
    monkeypatch.setattr(HTTPConnection, "url", URL("http://station/login?x=/api/models/activate"))
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    sent = {"json": {"hash": HASHES[1]}, "headers": headers}
    assert guarded.ask("POST", "/api/models/activate", **sent).status == status
    assert station.active == 0
