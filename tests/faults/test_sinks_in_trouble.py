"""Sinks that take nothing: what `/readyz` says, and that the others go on."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from differnet_runtime.config import JsonLinesConfig, WebhookConfig
from differnet_runtime.sinks import Sink
from differnet_runtime.sinks.jsonl import JsonLinesSink
from differnet_runtime.sinks.webhook import WebhookSink
from tests.broker import write_certificates
from tests.fakes.running import RunningStation
from tests.faults.test_broker import add, delivering
from tests.faults.test_broker_limits import reasons, short_waits
from tests.faults.test_station import write_clip
from tests.runtime.sinks.test_webhook import receiving
from tests.runtime.waiting import wait_for
from tests.servers import free_port

__all__ = ["short_waits"]


def webhook(url: str, **values: object) -> Sink:
    return WebhookSink("mes", WebhookConfig.model_validate({"url": url, **values}))


def told(folder: Path, sink: Sink, said: str) -> None:
    """Waits until a sink with one event has a reason."""
    with delivering(folder, [sink]) as (outbox, [delivery]):
        assert reasons(delivery) == ""
        add(outbox, 1)
        wait_for(lambda: said in reasons(delivery))
        assert outbox.status.pending == {sink.name: 1}


def test_a_receiver_that_refuses(tmp_path: Path) -> None:
    with receiving() as receiver:
        receiver.status = 403
        url = f"http://127.0.0.1:{receiver.port}/"
        told(tmp_path, webhook(url), "sink:webhook:mes: down: the receiver answered 403")


@pytest.mark.parametrize(
    ("timeout_s", "said"), [(0.2, "took too long"), (600.0, "confirmed no event for more than")]
)
def test_a_receiver_that_never_answers(timeout_s: float, said: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        accepted: list[socket.socket] = []
        threading.Thread(target=_hold, args=(server, accepted), daemon=True).start()
        told(tmp_path, webhook(url, timeout_s=timeout_s), said)
    for connection in accepted:
        connection.close()


def _hold(server: socket.socket, accepted: list[socket.socket]) -> None:
    try:
        while True:
            accepted.append(server.accept()[0])
    except OSError:
        return


def test_a_receiver_with_an_expired_certificate(tmp_path: Path) -> None:
    certificates = write_certificates(tmp_path / "certificates", days=-1)
    with receiving(certificates) as receiver:
        url, tls = f"https://localhost:{receiver.port}/", {"ca": str(certificates / "ca.pem")}
        told(tmp_path, webhook(url, tls=tls), "certificate has expired")


def test_a_file_that_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    config = JsonLinesConfig(path=tmp_path / "file" / "events.jsonl")
    told(tmp_path, JsonLinesSink(config), "sink:jsonl: down: ")


def test_a_station_says_it_in_readyz_and_as_an_event_and_goes_on(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "belt.avi")
    tables = (
        f'[camera.top]\nsource = "{clip}"\npaced = true\n'
        "[events]\ndegraded_after_s = 0.5\n"
        f'[mqtt]\nhost = "127.0.0.1"\nport = {free_port()}\n'
        f'[webhook.mes]\nurl = "http://127.0.0.1:{free_port()}/"\n'
    )
    with RunningStation(tmp_path, tables) as station:
        station.wait(lambda: station.says("sink:mqtt: down: "), what="the broker")
        station.wait(lambda: station.says("sink:webhook:mes: down: "), what="the receiver")
        station.wait(station.ready, what="verdicts go on")
        assert station.degraded()
        assert not station.says("sink:jsonl")
        station.wait(lambda: downs(station) >= {"sink:mqtt", "sink:webhook:mes"}, what="events")


def downs(station: RunningStation) -> set[str]:
    return {event["component"] for event in station.events("state") if event["state"] == "down"}
