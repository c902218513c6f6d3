"""What goes to a broker otherwise than configured, or not at all, in words for people."""

from __future__ import annotations

from ..config import MqttConfig
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
            loses = ", and an outage may lose some" if limits.qos == 0 else ""
            found["qos"] = (
                f"the broker takes QoS {limits.qos} at most, and `qos = {asked.qos}` is "
                f"configured: events are sent with QoS {limits.qos}{loses}; "
                f"`qos = {limits.qos}` in [mqtt] accepts that"
            )
        if asked.retain and not limits.retain:
            found["retain"] = (
                "the broker keeps no retained messages: whoever subscribes later sees neither "
                "state nor status; `retain = false` in [mqtt] accepts that"
            )
        self._of_connection = found

    def undelivered(self, count: int, size: int, limits: Limits) -> str:
        """Says that events are too large; returns what is said of the last one.

        Args:
            count: Since the start.
            size: Of the last one, in bytes.
            limits: Of the broker.
        """
        why = f"larger than the broker's Maximum Packet Size ({size} bytes; {limits.packet} fit)"
        events = "1 event was" if count == 1 else f"{count} events were"
        self._undelivered = f"{events} not delivered; the last one is {why}"
        return why

    def no_heartbeat(self, limits: Limits) -> None:
        """Says that the heartbeat is too large."""
        self._of_connection["heartbeat"] = (
            f"no heartbeat is sent: with the names of its cameras it is larger than the broker's "
            f"Maximum Packet Size ({limits.packet} bytes)"
        )

    def no_commands(self, topic: str, reason: str) -> None:
        """Says that no command can come."""
        self._of_connection["commands"] = (
            f"the broker refuses the subscription to {topic} ({reason}), so no command can come; "
            "`commands = false` in [mqtt] accepts that"
        )
