"""One accepted connection to a broker: what may be sent over it, and what is on its way."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from paho.mqtt.client import Client, MQTTMessageInfo

from ..errors import SinkError
from ..sentences import sentence
from .base import Stored, Took, unheard
from .mqtt_limits import Limits

_ANSWER_S = 10.0
"""Without an acknowledgement for so long, a connection is given up and a new one made."""
_LOOK_S = 0.1


class Link:
    """Never has more messages on their way than the broker takes (its Receive Maximum).

    Args:
        client: Connected; no other connection is made with it, so paho sends nothing twice.
        limits: What the broker takes.
        lost: Says why the connection is of no more use; None while it is.
    """

    def __init__(self, client: Client, limits: Limits, lost: Callable[[Link], str | None]) -> None:
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
