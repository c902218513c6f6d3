"""The base class of sinks: they take events, or say why not."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import SinkError

OnCommand = Callable[[str, str | None], None]
"""Called with the camera and the part id of a command that came over a sink."""


@dataclass(frozen=True)
class Stored:
    """An event in the outbox.

    Args:
        row: Its row number, which rises from event to event.
        id: The event's id.
        text: The event as one line of JSON.
        table: Number of the outbox's database; a damaged one is replaced by the next.
    """

    row: int
    id: str
    text: str
    table: int = 0


Took = Callable[[Stored], None]
"""Called with an event that the receiver has acknowledged, and with it all earlier ones."""


def unheard(_: Stored) -> None:
    """Ignores an acknowledgement."""


class BusyError(SinkError):
    """The receiver asks for a pause (HTTP `Retry-After`)."""

    def __init__(self, text: str, retry_after_s: float) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class Sink(ABC):
    """Delivers events at least once.

    Args:
        name: `mqtt`, `jsonl` or `webhook:NAME`; the outbox keeps the progress under this name.

    Example:
        >>> class Printer(Sink):
        ...     def deliver(self, events, took=unheard):
        ...         print([event.text for event in events])
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.undeliverable = 0
        """Events skipped since the start, because the receiver can never take them."""

    @property
    def problem(self) -> str | None:
        """Why nothing can be delivered now; None if it can."""
        return None

    @property
    def caution(self) -> str | None:
        """What is delivered otherwise than configured, or not at all, and why; None if nothing."""
        return None

    def open(self) -> None:  # noqa: B027 - not every receiver has something to open
        """Starts to connect; returns at once."""

    @abstractmethod
    def deliver(self, events: Sequence[Stored], took: Took = unheard) -> None:
        """Delivers events in order; returns once the receiver has acknowledged them all.

        Args:
            events: A batch from the outbox.
            took: Called for single events, if the receiver acknowledges them one by one.

        Raises:
            SinkError: It has not acknowledged them all. They are delivered again, including those
                that it did acknowledge.
        """

    def beat(self, cameras: Sequence[str] = ()) -> None:  # noqa: B027 - only brokers have it
        """Sends a heartbeat, if the receiver knows heartbeats; returns at once.

        Args:
            cameras: Names of the cameras that inspect.
        """

    def close(self) -> None:  # noqa: B027 - not every receiver has something to close
        """Closes the connection and ends a waiting `deliver`; may be called twice."""
