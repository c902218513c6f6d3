"""The audit trail: who did what, from where, in the log, as events and over HTTP."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from differnet_runtime.config.models import WebConfig
from differnet_runtime.events import EVENT, AuditEvent
from differnet_runtime.web.answers import EVERY_S, Troubles, tell
from differnet_runtime.web.audit import AuditTrail
from differnet_runtime.web.server import WebServer
from tests.fakes.station import HASHES, THRESHOLD, FakeStation
from tests.runtime.waiting import wait_for
from tests.runtime.web.client import BEARER, TOKEN, Client, of

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
def guarded(station: FakeStation, tmp_path: Path) -> Iterator[Client]:
    """On loopback, with a token."""
    token = tmp_path / "token"
    token.write_text(TOKEN, encoding="utf-8")
    server = WebServer(WebConfig(port=0, token_file=token), station, station.registry)
    server.start()
    client = of(server)
    yield client
    client.close()
    server.stop()


def test_a_login_and_what_its_session_changes(
    guarded: Client, station: FakeStation, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        answer = guarded.ask("POST", "/login", body=urlencode({"token": TOKEN}), headers=FORM)
        cookie = {"Cookie": answer.headers["set-cookie"].split(";")[0]}
        body = {"hash": HASHES[1]}
        assert guarded.ask("POST", "/api/models/activate", json=body, headers=cookie).status == 200
        assert guarded.ask("POST", "/api/models/rollback", json={}, headers=BEARER).status == 200
        guarded.ask("POST", "/logout", headers={**FORM, **cookie})
    login, activated, back, logout = station.audited
    assert [one.action for one in station.audited] == ["login", "activate", "rollback", "logout"]
    assert {one.address for one in station.audited} == {"127.0.0.1"}
    assert login.by == activated.by == logout.by != back.by == "token"
    first, second = (f"ring {one[:12]}, threshold {THRESHOLD:g}" for one in HASHES)
    assert (activated.old, activated.new) == (first, second)
    assert (back.old, back.new) == (second, first)
    secret = cookie["Cookie"].partition("=")[2]
    assert secret not in caplog.text
    assert TOKEN not in caplog.text
    assert f"activate by {login.by}, from 127.0.0.1, {first} -> {second}" in caplog.text


def test_what_failed_is_there_with_its_reason(client: Client, station: FakeStation) -> None:
    assert client.post("/api/models/activate", {"hash": "c" * 64}).status == 409
    (entry,) = station.audited
    assert entry.by == "anybody"
    assert entry.error is not None
    assert "no model" in entry.error
    assert entry.new is None
    assert station.on_disk == 1


def test_wrong_tokens_are_one_entry_with_their_number(
    guarded: Client, station: FakeStation
) -> None:
    for k in range(30):
        guarded.get("/livez", Authorization=f"Bearer guess {k}")

    wait_for(lambda: station.audited and station.troubles.counts["wrong_token"] == 30)
    assert len(station.audited) == 1
    waiting = [one.count for one in station.troubles.due(float("inf")) if one.kind == "wrong_token"]
    assert station.audited[0].count + sum(waiting) == 30
    assert station.audited[0].action == "wrong_token"
    assert station.audited[0].address == "127.0.0.1"
    assert "guess" not in station.audited[0].model_dump_json()


def test_the_newest_entries_can_be_asked_for(guarded: Client, station: FakeStation) -> None:
    station.audit.add("threshold", "files", old="the model's", new="2.5")
    station.audit.add("configuration", "files", new="changed: web")
    assert guarded.get("/api/audit").status == 401
    found = json.loads(guarded.get("/api/audit?limit=1", **BEARER).data)["entries"]
    assert [one["action"] for one in found] == ["configuration"]
    found = json.loads(guarded.get("/api/audit", **BEARER).data)["entries"]
    assert [one["action"] for one in found] == ["configuration", "threshold"]
    assert isinstance(EVENT.validate_python(found[1]), AuditEvent)


def test_control_characters_do_not_reach_the_log(caplog: pytest.LogCaptureFixture) -> None:
    events: list[AuditEvent] = []
    with caplog.at_level(logging.INFO):
        AuditTrail("line", events.append).add("activate", "files", new="a\x1b[2J\nb")
    assert "a\\x1b[2J\\x0ab" in caplog.messages[0]
    assert events[0].new == "a\\x1b[2J\nb"


def test_a_kind_of_trouble_is_told_at_once_and_then_once_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    troubles = Troubles()
    told = 0
    for second in range(int(3 * EVERY_S)):
        for k in range(50):
            troubles.note("full", f"10.0.{second % 250}.{k}")
        for trouble in troubles.due(float(second)):
            told += trouble.count
            tell(trouble)
    assert len(caplog.records) == 3
    assert troubles.counts["full"] == 50 * 180
    assert told == 50 * 121
    troubles.note("not_reading", "10.0.0.9")
    assert [one.kind for one in troubles.due(180.0)] == ["full", "not_reading"]
