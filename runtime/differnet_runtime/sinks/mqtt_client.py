"""Connecting to an MQTT broker: what it allows, and a paho client for each connection."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from paho.mqtt.client import MQTT_CLEAN_START_FIRST_ONLY, Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from ..config import MqttConfig
from ..config.paths import read_secret
from ..service import Backoff
from .tls import client_context

_WINDOW = 20
"""Most messages in flight, if the broker allows as many; MQTT 3.1.1 brokers can't say."""
_QOS_NOT_SUPPORTED, _RETAIN_NOT_SUPPORTED = 0x9B, 0x9A


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
        config: Address and credentials of the broker.
        station: Name of the station.
        status: Topic of the last will.

    Raises:
        ConfigError: The password or a certificate can't be read.
    """

    def __init__(self, config: MqttConfig, station: str, status: str) -> None:
        self._config, self._status = config, status
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
        client.will_set(self._status, "offline", limits.qos, limits.retain)
        if config.username is not None:
            client.username_pw_set(config.username, self._password)
        if self._context is not None:
            client.tls_set_context(self._context)
        # No session is resumed: what was not delivered comes from the outbox again.
        clean: bool | Literal[3] = True if newest else MQTT_CLEAN_START_FIRST_ONLY
        client.connect_async(config.host, self._port, config.keepalive_s, clean_start=clean)
        return client
