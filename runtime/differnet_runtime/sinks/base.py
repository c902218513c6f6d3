"""What a receiver of events is: it takes them, or says why not."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import SinkError

OnCommand = Callable[[str, str | None], None]
"""Gets the camera and the part of a command that came over a sink."""


@dataclass(frozen=True)
class Stored:
    """An event as the outbox holds it.

    Args:
        row: Its number in the outbox; later events have greater ones.
        id: The event's own.
        text: The event as one line of JSON.
        table: Which of the outbox's tables it is in; one that is damaged gives way to another.
    """

    row: int
    id: str
    text: str
    table: int = 0


Took = Callable[[Stored], None]
"""Is told of an event that the receiver has; it then has all before it, too."""


def unheard(_: Stored) -> None:
    """Takes no notice; where nobody counts single events."""


class BusyError(SinkError):
    """The receiver asks to be left alone for a while."""

    def __init__(self, text: str, retry_after_s: float) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class Sink(ABC):
    """Takes events, each at least once.

    Args:
        name: `mqtt`, `jsonl` or `webhook:NAME`; the outbox remembers by it what was delivered.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.undeliverable = 0
        """Events that the receiver can never take, passed over since the start."""

    @property
    def problem(self) -> str | None:
        """Why nothing can be delivered at the moment, or None."""
        return None

    @property
    def caution(self) -> str | None:
        """What is delivered otherwise than configured, or not at all, and why; or None."""
        return None

    def open(self) -> None:  # noqa: B027 - not every receiver has something to open
        """Begins to connect; never waits."""

    @abstractmethod
    def deliver(self, events: Sequence[Stored], took: Took = unheard) -> None:
        """Delivers events in order; returns when the receiver has them all.

        Args:
            events: As the outbox gave them.
            took: Called as the receiver confirms single events; where it only confirms them all
                together, it need not be called.

        Raises:
            SinkError: It has not; they are delivered again, those that it took among them.
        """

    def beat(self, cameras: Sequence[str] = ()) -> None:  # noqa: B027 - only brokers have it
        """Sends a heartbeat, where the receiver knows such a thing; never waits.

        Args:
            cameras: Those that inspect.
        """

    def close(self) -> None:  # noqa: B027 - not every receiver has something to close
        """Ends the connection, and a `deliver` that waits; may be called twice."""
