"""Token, passwords, certificates and authorities replaced while a station inspects."""

from __future__ import annotations

import re
import shutil
import signal
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import urllib3

from tests.broker import PASSWORD, USER, Broker, listening, write_certificates
from tests.fakes.running import RunningStation
from tests.faults.test_station import write_clip
from tests.runtime.sinks.test_webhook import Receiver, receiving
from tests.runtime.web.client import TOKEN, Client, certificate
from tests.servers import require

SLOW = ("engine_starting", "deadline", "engine_timeout")
"""Codes of the first frames, and of a machine that has too much to do."""

NEW_TOKEN, NEW_PASSWORD = "fedcba9876543210-the-new-one", "the-new-one-of-the-line"
TABLES = """
token_file = "token"
tls = {{ certificate = "page/cert.pem", key = "page/key.pem" }}
[jsonl]
path = "{events}"
[camera.top]
source = "{clip}"
paced = true
"""
SINKS = """
[mqtt]
host = "localhost"
port = {broker}
username = "{user}"
password_file = "password"
tls = {{ ca = "ca.pem" }}
[webhook.mes]
url = "https://localhost:{receiver}/"
token_file = "token"
tls = {{ ca = "ca.pem" }}
"""


class Page:
    """The page of a station, asked over TLS with a certificate and a token, or a session."""

    def __init__(self, station: RunningStation, ca: Path, **headers: str) -> None:
        self._client = Client(f"https://127.0.0.1:{station.port}", ca=ca, headers=headers)

    def status(self, path: str = "/api/overview") -> int:
        """Returns the status; 0 where the certificate is not the one that is expected."""
        self._client.close()  # another handshake
        try:
            return self._client.get(path).status
        except urllib3.exceptions.HTTPError:
            return 0

    def session(self, token: str) -> str:
        answer = self._client.ask("POST", "/login", fields={"token": token}, encode_multipart=False)
        assert answer.status == 303
        return answer.headers["set-cookie"].partition(";")[0]

    def stream(self) -> urllib3.BaseHTTPResponse:
        return self._client.ask("GET", "/api/events/stream", preload_content=False)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def written(path: Path, text: str) -> None:
    """Replaces a file as a whole, as those who renew certificates do."""
    partial = path.with_suffix(".new")
    partial.write_text(text)
    partial.replace(path)


@contextmanager
def running(folder: Path, sinks: str = "") -> Iterator[RunningStation]:
    """A station with a page over TLS that judges without a pause."""
    require("openssl")
    (folder / "page").mkdir()
    certificate(folder / "page")
    shutil.copy(folder / "page" / "cert.pem", folder / "old.pem")
    written(folder / "token", TOKEN + "\n")
    tables = TABLES.format(clip=write_clip(folder / "belt.avi"), events=folder / "events.jsonl")
    with RunningStation(folder, tables + sinks) as station:
        station.wait_judging()
        yield station


def reload(station: RunningStation, kind: str, found: Callable[[dict[str, object]], bool]) -> None:
    """Sends SIGHUP and waits for an event that came of it."""
    before = len(station.events(kind))
    station.signal(signal.SIGHUP)
    station.wait(
        lambda: any(found(event) for event in station.events(kind)[before:]), what="the reload"
    )


def told(station: RunningStation, *names: str) -> None:
    """Reloads until the audit trail names what changed."""
    reload(
        station,
        "audit",
        lambda event: all(f"content of {name}" in str(event["new"]) for name in names),
    )


def test_the_page_takes_a_new_token_and_certificate_and_refuses_the_old(tmp_path: Path) -> None:
    with running(tmp_path) as station:
        page = tmp_path / "page"
        old = Page(station, tmp_path / "old.pem", **bearer(TOKEN))
        session = {"Cookie": old.session(TOKEN)}
        assert old.status() == Page(station, tmp_path / "old.pem", **session).status() == 200
        stream = old.stream()
        assert stream.read(16)
        certificate(page)
        written(tmp_path / "token", NEW_TOKEN)
        told(station, "web.token_file", "web.tls.certificate", "web.tls.key")
        new = page / "cert.pem"
        assert Page(station, new, **bearer(NEW_TOKEN)).status() == 200
        assert Page(station, new, **bearer(TOKEN)).status() == 401
        assert Page(station, new, **session).status() == 401
        assert Page(station, tmp_path / "old.pem", **bearer(NEW_TOKEN)).status() == 0
        while stream.read(1 << 12):  # what was on its way; then it ends
            pass
        seen = len(station.events("inspection"))
        station.wait(lambda: len(station.events("inspection")) > seen + 5, what="verdicts")


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with receiving(write_certificates(tmp_path / "authority")) as receiver:
        yield receiver


def renewed(receiver: Receiver, certificates: Path) -> None:
    """Shows another certificate from now on."""
    assert isinstance(receiver.socket, ssl.SSLSocket)
    receiver.socket.context.load_cert_chain(
        certificates / "server.pem", certificates / "server.key"
    )


def test_broker_and_receiver_get_every_event_while_password_token_and_authority_change(
    tmp_path: Path, receiver: Receiver
) -> None:
    authority = tmp_path / "authority"
    broker = Broker(tmp_path / "broker", password=True, certificates=authority)
    sinks = SINKS.format(broker=broker.port, receiver=receiver.port, user=USER)
    shutil.copy(authority / "ca.pem", tmp_path / "ca.pem")
    written(tmp_path / "password", PASSWORD)
    with broker, ExitStack() as stack:
        with listening(broker.port, "differnet/#", authority, "ears") as before:
            station = stack.enter_context(running(tmp_path, sinks))
            station.wait(lambda: len(before.ids()) > 5, what="events at the broker")
        write_certificates(authority)
        renewed(receiver, authority)
        broker.renew(NEW_PASSWORD)
        connections = broker.log.count("as differnet-line")
        shutil.copy(authority / "ca.pem", tmp_path / "ca.pem")
        written(tmp_path / "password", NEW_PASSWORD)
        written(tmp_path / "token", NEW_TOKEN)
        told(station, "mqtt.password_file", "mqtt.tls.ca", "webhook.mes.token_file")
        station.wait(
            lambda: broker.log.count("as differnet-line") > connections, what="a new connection"
        )
        with listening(broker.port, "differnet/#", authority, "ears", NEW_PASSWORD) as after:
            station.wait(lambda: tokens(receiver)[-1] == NEW_TOKEN, what="the new token")
            judged = {event["id"] for event in station.events("inspection")}
            station.wait(lambda: judged <= before.ids() | after.ids(), what="all at the broker")
            station.wait(lambda: judged <= received(receiver), what="all at the receiver")
        assert TOKEN not in tokens(receiver)[tokens(receiver).index(NEW_TOKEN) :]
        assert {event["code"] for event in station.events("inspection")} <= {None, *SLOW}


def tokens(receiver: Receiver) -> list[str]:
    return [headers["Authorization"].split()[1] for headers, _ in list(receiver.received)]


def received(receiver: Receiver) -> set[str]:
    bodies = [body for _, body in list(receiver.received)]
    return {event["id"] for body in bodies if isinstance(body, list) for event in body}


BROKEN: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "missing": ("token", Path.unlink, "web.token_file: .*token: No such file"),
    "empty": ("token", lambda path: path.write_text("\n"), "token: its first line is empty"),
    "short": ("token", lambda path: path.write_text("short"), "can be guessed"),
    "open": ("token", lambda path: path.chmod(0o644), "token: every user .*chmod o-rwx"),
    "open key": ("page/key.pem", lambda path: path.chmod(0o644), "web.tls.key: .*chmod o-rwx"),
    "other key": ("page/key.pem", lambda path: path.write_text(other_key(path)), "is not the cert"),
    "no key": ("page/key.pem", lambda path: path.write_text("key"), "expected readable PEM"),
}


def other_key(path: Path) -> str:
    folder = path.parent / "other"
    folder.mkdir()
    found = certificate(folder).key
    assert found is not None
    return found.read_text()


def test_a_broken_file_changes_nothing_and_is_told(tmp_path: Path) -> None:
    with running(tmp_path) as station:
        page = Page(station, tmp_path / "old.pem", **bearer(TOKEN))
        for name, breaks, said in BROKEN.values():
            path = tmp_path / name
            kept = path.read_text()
            breaks(path)
            reload(station, "state", lambda event, said=said: matches(event["reason"], said))
            assert matches(station.events("audit")[-1]["error"], said)
            assert page.status() == 200
            path.unlink(missing_ok=True)
            path.write_text(kept)
            reload(station, "state", lambda event: event["state"] == "ok")
        assert page.status() == 200


def matches(text: object, pattern: str) -> bool:
    return isinstance(text, str) and re.search(pattern, text) is not None
