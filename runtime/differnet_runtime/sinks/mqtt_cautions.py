"""What goes to a broker otherwise than configured, or not at all, in words for people."""

from __future__ import annotations

from ..config import MqttConfig
from ..sentences import sentence
from .mqtt_limits import Limits


class Cautions:
    """Collects them; those of a connection begin anew with the next.

    Args:
        config: What was asked for.
    """

    def __init__(self, config: MqttConfig) -> None:
        self._config = config
        self._undelivered: str | None = None
        self._of_connection: dict[str, str] = {}

    @property
    def text(self) -> str | None:
        """All of them, or None."""
        found = [self._undelivered, *list(self._of_connection.values())]
        return "; ".join(text for text in found if text) or None

    def connected(self, limits: Limits) -> None:
        """Compares what a broker takes with what was asked for."""
        found, asked = dict[str, str](), self._config
        if limits.qos < asked.qos:
            code = "broker_qos_0" if limits.qos == 0 else "broker_qos"
            found["qos"] = sentence(code, qos=limits.qos, asked=asked.qos)
        if asked.retain and not limits.retain:
            found["retain"] = sentence("broker_no_retain")
        self._of_connection = found

    def undelivered(self, count: int, size: int, limits: Limits) -> str:
        """Says that events are too large; returns what is said of the last one.

        Args:
            count: Since the start.
            size: Of the last one, in bytes.
            limits: Of the broker.
        """
        why = sentence("event_size", size=size, packet=limits.packet)
        self._undelivered = sentence(
            "event_too_large" if count == 1 else "events_too_large", count=count, why=why
        )
        return why

    def no_heartbeat(self, limits: Limits) -> None:
        """Says that the heartbeat is too large."""
        self._of_connection["heartbeat"] = sentence("broker_no_heartbeat", packet=limits.packet)

    def no_commands(self, topic: str, reason: str) -> None:
        """Says that no command can come."""
        self._of_connection["commands"] = sentence("broker_no_commands", topic=topic, why=reason)
