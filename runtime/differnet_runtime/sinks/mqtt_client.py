"""One accepted connection to a broker: what may be sent over it, and what is on its way.

Where an event goes in a broker's tree, and what its retained values are.

What a broker takes, as it says itself when it accepts a connection (MQTT 5).

Makes paho's clients from a broker's configuration.
"""

from __future__ import annotations

import json
import random
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

from ..config import MqttConfig
from ..config.paths import read_secret
from ..errors import SinkError
from ..sentences import sentence
from .base import Stored, Took, client_context, unheard

_PLACES = {"state": "component", "audit": "action"}
"""What an event's topic ends in, by its type; all others in their camera."""


@dataclass(frozen=True)
class Topics:
    """The topics of a station.

    Args:
        root: `PREFIX/STATION`.
    """

    root: str

    @property
    def status(self) -> str:
        """Retained: `online`, or `offline` by the last will."""
        return f"{self.root}/status"

    @property
    def heartbeat(self) -> str:
        """Never retained; it stops when inspection does."""
        return f"{self.root}/heartbeat"

    @property
    def commands(self) -> str:
        """A pattern; `command_camera` reads the camera from a topic that it matches."""
        return f"{self.root}/command/+"

    @staticmethod
    def command_camera(topic: str) -> str:
        """Returns the camera of a command's topic."""
        return topic.rpartition("/")[2]

    def of_event(self, event: Stored) -> tuple[str, bool]:
        """Returns an event's topic, and whether the last one there is to be kept by the broker.

        Raises:
            SinkError: The row holds no event.
        """
        try:
            content = json.loads(event.text)
            kind = content["type"]
            place = content[_PLACES.get(kind, "camera")]
        except (ValueError, KeyError, TypeError) as error:
            raise SinkError(f"row {event.row} of the outbox is no event: {error!r}") from error
        plain = re.sub(r"[#+\0]", "_", f"{kind}/{place}")
        return f"{self.root}/{plain}", kind == "state"


_WINDOW = 20
"""Messages on their way at once, where the broker takes as many; MQTT 3.1.1 has no word for it."""
_QOS_NOT_SUPPORTED, _RETAIN_NOT_SUPPORTED = 0x9B, 0x9A
_OPTIONAL = ("stages_ms", "heads", "decided_by", "note")
"""Of an event: what is left out first where the whole is too large."""


@dataclass(frozen=True)
class BrokerLimits:
    """What may be sent to a broker.

    Args:
        qos: At most.
        retain: Whether messages may be marked to be kept.
        window: Messages of QoS 1 and 2 on their way at once.
        packet: Bytes of the largest message, head and topic included; None where any is taken.
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
        """Returns these limits within those that a broker told."""

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
        """Returns what to try next where the last will was refused; None for any other reason."""
        if reason.value == _QOS_NOT_SUPPORTED and self.qos > 0:
            allowed = int(getattr(properties, "MaximumQoS", self.qos - 1))
            return replace(self, qos=min(allowed, self.qos - 1))
        if reason.value == _RETAIN_NOT_SUPPORTED and self.retain:
            return replace(self, retain=False)
        return None

    def take(self, topic: str, size: int) -> bool:
        """Returns whether a message with so many bytes of payload is small enough."""
        return self.packet is None or packet_size(topic, size) <= self.packet


def packet_size(topic: str, payload: int) -> int:
    """Returns the bytes of an MQTT 5 message without properties (MQTT 5.0, 3.3)."""
    rest = 2 + len(topic.encode()) + 2 + 1 + payload
    length = 1
    while rest >> (7 * length):
        length += 1
    return 1 + length + rest


def shortened(text: str) -> str:
    """Returns an event without what may be missing in it; a missing field means null."""
    content = json.loads(text)
    kept = {
        key: value for key, value in content.items() if key not in _OPTIONAL and value is not None
    }
    return json.dumps(kept, ensure_ascii=False, separators=(",", ":"))


_PORT, _TLS_PORT = 1883, 8883
_UNLIMITED = 65535
"""The sink itself counts what is on its way: paho can't be told a broker's limit in time."""
_SOON_S = (0.5, 1.5)
_LONGEST_DELAY_S = 5
_PROTOCOLS = {"3.1.1": MQTTProtocolVersion.MQTTv311, "5": MQTTProtocolVersion.MQTTv5}


def soon_s() -> float:
    """Returns a wait before a connection is tried again.

    Devices that lost the same broker must not all come back at the same moment.
    """
    return random.uniform(*_SOON_S)  # noqa: S311 - no secret


class ClientMaker:
    """Reads secrets and certificates once; each call makes a client that is ready to start.

    Args:
        config: Of the broker.
        station: Name.
        topics: Of the station.

    Raises:
        ConfigError: The password or a certificate can't be read.
    """

    def __init__(self, config: MqttConfig, station: str, topics: Topics) -> None:
        self._config, self._topics = config, topics
        self._password = None
        if config.password_file is not None:
            self._password = read_secret(config.password_file)
        self._context = client_context(config.tls) if config.tls is not None else None
        self._port = config.port or (_PORT if config.tls is None else _TLS_PORT)
        # The same after a restart: the broker then ends the old connection, and sends its will,
        # before the new one says `online`; an old will can't come after it.
        self._id = f"{re.sub('[^A-Za-z0-9]+', '-', config.prefix)}-{station}"
        self.address = f"{config.host}:{self._port}"

    def __call__(self, limits: BrokerLimits) -> Client:
        """Makes a client; it connects once its loop is started.

        Args:
            limits: What the last will must keep to.
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
        client.reconnect_delay_set(soon_s(), _LONGEST_DELAY_S)  # type: ignore[arg-type]
        client.will_set(self._topics.status, "offline", limits.qos, limits.retain)
        if config.username is not None:
            client.username_pw_set(config.username, self._password)
        if self._context is not None:
            client.tls_set_context(self._context)
        # Nothing is to be resumed: what was not delivered comes from the outbox again.
        clean: bool | Literal[3] = True if newest else MQTT_CLEAN_START_FIRST_ONLY
        client.connect_async(config.host, self._port, config.keepalive_s, clean_start=clean)
        return client


_ANSWER_S = 10.0
"""Without an acknowledgement for so long, a connection is given up and a new one made."""
_LOOK_S = 0.1


class MqttLink:
    """Never has more messages on their way than the broker takes (its Receive Maximum).

    Args:
        client: Connected; no other connection is made with it, so paho sends nothing twice.
        limits: What the broker takes.
        lost: Says why the connection is of no more use; None while it is.
    """

    def __init__(
        self, client: Client, limits: BrokerLimits, lost: Callable[[MqttLink], str | None]
    ) -> None:
        self.client, self.limits = client, limits
        self.since = time.monotonic()
        self.refused: dict[int, str] = {}
        """By message id: why the broker did not take it."""
        self._lost = lost
        self._flying: deque[tuple[MQTTMessageInfo, Stored | None]] = deque()

    @property
    def full(self) -> bool:
        """Whether the broker takes no further message at the moment."""
        return len(self._flying) >= self.limits.window

    def send(
        self, topic: str, text: str, *, retain: bool, event: Stored | None = None
    ) -> MQTTMessageInfo:
        """Sends a message with the QoS that is allowed, and watches over it.

        Args:
            topic: Of the message.
            text: Its payload.
            retain: Whether the broker is to keep it, if it can.
            event: That the message holds.
        """
        info = self.client.publish(topic, text, self.limits.qos, retain and self.limits.retain)
        self._flying.append((info, event))
        return info

    def make_room(self, took: Took) -> str | None:
        """Waits until a message may be sent; see `settle`."""
        refused = None
        while self.full and refused is None:
            refused = self._settle(took)
        return refused

    def settle(self, took: Took) -> str | None:
        """Waits until nothing is on its way any more.

        Args:
            took: Called with each event that was taken, up to the first that was not.

        Returns:
            Why the broker refused a message, or None.

        Raises:
            SinkError: The connection is of no more use.
        """
        refused = None
        while self._flying:
            refused = self._settle(took if refused is None else unheard) or refused
        return refused

    def _settle(self, took: Took) -> str | None:
        """Waits for the word on the oldest message; returns why it was refused, if it was."""
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
        if refused is None and event is not None:
            took(event)
        return None if event is None else refused
