"""MQTT over a real broker: topics, the last will, the heartbeat, commands."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from differnet_runtime.config import Config, MqttConfig
from differnet_runtime.errors import CameraError, SinkError
from differnet_runtime.events import AlarmEvent, InspectionEvent, StateEvent
from differnet_runtime.sinks import OnCommand, Stored, build_sinks
from differnet_runtime.sinks.mqtt import CommandError, MqttSink, read_command
from tests.broker import Broker, client_of, listening
from tests.runtime.waiting import wait_for


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


@contextmanager
def connected(
    broker: Broker, station: str, on_command: OnCommand | None = None, **values: object
) -> Iterator[MqttSink]:
    config = MqttConfig.model_validate({"host": "127.0.0.1", "port": broker.port, **values})
    sink = MqttSink(config, station, on_command)
    sink.open()
    try:
        wait_for(lambda: sink.problem is None)
        yield sink
    finally:
        sink.close()


EVENTS = (
    InspectionEvent(station="s", camera="top", verdict="DEFECT", reject=True),
    AlarmEvent(station="s", camera="top", rejects=1, undecided=0, frames=1),
    StateEvent(station="s", component="camera:top", state="stalled"),
    StateEvent(station="s", component="a+b#c", state="ok"),
)
STORED = [
    Stored(row, event.id, event.model_dump_json()) for row, event in enumerate(EVENTS, start=1)
]


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_every_event_has_its_topic(broker: Broker, protocol: str, qos: int) -> None:
    name = f"s{qos}{protocol[0]}"
    with (
        listening(broker.port, f"differnet/{name}/#") as listener,
        connected(broker, name, protocol=protocol, qos=qos) as sink,
    ):
        sink.deliver(STORED)
        topics = ("inspection/top", "alarm/top", "state/camera:top", "state/a_b_c")
        for topic, stored in zip(topics, STORED, strict=True):
            full = f"differnet/{name}/{topic}"
            wait_for(lambda full=full: listener.last(full) is not None)
            assert listener.last(full) == stored.text.encode()
    with listening(broker.port, f"differnet/{name}/#") as late:
        wait_for(lambda: len(late.messages) == 3)
    assert all(retained for _, _, retained in late.messages)
    assert {topic.removeprefix(f"differnet/{name}/") for topic in late.topics()} == {
        "state/camera:top",
        "state/a_b_c",
        "status",
    }


def test_status_says_online_and_offline(broker: Broker) -> None:
    topic = "plant/hall-2/line3/status"
    with listening(broker.port, topic) as listener:
        with connected(broker, "line3", prefix="plant/hall-2"):
            wait_for(lambda: listener.last(topic) == b"online")
        wait_for(lambda: listener.last(topic) == b"offline")
        with connected(broker, "line3", prefix="plant/hall-2"):
            wait_for(lambda: listener.last(topic) == b"online")
            with client_of(broker.port, "plant-hall-2-line3"):  # takes its place at the broker
                wait_for(lambda: b"offline" in [data for _, data, _ in listener.messages[3:]])
            wait_for(lambda: listener.last(topic) == b"online")  # it came back


def test_the_log_says_in_words_how_it_is_connected(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"), connected(broker, "worded", qos=1, retain=False):
        wait_for(lambda: "sink mqtt: connected" in caplog.text)
    assert "with QoS up to 1, no retained messages, and at most 20 unacknow" in caplog.text


def test_the_heartbeat_is_sent_when_it_is_asked_for(broker: Broker) -> None:
    with (
        listening(broker.port, "differnet/beating/heartbeat") as listener,
        connected(broker, "beating") as sink,
    ):
        sink.beat(["top", "side"])
        sink.beat()
        wait_for(lambda: len(listener.messages) == 2)
    first = json.loads(listener.messages[0][1])
    assert first["station"] == "beating"
    assert first["cameras"] == ["top", "side"]


def test_commands_reach_their_camera_and_bad_ones_are_counted(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    received: list[tuple[str, str | None]] = []

    def on_command(camera: str, part: str | None) -> None:
        if camera == "nowhere":
            raise CameraError("no such camera")
        if camera == "bug":
            raise ZeroDivisionError
        received.append((camera, part))

    with client_of(broker.port) as client:
        client.publish("differnet/told/command/top", '{"part": "old"}', 1, retain=True)
        with connected(broker, "told", on_command) as sink:
            wait_for(lambda: bool(client.publish("differnet/told/command/top", "", 0)) and received)
            received.clear()
            for camera, payload in (
                ("top", b'{"part": "p-1"}'),
                ("nowhere", b'{"part": "p-2"}'),
                ("bug", b"{}"),
                ("top", b"\xff\xfe"),
                ("top", b'{"part": 7}'),
                ("top", b'{"camera": "x"}'),
                ("top", b"[" * 100_000),
                ("side", b'{"part": null}'),
            ):
                client.publish(f"differnet/told/command/{camera}", payload, 1)
            wait_for(lambda: ("side", None) in received)
            assert [entry for entry in received if entry != ("top", None)] == [
                ("top", "p-1"),
                ("side", None),
            ]
            assert sink.bad_commands == 5
            assert sink.problem is None
        # The first refusal and the first that can't be read, whichever came before.
        logged = [r.getMessage() for r in caplog.records if "bad command" in r.getMessage()]
        assert len(logged) == 2
        assert "no such camera" in logged[0]
        client.publish("differnet/told/command/top", "", 1, retain=True).wait_for_publish(5)


@pytest.mark.parametrize(
    "payload",
    [b"{", b"7", b"[]", b'{"part": ""}x', b'{"part": "a\\nb"}', b'{"part": "' + b"x" * 300 + b'"}'],
)
def test_a_bad_command_is_a_named_error(payload: bytes) -> None:
    with pytest.raises(CommandError, match=r"received|expected"):
        read_command(payload)


def test_without_a_broker_it_says_so(tmp_path: Path) -> None:
    config = {"model": {"backend": "fake"}, "camera": {"top": {"source": "0"}}}
    config["mqtt"] = {"host": "127.0.0.1", "port": 1}
    [sink] = build_sinks(Config.model_validate(config))
    with pytest.raises(SinkError, match="not connected yet"):
        sink.deliver(STORED)
    sink.open()
    wait_for(lambda: "127.0.0.1:1 can't be reached" in str(sink.problem))
    sink.beat()
    sink.close()
    sink.close()


def test_a_refused_event_is_a_failure(tmp_path: Path) -> None:
    rights = tmp_path / "rights"
    rights.write_text("topic readwrite differnet/guest/status\ntopic read #\n")
    rights.chmod(0o644)
    with (
        Broker(tmp_path / "broker", extra=f"acl_file {rights}") as broker,
        connected(broker, "guest") as sink,
        pytest.raises(SinkError, match="refused"),
    ):
        sink.deliver(STORED[:1])
