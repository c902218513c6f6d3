"""Makes paho's clients from a broker's configuration."""

from __future__ import annotations

import random
import re
from typing import Literal

from paho.mqtt.client import MQTT_CLEAN_START_FIRST_ONLY, Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from ..config import MqttConfig
from ..config.secrets import read_secret
from .certificates import client_context
from .mqtt_limits import Limits
from .topics import Topics

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
    return random.uniform(*_SOON_S)  # noqa: S311


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

    def __call__(self, limits: Limits) -> Client:
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
