"""A broker that is away, stands still, or comes back: every committed event is delivered."""

import gc
import json
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from differnet_runtime.config import Config, EventsConfig
from differnet_runtime.events import StateEvent
from differnet_runtime.outbox.delivery import Delivery
from differnet_runtime.outbox.outbox import Outbox
from differnet_runtime.sinks import Sink, build_sinks
from tests.broker import PASSWORD, USER, Broker, listening, write_certificates
from tests.runtime.waiting import wait_for

DRIVER = Path(__file__).with_name("outbox_driver.py")


class Driver:
    """The process that is killed."""

    def __init__(self, folder: Path, port: int, rate: int, count: int) -> None:
        self.committed = 0
        self.process = subprocess.Popen(
            [sys.executable, DRIVER, *(str(value) for value in (folder, port, rate, count))],
            stdout=subprocess.PIPE,
            text=True,
        )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if found := re.fullmatch(r"COMMITTED (\d+)\n", line):
                self.committed = int(found[1])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._thread.join()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def resident_kib(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+)", status)
        assert found is not None
        return int(found[1])


@contextmanager
def running(folder: Path, port: int, rate: int, count: int) -> Iterator[Driver]:
    driver = Driver(folder, port, rate, count)
    try:
        yield driver
    finally:
        driver.kill()


def states(messages: list[tuple[str, bytes, bool]]) -> dict[str, str]:
    """By id, what the delivered events said."""
    events = [json.loads(data) for topic, data, _ in messages if "/state/" in topic]
    return {event["id"]: event["state"] for event in events}


@pytest.mark.parametrize(
    ("events", "rate", "report"),
    [
        pytest.param(600, 300, None, id="short"),
        pytest.param(600, 10, None, id="a-minute", marks=pytest.mark.slow),
        pytest.param(
            6000,
            10,
            "soak_broker",
            id="ten-minutes",
            marks=[pytest.mark.slow, pytest.mark.timeout(900)],
        ),
    ],
)
def test_nothing_committed_is_lost_by_an_outage_and_a_kill(
    events: int, rate: int, report: str | None, tmp_path: Path
) -> None:
    broker = Broker(tmp_path / "broker")
    with running(tmp_path, broker.port, rate, events) as driver:
        wait_for(lambda: driver.committed > 0, 30)
        early_kib, start = driver.resident_kib(), time.monotonic()
        wait_for(lambda: driver.committed == events, events / rate + 30)
        grown_kib, outage_s = driver.resident_kib() - early_kib, time.monotonic() - start
    with (
        broker,
        listening(broker.port) as listener,
        running(tmp_path, broker.port, 1, 0),
    ):
        start = time.monotonic()
        wait_for(lambda: len(states(listener.messages)) >= events, 60)
        delivered_s = time.monotonic() - start
        time.sleep(0.5)  # for what comes twice
        delivered = states(listener.messages)
    if report is not None:
        from benchmarks.machine import write

        result = {
            "outage_s": round(outage_s, 1),
            "events_a_second": rate,
            "committed": events,
            "delivered": len(delivered),
            "duplicates": sum("/state/" in topic for topic, _, _ in listener.messages)
            - len(delivered),
            "delivered_within_s": round(delivered_s, 2),
            "memory_growth_kib": grown_kib,
        }
        write(report, result)
    assert sorted(delivered.values(), key=int) == [str(number) for number in range(events)]
    assert grown_kib < 5 * 1024


@pytest.mark.parametrize(
    "kills", [pytest.param(3, id="short"), pytest.param(60, id="full", marks=pytest.mark.slow)]
)
def test_kills_while_events_are_delivered_lose_none(kills: int, tmp_path: Path) -> None:
    chance = random.Random(7)
    sure = 0
    with Broker(tmp_path / "broker") as broker, listening(broker.port) as listener:
        for _ in range(kills):
            with running(tmp_path, broker.port, 400, 100_000) as driver:
                wait_for(lambda: driver.committed > 0, 30)
                time.sleep(chance.uniform(0.0, 0.6))
            sure += driver.committed
        with running(tmp_path, broker.port, 1, 0):
            wait_for(lambda: len(states(listener.messages)) >= sure, 30)
        # Each run counted from 0 without a gap: what was committed is a beginning of it.
        runs: list[int] = []
        for state in states(listener.messages).values():
            number = int(state)
            if number == 0:
                runs.append(0)
            assert number == runs[-1]
            runs[-1] += 1
        assert len(runs) == kills
        assert sum(runs) >= sure


def mqtt_config(port: int, **values: object) -> Config:
    mqtt = {"host": "localhost", "port": port, "keepalive_s": 2, **values}
    return Config.model_validate(
        {"model": {"backend": "fake"}, "camera": {"top": {"source": "0"}}, "mqtt": mqtt}
    )


@contextmanager
def delivering(folder: Path, sinks: list[Sink]) -> Iterator[tuple[Outbox, list[Delivery]]]:
    outbox = Outbox(folder / "outbox.sqlite", EventsConfig())
    outbox.use_sinks([sink.name for sink in sinks])
    outbox.start()
    deliveries = [Delivery(outbox, sink) for sink in sinks]
    for delivery in deliveries:
        delivery.start()
    try:
        yield outbox, deliveries
    finally:
        for delivery in deliveries:
            delivery.stop()
        outbox.stop()


def add(outbox: Outbox, count: int, first: int = 0) -> float:
    """Adds events; returns the longest that one took, in seconds."""
    longest = 0.0
    for number in range(first, first + count):
        start = time.perf_counter()
        outbox.add(StateEvent(station="station", component="station", state=f"{number}"))
        longest = max(longest, time.perf_counter() - start)
    return longest


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_password_and_tls(protocol: str, tmp_path: Path) -> None:
    certificates = write_certificates(tmp_path / "certificates")
    secret = tmp_path / "password"
    secret.write_text(PASSWORD + "\n")
    tls = {"ca": str(certificates / "ca.pem")}
    with Broker(tmp_path / "broker", password=True, certificates=certificates) as broker:
        config = mqtt_config(
            broker.port, protocol=protocol, username=USER, password_file=str(secret), tls=tls
        )
        with (
            listening(broker.port, certificates=certificates) as listener,
            delivering(tmp_path, build_sinks(config)) as (outbox, _),
        ):
            add(outbox, 300)
            wait_for(lambda: len(states(listener.messages)) == 300)
            wait_for(lambda: outbox.status.pending == {"mqtt": 0})


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("wrong", ["password", "authority"])
def test_what_a_broker_or_we_refuse_is_said_and_kept(
    wrong: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    certificates = write_certificates(tmp_path / "certificates")
    secret = tmp_path / "password"
    secret.write_text("wrong-" + PASSWORD if wrong == "password" else PASSWORD)
    other = write_certificates(tmp_path / "other")
    ca = (certificates if wrong == "password" else other) / "ca.pem"
    with Broker(tmp_path / "broker", password=True, certificates=certificates) as broker:
        config = mqtt_config(
            broker.port, username=USER, password_file=str(secret), tls={"ca": str(ca)}
        )
        said = "refused the connection" if wrong == "password" else "can't be reached"
        with delivering(tmp_path, build_sinks(config)) as (outbox, [delivery]):
            add(outbox, 5)
            wait_for(lambda: said in (delivery.status.problem or ""))
            wait_for(lambda: outbox.status.pending == {"mqtt": 5})
            assert delivery.status.problem is not None
    assert PASSWORD not in caplog.text
    wait_for(lambda: not any("paho" in thread.name for thread in threading.enumerate()))
    gc.collect()


def test_a_broker_that_stands_still_holds_nobody_up(tmp_path: Path) -> None:
    with Broker(tmp_path / "broker") as broker:
        with delivering(tmp_path, build_sinks(mqtt_config(broker.port))) as (outbox, [delivery]):
            wait_for(lambda: delivery.status.problem is None)
            broker.pause()
            longest = 0.0
            for second in range(4):  # past the keepalive, too
                longest = max(longest, add(outbox, 500, 500 * second))
                wait_for(lambda: outbox.status.waiting_in_memory == 0)
                time.sleep(1.0)
            assert longest < 0.25, "it waited for the broker"
            wait_for(lambda: delivery.status.problem is not None)
            assert outbox.status.pending["mqtt"] == 2000
            broker.resume()
            with listening(broker.port) as listener:
                wait_for(lambda: outbox.status.pending.get("mqtt") == 0, 30)
                wait_for(lambda: f"{1999}" in states(listener.messages).values())
            start = time.monotonic()
            broker.pause()
            add(outbox, 10)
        assert time.monotonic() - start < 5.0


def test_a_broker_that_comes_and_goes(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "broker")
    with delivering(tmp_path, build_sinks(mqtt_config(broker.port))) as (outbox, _):
        seen: dict[str, str] = {}
        for turn in range(2):
            with broker, listening(broker.port) as listener:
                add(outbox, 100, 100 * turn)
                wait_for(lambda: outbox.status.pending.get("mqtt") == 0, 30)
                wait_for(lambda: len({**seen, **states(listener.messages)}) == len(seen) + 100)
                seen.update(states(listener.messages))
    assert len(seen) == 200
