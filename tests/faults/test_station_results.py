"""A full disk, a broker that stands still, commands from a broker: the station judges on."""

import json
import statistics
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks import machine
from tests.broker import Broker, client_of, listening
from tests.fakes.disk import full_disk, own_disk
from tests.fakes.running import RunningStation
from tests.faults.test_station import write_clip
from tests.runtime.waiting import wait_for


def test_on_a_full_disk_inspection_goes_on_and_all_events_come_later(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "belt.avi")
    tables = (
        f'[camera.top]\nsource = "{clip}"\npaced = true\n'
        "[evidence]\nkeep = 'all'\nmax_bytes = 4000000\nmin_free_bytes = 0\n"
    )
    command = own_disk(tmp_path / "state")
    with RunningStation(tmp_path, tables, command=command) as station:
        station.wait(station.ready, what="ready")
        with full_disk(station):
            # Not "degraded": the evidence may be that before the outbox has used up its own room.
            station.wait(lambda: station.says("outbox: "), what="the outbox's reason")
            assert station.ready(), "it still judges"
            before = station.camera("top")["verdicts"]["GOOD"]
            station.wait(
                lambda: _good(station) > before + 10, within_s=10.0, what="verdicts on a full disk"
            )
        station.wait(lambda: station.degraded() is False, what="well again")
        judged = sum(station.camera("top")["verdicts"].values())
        station.wait(lambda: len(station.events("inspection")) >= judged, what="all events")
        assert station.get("/api/overview")[1]["outbox"]["dropped"] == 0
        assert station.stop() < 5.0


def test_a_command_over_mqtt_gets_its_verdict_and_nonsense_none(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "belt.avi")
    with (
        Broker(tmp_path / "broker") as broker,
        listening(broker.port, "differnet/line/#") as listener,
        client_of(broker.port) as client,
    ):
        tables = (
            f'[camera.top]\nsource = "{clip}"\npaced = true\ntrigger = "command"\n'
            f'[camera.side]\nsource = "{clip}"\npaced = true\ninterval_ms = 1000\n'
            f'[mqtt]\nhost = "127.0.0.1"\nport = {broker.port}\n'
        )
        with RunningStation(tmp_path, tables) as station:
            station.wait(lambda: listener.last("differnet/line/status") == b"online", what="online")
            station.wait(station.ready, what="ready")
            client.publish("differnet/line/command/top", b"\xff{nonsense", 1)
            client.publish("differnet/line/command/nobody", b'{"part": "B-1"}', 1)
            client.publish("differnet/line/command/top", b'{"part": "A-4711"}', 1)
            client.publish("differnet/line/command/side", b'{"part": "C-1"}', 1)
            topic = "differnet/line/inspection/top"
            station.wait(lambda: listener.last(topic) is not None, what="the verdict")
            event = json.loads(listener.last(topic) or b"")
            assert (event["part"], event["trigger"]) == ("A-4711", "mqtt")
            assert event["verdict"] == "GOOD"

            def beating() -> set[str]:
                beat = json.loads(listener.last("differnet/line/heartbeat") or b"{}")
                return set(beat.get("cameras", ()))

            station.wait(lambda: beating() == {"top", "side"}, what="a heartbeat of both")

            def commanded() -> list[dict[str, Any]]:
                sides = [d for t, d, _ in list(listener.messages) if t.endswith("tion/side")]
                return [event for event in map(json.loads, sides) if event["part"] == "C-1"]

            station.wait(commanded, what="an answer: somebody waits for it")
            assert [event["code"] for event in commanded()] == ["refused"]
            assert station.stop() < 5.0
        wait_for(lambda: listener.last("differnet/line/status") == b"offline")
        assert len([t for t, _, _ in listener.messages if t == topic]) == 1


@pytest.mark.slow
def test_what_a_stopped_broker_costs(tmp_path: Path) -> None:
    """Verdicts a second of an engine that takes all it gets, broker well and stopped in turn."""
    clip = write_clip(tmp_path / "belt.avi")
    with Broker(tmp_path / "broker") as broker:
        tables = "".join(
            f'[camera.{name}]\nsource = "{clip}"\npaced = true\n' for name in ("top", "side")
        )
        tables += f'[mqtt]\nhost = "127.0.0.1"\nport = {broker.port}\n[evidence]\nkeep = "none"\n'
        with RunningStation(tmp_path, tables, model='backend = "fake:25ms"') as station:
            station.wait(station.ready, what="ready")
            time.sleep(10.0)
            rates: dict[str, list[float]] = {"well": [], "stopped": []}
            for _ in range(5):
                rates["well"].append(_rate(station))
                broker.pause()
                rates["stopped"].append(_rate(station))
                broker.resume()
                time.sleep(5.0)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    cost = 1.0 - medians["stopped"] / medians["well"]
    machine.write("soak_broker_cost", {"verdicts_per_s": rates, "medians": medians, "cost": cost})
    assert cost < 0.02


def _good(station: RunningStation) -> int:
    good: int = station.camera("top").get("verdicts", {}).get("GOOD", 0)
    return good


def _rate(station: RunningStation, seconds: float = 20.0) -> float:
    begun, before = time.monotonic(), _answers(station)
    time.sleep(seconds)
    return (_answers(station) - before) / (time.monotonic() - begun)


def _answers(station: RunningStation) -> int:
    overview: dict[str, Any] = station.get("/api/overview")[1]
    answers: int = overview["engine"]["answers"]
    return answers
