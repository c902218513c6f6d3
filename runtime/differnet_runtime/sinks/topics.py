"""Where an event goes in a broker's tree, and what its retained values are."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from ..errors import SinkError
from .base import Stored

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
