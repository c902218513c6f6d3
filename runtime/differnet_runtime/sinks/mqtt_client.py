"""The MQTT connection: topics, the broker's limits, paho clients, and messages in flight."""

from __future__ import annotations

import json
import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from paho.mqtt.client import MQTT_CLEAN_START_FIRST_ONLY, Client, MQTTMessageInfo
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from ..backoff import Backoff
from ..config import MqttConfig
from ..config.paths import read_secret
from ..errors import SinkError
from ..sentences import sentence
from .base import Stored, Took
from .tls import client_context

_PLACES = {"state": "component", "audit": "action"}
"""The event field that ends its topic, by the event's type; `camera` for all other types."""


class Topics:
    """The topics of a station.

    Args:
        root: `PREFIX/STATION`.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self.status = f"{root}/status"
        """Retained: `online`, or `offline` by the last will."""
        self.heartbeat = f"{root}/heartbeat"
        """Never retained; heartbeats stop when inspection does."""
        self.commands = f"{root}/command/+"
        """A pattern; the last level of a topic is the camera."""

    def of_event(self, event: Stored) -> tuple[str, bool]:
        """Returns an event's topic, and whether the broker is to retain it.

        Raises:
            SinkError: The row of the outbox is not an event.
        """
        try:
            content = json.loads(event.text)
            kind = content["type"]
            place = content[_PLACES.get(kind, "camera")]
        except (ValueError, KeyError, TypeError) as error:
            raise SinkError(f"row {event.row} of the outbox is no event: {error!r}") from error
        plain = re.sub(r"[#+\0]", "_", f"{kind}/{place}")
        return f"{self._root}/{plain}", kind == "state"


_WINDOW = 20
"""Most messages in flight, if the broker allows as many; MQTT 3.1.1 brokers can't say."""
_QOS_NOT_SUPPORTED, _RETAIN_NOT_SUPPORTED = 0x9B, 0x9A
_OPTIONAL = ("stages_ms", "heads", "decided_by", "note")
"""Event fields that are left out first if an event is too large."""


@dataclass(frozen=True)
class BrokerLimits:
    """What may be sent to a broker, as far as it says (MQTT 5).

    Args:
        qos: Highest QoS, 0..2.
        retain: Whether it retains messages.
        window: Most messages of QoS 1 and 2 in flight.
        packet: Size of the largest message in bytes, including header and topic; None for no limit.
    """

    qos: int
    retain: bool
    window: int = _WINDOW
    packet: int | None = None

    def __str__(self) -> str:
        retained = "retained messages" if self.retain else "no retained messages"
        size = "of any size" if self.packet is None else f"of up to {self.packet} bytes"
        return (
            f"QoS up to {self.qos}, {retained}, and at most {self.window} unacknowledged "
            f"messages {size}"
        )

    def told(self, properties: Properties | None) -> BrokerLimits:
        """Returns these limits, reduced to those in a broker's CONNACK properties."""

        def of(name: str, default: int) -> int:
            return int(getattr(properties, name, default))

        return BrokerLimits(
            qos=min(self.qos, of("MaximumQoS", 2)),
            retain=self.retain and bool(of("RetainAvailable", 1)),
            window=min(_WINDOW, max(1, of("ReceiveMaximum", _WINDOW))),
            packet=getattr(properties, "MaximumPacketSize", None),
        )

    def after_refusal(
        self, reason: ReasonCode, properties: Properties | None
    ) -> BrokerLimits | None:
        """Returns the limits to try after a refused last will; None for any other reason."""
        if reason.value == _QOS_NOT_SUPPORTED and self.qos > 0:
            allowed = int(getattr(properties, "MaximumQoS", self.qos - 1))
            return replace(self, qos=min(allowed, self.qos - 1))
        if reason.value == _RETAIN_NOT_SUPPORTED and self.retain:
            return replace(self, retain=False)
        return None

    def take(self, topic: str, size: int) -> bool:
        """Returns whether a message with a payload of `size` bytes is small enough."""
        return self.packet is None or packet_size(topic, size) <= self.packet


def packet_size(topic: str, payload: int) -> int:
    """Returns the bytes of an MQTT 5 message without properties (MQTT 5.0, 3.3)."""
    rest = 2 + len(topic.encode()) + 2 + 1 + payload
    length = 1
    while rest >> (7 * length):
        length += 1
    return 1 + length + rest


def shortened(text: str) -> str:
    """Returns an event as JSON without optional fields and nulls; a missing field means null."""
    kept = {
        key: value
        for key, value in json.loads(text).items()
        if key not in _OPTIONAL and value is not None
    }
    return json.dumps(kept, ensure_ascii=False, separators=(",", ":"))


_PORT, _TLS_PORT = 1883, 8883
_UNLIMITED = 65535
"""The sink counts messages in flight itself: paho can't be told a broker's limit in time."""
_RETRY_S = (1.5,)
_RETRY_JITTER = 2 / 3
_LONGEST_DELAY_S = 5
_PROTOCOLS = {"3.1.1": MQTTProtocolVersion.MQTTv311, "5": MQTTProtocolVersion.MQTTv5}


class ClientMaker:
    """Reads secrets and certificates once, and makes a paho client for each connection.

    Args:
        config: The broker.
        station: Name of the station.
        topics: The station's topics.

    Raises:
        ConfigError: The password or a certificate can't be read.
    """

    def __init__(self, config: MqttConfig, station: str, topics: Topics) -> None:
        self._config, self._topics = config, topics
        self._password = read_secret(config.password_file) if config.password_file else None
        self._context = client_context(config.tls) if config.tls is not None else None
        port = config.port or (_PORT if config.tls is None else _TLS_PORT)
        # The same id after a restart: the broker then ends the old connection and sends its will
        # before the new one says `online`, so an old will can't come after it.
        self._id = f"{re.sub('[^A-Za-z0-9]+', '-', config.prefix)}-{station}"
        self._port, self.address = port, f"{config.host}:{port}"
        self.backoff = Backoff(_RETRY_S, _RETRY_JITTER)

    def __call__(self, limits: BrokerLimits) -> Client:
        """Makes a client; it connects once its loop is started.

        Args:
            limits: Limits for the last will.
        """
        config = self._config
        version = _PROTOCOLS[config.protocol]
        newest = version is MQTTProtocolVersion.MQTTv5
        client = Client(
            CallbackAPIVersion.VERSION2,
            self._id,
            clean_session=None if newest else True,
            protocol=version,
        )
        client.suppress_exceptions = True  # they would end paho's thread
        client.max_inflight_messages_set(_UNLIMITED)
        client.reconnect_delay_set(self.backoff.next_s(), _LONGEST_DELAY_S)  # type: ignore[arg-type]
        client.will_set(self._topics.status, "offline", limits.qos, limits.retain)
        if config.username is not None:
            client.username_pw_set(config.username, self._password)
        if self._context is not None:
            client.tls_set_context(self._context)
        # No session is resumed: what was not delivered comes from the outbox again.
        clean: bool | Literal[3] = True if newest else MQTT_CLEAN_START_FIRST_ONLY
        client.connect_async(config.host, self._port, config.keepalive_s, clean_start=clean)
        return client


_ANSWER_S = 10.0
"""Without an acknowledgement for so long, the connection is replaced."""
_LOOK_S = 0.1


class MqttLink:
    """An accepted connection; never has more messages in flight than the broker's Receive Maximum.

    Args:
        client: The connected client. It never reconnects, so paho sends nothing twice.
        limits: The broker's limits.
        lost: Returns why the connection is lost; None while it is not.
    """

    def __init__(
        self, client: Client, limits: BrokerLimits, lost: Callable[[MqttLink], str | None]
    ) -> None:
        self.client, self.limits = client, limits
        self.since = time.monotonic()
        self.refused: dict[int, str] = {}
        """Why the broker refused a message, by message id."""
        self.refusal: str | None = None
        """Why it refused an event of the current batch."""
        self._lost = lost
        self._flying: deque[tuple[MQTTMessageInfo, Stored | None]] = deque()

    @property
    def full(self) -> bool:
        """Whether the broker takes no further message now."""
        return len(self._flying) >= self.limits.window

    def send(self, topic: str, text: str, *, retain: bool, event: Stored | None = None) -> None:
        """Sends a message with the highest QoS that is allowed.

        Args:
            topic: Its topic.
            text: Its payload.
            retain: Whether the broker is to retain it, if it can.
            event: The event that it holds; None for a message of another kind.
        """
        info = self.client.publish(topic, text, self.limits.qos, retain and self.limits.retain)
        self._flying.append((info, event))

    def settle(self, took: Took, left: int = 0) -> None:
        """Waits until at most `left` messages are in flight.

        Args:
            took: Called with each acknowledged event, up to the first refused one.
            left: Number of messages.

        Raises:
            SinkError: The connection is lost, or an acknowledgement is overdue.
        """
        while len(self._flying) > left:
            info, event = self._flying[0]
            until = time.monotonic() + _ANSWER_S
            while not info.is_published():
                if (why := self._lost(self)) is not None:
                    raise SinkError(why)
                if time.monotonic() > until:
                    raise SinkError(sentence("no_acknowledgement", waited_s=_ANSWER_S))
                info.wait_for_publish(_LOOK_S)
            self._flying.popleft()
            refused = self.refused.pop(info.mid, None)
            if event is not None:
                self.refusal = refused or self.refusal
                if self.refusal is None:
                    took(event)
