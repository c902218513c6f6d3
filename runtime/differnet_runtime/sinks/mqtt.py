"""Events to a broker (MQTT 3.1.1 and 5), and commands and a heartbeat beside them."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence

from paho.mqtt.client import Client, MQTTMessage, MQTTMessageInfo
from paho.mqtt.reasoncodes import ReasonCode

from ..config import MqttConfig
from ..errors import DifferNetError, SinkError
from .base import OnCommand, Sink, Stored
from .commands import read_command
from .mqtt_client import ClientMaker
from .topics import Topics

_ANSWER_S = 10.0
"""Without any answer for so long, a connection is given up and a new one made."""
_LOOK_S = 0.1
_FAREWELL_S = 0.5
_LOG_EVERY = 1000

log = logging.getLogger(__name__)


class MqttSink(Sink):
    """A connection that is made again for ever.

    Nothing waits in the client: a delivery that fails gives its client up, with all that it may
    still hold, and the outbox sends again. So neither memory nor order depends on the broker.

    Args:
        config: Of the broker.
        station: Name; two stations of one name below one prefix throw each other out.
        on_command: Gets camera and part of a command.

    Raises:
        ConfigError: The password or a certificate can't be read.
    """

    def __init__(
        self, config: MqttConfig, station: str, on_command: OnCommand | None = None
    ) -> None:
        super().__init__("mqtt")
        self._qos, self._station, self._on_command = config.qos, station, on_command
        self.topics = Topics(f"{config.prefix}/{station}")
        self._bad: Counter[str] = Counter()
        self._make = ClientMaker(config, station, self.topics)
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._connected = self._closed = False
        self._problem = "not connected yet"
        self._refused: str | None = None

    @property
    def problem(self) -> str | None:
        """See `Sink.problem`."""
        return None if self._connected else self._problem

    @property
    def bad_commands(self) -> int:
        """Commands that could not be read, or were refused."""
        return sum(self._bad.values())

    def open(self) -> None:
        """Begins to connect; see `Sink.open`."""
        with self._lock:
            if self._closed or self._client is not None:
                return
            client = self._make()
            client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
            client.on_connect_fail = self._on_connect_fail
            client.on_publish, client.on_message = self._on_publish, self._on_message
            self._client = client
        client.loop_start()

    def deliver(self, events: Sequence[Stored]) -> None:
        """Publishes events and waits for the broker's word; see `Sink.deliver`."""
        client = self._client
        if client is None or not self._connected:
            raise SinkError(self._problem)
        self._refused = None
        try:
            sent: deque[MQTTMessageInfo] = deque()
            for event in events:
                topic, retain = self.topics.of_event(event)
                sent.append(client.publish(topic, event.text, self._qos, retain))
            self._wait(sent)
        except (SinkError, ValueError, RuntimeError) as error:
            self._give_up(client, str(error))
            raise SinkError(f"the broker did not take the events: {error}") from error
        if self._refused is not None:
            raise SinkError(f"the broker refused an event: {self._refused}; look at its rights")

    def _wait(self, sent: deque[MQTTMessageInfo]) -> None:
        answered_s = time.monotonic()
        while sent:
            sent[0].wait_for_publish(_LOOK_S)
            if sent[0].is_published():
                sent.popleft()
                answered_s = time.monotonic()
            elif self._closed:
                raise SinkError("the station stops")
            elif not self._connected:
                raise SinkError(self._problem)
            elif time.monotonic() - answered_s > _ANSWER_S:
                raise SinkError(f"no answer for {_ANSWER_S:g} s")

    def beat(self, cameras: Sequence[str] = ()) -> None:
        """Sends a heartbeat; see `Sink.beat`."""
        client = self._client
        if client is not None and self._connected:
            beat = {"station": self._station, "at_s": time.time(), "cameras": list(cameras)}
            client.publish(self.topics.heartbeat, json.dumps(beat), 0)

    def close(self) -> None:
        """Says goodbye, so that the last will is not sent; see `Sink.close`."""
        self._closed = True
        client = self._client
        if client is not None:
            if self._connected:
                client.publish(self.topics.status, "offline", 0, retain=True)
            self._give_up(client, "closed").join(_FAREWELL_S)

    def _give_up(self, client: Client, why: str) -> threading.Thread:
        """Ends a client, in a thread: a broker that does not answer may hold it up."""
        with self._lock:
            if self._client is client:
                self._client, self._connected, self._problem = None, False, why
        client.disconnect()
        ending = threading.Thread(target=client.loop_stop, name="mqtt-end", daemon=True)
        ending.start()
        self.open()
        return ending

    def _on_connect(
        self, client: Client, _user: object, _flags: object, reason: ReasonCode, _properties: object
    ) -> None:
        if client is not self._client:
            return
        if reason.is_failure:
            self._problem = f"the broker refused the connection: {reason}"
            log.warning("sink mqtt: %s", self._problem)
            return
        if self._on_command is not None:
            client.subscribe(self.topics.commands, 0)
        # After it: who reads "online" may command.
        client.publish(self.topics.status, "online", 0, retain=True)
        self._connected = True
        log.info("sink mqtt: connected")

    def _on_disconnect(
        self, client: Client, _user: object, _flags: object, reason: ReasonCode, _properties: object
    ) -> None:
        if client is self._client and self._connected:
            self._connected, self._problem = False, f"the connection was lost: {reason}"
            log.warning("sink mqtt: %s", self._problem)

    def _on_connect_fail(self, client: Client, _user: object) -> None:
        if client is self._client:
            self._problem = f"{self._make.address} can't be reached"

    def _on_publish(
        self, client: Client, _user: object, _id: int, reason: ReasonCode, _properties: object
    ) -> None:
        if client is self._client and reason.is_failure:
            self._refused = str(reason)

    def _on_message(self, client: Client, _user: object, message: MQTTMessage) -> None:
        # A broker repeats a retained command at each connection; the part is long gone.
        if message.retain or self._on_command is None or client is not self._client:
            return
        try:
            part = read_command(bytes(message.payload))
            self._on_command(self.topics.command_camera(message.topic), part)
        except DifferNetError as error:
            kind = type(error).__name__  # not by its text, which the sender has a hand in
            self._bad[kind] += 1
            if self._bad[kind] % _LOG_EVERY == 1:
                log.warning("sink mqtt: bad command %d: %s", self.bad_commands, error)
        except Exception:  # a bug at the receiving end must not end the connection
            log.exception("sink mqtt: a command")
