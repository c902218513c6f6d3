"""Nonsense as commands, and nonsense from a broker: a named error each, and the next one counts."""

import json
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from differnet_runtime.config import MqttConfig
from differnet_runtime.errors import CameraError, SinkError
from differnet_runtime.sinks import Stored
from differnet_runtime.sinks.mqtt import MqttSink
from tests.broker import Broker, client_of
from tests.runtime.waiting import wait_for

MESSAGES = 2000


def payload(chance: random.Random) -> bytes:
    """Returns something that is no command; sound ones are mutated, or thrown away."""
    sound = json.dumps({"part": "A-4711"}).encode()
    kind = chance.randrange(6)
    if kind == 0:
        return chance.randbytes(chance.randrange(1, 300)) + b"\xff"
    if kind == 1:
        return sound[: chance.randrange(1, len(sound))]
    if kind == 2:
        return json.dumps({"part": chance.choice([7, [], {}, "x" * 300, "\x00", True])}).encode()
    if kind == 3:
        return json.dumps({"part": "A", chance.choice(["", "camera", "part "]): 1}).encode()
    if kind == 4:
        return b"[" * chance.randrange(1, 3000)
    return sound + bytes([chance.randrange(33, 127)])


def test_two_thousand_malformed_commands_are_counted_and_the_next_is_taken(tmp_path: Path) -> None:
    chance, taken, refused = random.Random(3), [], []

    def on_command(camera: str, part: str | None) -> None:
        if camera != "top":
            refused.append(camera)
            raise CameraError(f"there is no camera {camera!r}")
        taken.append(part)

    with Broker(tmp_path / "broker") as broker, client_of(broker.port) as client:
        config = MqttConfig(host="127.0.0.1", port=broker.port)
        sink = MqttSink(config, "line", on_command)
        sink.open()
        try:
            wait_for(lambda: sink.problem is None)
            for number in range(MESSAGES):
                camera = chance.choice(["top", "top", "n%40body", "ä"])
                client.publish(f"differnet/line/command/{camera}", payload(chance), 1)
                if number % 100 == 0:
                    client.publish("differnet/line/command/top", b'{"part": "%d"}' % number, 1)
            wait_for(lambda: len(taken) == MESSAGES // 100, within_s=60.0)
            wait_for(lambda: sink.bad_commands == MESSAGES, within_s=60.0)
            assert taken == [str(number) for number in range(0, MESSAGES, 100)]
            assert not refused, "what can't be read is refused before anybody is asked"
            assert sink.problem is None
        finally:
            sink.close()


@pytest.fixture
def babbler() -> Iterator[tuple[int, list[bytes]]]:
    """A port that answers whatever comes with random bytes."""
    chance, server = random.Random(4), socket.create_server(("127.0.0.1", 0))
    stopping, heard = threading.Event(), list[bytes]()

    def babble() -> None:
        while not stopping.is_set():
            try:
                client, _ = server.accept()
            except OSError:
                return
            with client:
                client.settimeout(1.0)
                try:
                    heard.append(client.recv(1000))
                    client.sendall(chance.randbytes(400))
                except OSError:
                    continue

    thread = threading.Thread(target=babble)
    thread.start()
    yield server.getsockname()[1], heard
    stopping.set()
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join(5.0)


def test_nonsense_from_a_broker_is_a_named_problem(babbler: tuple[int, list[bytes]]) -> None:
    port, heard = babbler
    sink = MqttSink(MqttConfig(host="127.0.0.1", port=port), "line")
    sink.open()
    try:
        wait_for(lambda: len(heard) >= 3, within_s=30.0)  # it keeps trying
        with pytest.raises(SinkError, match=r"\w"):
            sink.deliver([Stored(1, "a" * 32, '{"type": "state", "component": "engine"}')])
        assert sink.problem
    finally:
        sink.close()
