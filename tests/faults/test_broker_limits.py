"""Brokers that take less than others, or nothing: every event arrives, or the reason is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from differnet_runtime.events import FrameRef, InspectionEvent, ModelRef
from differnet_runtime.outbox import delivery as outbox_delivery
from differnet_runtime.outbox.delivery import Delivery
from differnet_runtime.sinks import build_sinks, mqtt, mqtt_client
from differnet_runtime.station.health import sink_state
from differnet_runtime.web.views import Health
from tests.broker import Broker, listening, write_certificates
from tests.faults.test_broker import add, delivering, mqtt_config, states
from tests.runtime.waiting import wait_for
from tests.scripted_broker import TOO_MANY, Rules, scripted

AFTER_S = 0.6
"""In the place of a minute."""


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt_client, "_RETRY_S", (0.1,))
    monkeypatch.setattr(mqtt_client, "_LONGEST_DELAY_S", 0.2)
    monkeypatch.setattr(mqtt, "_ANSWER_S", 0.3)
    monkeypatch.setattr(mqtt, "_STEADY_S", 0.3)
    monkeypatch.setattr(outbox_delivery, "_IDLE_S", 0.1)


def reasons(delivery: Delivery) -> str:
    """Returns what `/readyz` says of a sink."""
    return "".join(Health.of([sink_state(delivery.status, AFTER_S)]).reasons)


@pytest.mark.parametrize(("window", "qos"), [(1, 1), (10, 1), (10, 2), (65535, 1)])
def test_the_receive_maximum_is_kept_after_outages_too(
    window: int, qos: int, tmp_path: Path
) -> None:
    with scripted(Rules(window=window, delay_s=0.001)) as broker:
        sinks = build_sinks(mqtt_config(broker.port, qos=qos))
        with delivering(tmp_path, sinks) as (outbox, [delivery]):
            for outage in range(3):
                wait_for(lambda: delivery.sink.problem is None)
                add(outbox, 60, 60 * outage)
                wait_for(lambda outage=outage: len(broker.states) > 60 * outage)
                broker.stop()
                add(outbox, 60, 1000 + 60 * outage)  # while nobody takes them
                broker.start()
            wanted = {*range(180), *range(1000, 1180)}
            wait_for(lambda: {int(state) for state in broker.states} == wanted, 30)
            wait_for(lambda: outbox.status.pending == {"mqtt": 0})
            wait_for(lambda: reasons(delivery) == "")
    assert TOO_MANY not in broker.ended
    assert 1 <= broker.most <= min(window, 20)


def test_a_window_that_has_become_smaller_is_kept(tmp_path: Path) -> None:
    with (
        scripted(Rules(window=20)) as broker,
        delivering(tmp_path, build_sinks(mqtt_config(broker.port))) as (outbox, [delivery]),
    ):
        wait_for(lambda: delivery.sink.problem is None)
        broker.rules = Rules(acknowledges=False)
        add(outbox, 50)
        wait_for(lambda: broker.most > 10)
        broker.stop()
        broker.rules = Rules(window=2)
        broker.most = 0
        broker.start()
        wait_for(lambda: len(set(broker.states)) == 50)
        wait_for(lambda: outbox.status.pending == {"mqtt": 0})
    assert broker.ended == []
    assert broker.most <= 2


@pytest.mark.parametrize(
    ("rules", "asked", "taken", "said"),
    [
        (Rules(qos=0), {}, (0, True), "`qos = 0` in [mqtt] accepts that"),
        (Rules(qos=1), {"qos": 2}, (1, True), "QoS 1 at most"),
        (Rules(retain=False), {}, (1, False), "`retain = false` in [mqtt] accepts that"),
        (Rules(qos=0, retain=False), {}, (0, False), "keeps no retained messages"),
        (Rules(qos=0), {"qos": 0}, (0, True), ""),
        (Rules(retain=False), {"retain": False}, (1, False), ""),
        (Rules(qos=0), {"qos": 0, "protocol": "3.1.1"}, (0, True), ""),
        (Rules(retain=False), {"retain": False, "protocol": "3.1.1"}, (1, False), ""),
    ],
)
def test_a_broker_gets_what_it_takes_and_the_difference_is_told(
    rules: Rules,
    asked: dict[str, object],
    taken: tuple[int, bool],
    said: str,
    tmp_path: Path,
) -> None:
    with scripted(rules) as broker:
        sinks = build_sinks(mqtt_config(broker.port, **asked))
        with delivering(tmp_path, sinks) as (outbox, [delivery]):
            add(outbox, 30)
            wait_for(lambda: delivery.status.delivered == 30)
            told = reasons(delivery)
    assert (said in told) if said else told == ""
    assert broker.ended == []
    assert broker.wills[-1] == taken
    assert {(qos, retain) for *_, qos, retain in broker.messages} == {taken}
    assert [data for topic, data, *_ in broker.messages if topic.endswith("/status")] == [
        b"online",
        b"offline",
    ]


@pytest.mark.parametrize(
    ("rules", "asked", "said"),
    [
        (Rules(qos=0), {"protocol": "3.1.1"}, "last will's QoS or retain"),
        (Rules(packet=100), {"protocol": "3.1.1"}, "connection was lost"),
        (Rules(accepts=False), {"protocol": "3.1.1"}, "Bad user name or password"),
        (Rules(acknowledges=False), {}, "no acknowledgement for"),
    ],
)
def test_a_broker_that_takes_nothing_is_a_reason_until_it_does(
    rules: Rules, asked: dict[str, object], said: str, tmp_path: Path
) -> None:
    with scripted(rules) as broker:
        sinks = build_sinks(mqtt_config(broker.port, **asked))
        with delivering(tmp_path, sinks) as (outbox, [delivery]):
            add(outbox, 5)
            wait_for(lambda: said in reasons(delivery))
            assert outbox.status.pending == {"mqtt": 5}
            broker.rules = Rules()
            wait_for(lambda: outbox.status.pending == {"mqtt": 0})
            wait_for(lambda: reasons(delivery) == "")


def test_with_nothing_to_deliver_a_broker_out_of_reach_is_a_reason(tmp_path: Path) -> None:
    with delivering(tmp_path, build_sinks(mqtt_config(1))) as (_, [delivery]):
        wait_for(lambda: "sink:mqtt: down: localhost:1 can't be reached" in reasons(delivery))


def test_a_connection_that_never_lasts_is_a_reason(tmp_path: Path) -> None:
    """As of a broker that ends the connection of whoever has no right to a topic."""
    with scripted(Rules(packet=100)) as broker:
        config = mqtt_config(broker.port, protocol="3.1.1", qos=0)
        with delivering(tmp_path, build_sinks(config)) as (outbox, [delivery]):
            while "connection was lost" not in reasons(delivery):
                add(outbox, 1)


def large_event(note: int) -> InspectionEvent:
    return InspectionEvent(
        station="station",
        camera="top",
        verdict="DEFECT",
        reject=True,
        score=1.23456789,
        threshold=1.1,
        heads={"whole": 1.2, "fine": 1.0},
        note="x" * note,
        model=ModelRef(name="cell", hash="a" * 64),
        frame=FrameRef(name="f", index=1, captured_at_s=1.0, age_ms=2.0, width=64, height=48),
        stages_ms={"infer": 20.0},
    )


def test_too_large_events_are_shortened_or_passed_over_and_told(tmp_path: Path) -> None:
    whole, long = large_event(10), large_event(400)
    endless = large_event(10).model_copy(update={"part": "p" * 600})
    with (
        scripted(Rules(packet=700)) as broker,
        delivering(tmp_path, build_sinks(mqtt_config(broker.port))) as (outbox, [delivery]),
    ):
        for event in (whole, long):
            outbox.add(event)
        wait_for(lambda: delivery.status.delivered == 2)
        assert reasons(delivery) == ""
        outbox.add(endless)
        add(outbox, 1)
        wait_for(lambda: delivery.status.delivered == 3)
        assert "1 event was not delivered" in reasons(delivery)
        assert "700 fit" in reasons(delivery)
        assert delivery.status.undeliverable == 1
        delivery.sink.beat(["a" * 60] * 20)
        assert "no heartbeat" in reasons(delivery)
    got = [data for topic, data, *_ in broker.messages if "/inspection/" in topic]
    assert [InspectionEvent.model_validate_json(data).id for data in got] == [whole.id, long.id]
    assert InspectionEvent.model_validate_json(got[1]).note is None
    assert broker.ended == []


def test_no_command_is_asked_for_where_none_is_wanted(tmp_path: Path) -> None:
    with scripted(Rules()) as broker:
        for commands in (True, False):
            config = mqtt_config(broker.port, commands=commands)
            [sink] = build_sinks(config, lambda *_: None)
            sink.open()
            wait_for(lambda sink=sink: sink.problem is None)
            sink.close()
    assert broker.subscriptions == ["differnet/station/command/+"]


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_certificate_that_has_expired_is_a_reason(tmp_path: Path) -> None:
    certificates = write_certificates(tmp_path / "certificates", days=-1)
    tls = {"ca": str(certificates / "ca.pem")}
    with scripted(Rules(), certificates) as broker:
        sinks = build_sinks(mqtt_config(broker.port, tls=tls))
        with delivering(tmp_path, sinks) as (outbox, [delivery]):
            add(outbox, 1)
            wait_for(lambda: "certificate has expired" in reasons(delivery))


@pytest.mark.parametrize(
    ("lines", "asked", "said"),
    [
        ("max_inflight_messages 1", {}, ""),
        ("max_inflight_messages 10", {"qos": 2}, ""),
        ("max_qos 0", {}, "QoS 0 at most"),
        ("retain_available false", {}, "no retained messages"),
        ("max_packet_size 700", {}, ""),
        ("max_qos 0\nretain_available false", {"protocol": "3.1.1"}, "last will's QoS or retain"),
    ],
)
def test_mosquitto_with_the_same_limits(
    lines: str, asked: dict[str, object], said: str, tmp_path: Path
) -> None:
    broker = Broker(tmp_path / "broker", extra=lines)
    seen: set[str] = set()
    with delivering(tmp_path, build_sinks(mqtt_config(broker.port, **asked))) as (outbox, [one]):
        add(outbox, 100)  # before there is a broker
        for turn in (1, 2):
            with broker, listening(broker.port) as listener:
                if asked.get("protocol") == "3.1.1":
                    wait_for(lambda: said in reasons(one))
                    return
                add(outbox, 100, 100 * turn)
                outbox.add(large_event(400))
                wait_for(lambda turn=turn: one.status.delivered >= 100 * (turn + 1) + turn)
                wait_for(lambda: said in reasons(one) if said else reasons(one) == "")
                count = 100 * (turn + 1) - len(seen)
                wait_for(lambda: len(states(listener.messages)) >= count)  # noqa: B023
                seen |= set(states(listener.messages).values())
    assert seen == {str(number) for number in range(300)}
