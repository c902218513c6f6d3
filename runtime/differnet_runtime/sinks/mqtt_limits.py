"""What a broker takes, as it says itself when it accepts a connection (MQTT 5)."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

_WINDOW = 20
"""Messages on their way at once, where the broker takes as many; MQTT 3.1.1 has no word for it."""
_QOS_NOT_SUPPORTED, _RETAIN_NOT_SUPPORTED = 0x9B, 0x9A
_OPTIONAL = ("stages_ms", "heads", "decided_by", "note")
"""Of an event: what is left out first where the whole is too large."""


@dataclass(frozen=True)
class Limits:
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

    def told(self, properties: Properties | None) -> Limits:
        """Returns these limits within those that a broker told."""

        def of(name: str, default: int) -> int:
            return int(getattr(properties, name, default))

        return Limits(
            qos=min(self.qos, of("MaximumQoS", 2)),
            retain=self.retain and bool(of("RetainAvailable", 1)),
            window=min(_WINDOW, max(1, of("ReceiveMaximum", _WINDOW))),
            packet=getattr(properties, "MaximumPacketSize", None),
        )

    def after_refusal(self, reason: ReasonCode, properties: Properties | None) -> Limits | None:
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
