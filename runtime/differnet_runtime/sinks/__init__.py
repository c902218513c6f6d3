"""Sinks, which deliver events to a broker, an HTTP receiver or a file.

Each kind's packages are imported only if it is configured.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass

from ..config import Config, JsonLinesConfig, MqttConfig, WebhookConfig
from ..errors import DifferNetError, SinkError
from ..installation import install_line
from ..model_file.contract import StrictModel

OnCommand = Callable[[str, str | None], None]
"""Called with the camera and the part id of a command that came over a sink."""


@dataclass(frozen=True)
class Stored:
    """An event in the outbox.

    Args:
        row: Its row number, which rises from event to event.
        id: The id of the stored event.
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


def sink_tables(config: Config) -> dict[str, StrictModel]:
    """Returns the configuration table of each sink, by the sink's name."""
    tables: dict[str, StrictModel | None] = {"mqtt": config.mqtt}
    tables |= {f"webhook:{name}": table for name, table in config.webhook.items()}
    tables["jsonl"] = config.jsonl
    return {name: table for name, table in tables.items() if table is not None}


def build_sinks(
    config: Config,
    on_command: OnCommand | None = None,
    only: Container[str] | None = None,
) -> list[Sink]:
    """Makes the configured sinks; none connects before `Sink.open`.

    Args:
        config: The configuration of the station, with its sinks.
        on_command: Called with a command, in the sink's own thread.
        only: Names of the sinks to make; None makes all.

    Raises:
        ConfigError: A secret or a certificate can't be read.
        DifferNetError: A package is missing; the message names the extra.
    """
    try:
        return [
            _build(name, table, config.station.name, on_command)
            for name, table in sink_tables(config).items()
            if only is None or name in only
        ]
    except ImportError as error:
        raise DifferNetError(
            f"the configured sinks need {error.name}: {install_line('service')}"
        ) from error


def _build(name: str, table: StrictModel, station: str, on_command: OnCommand | None) -> Sink:
    if isinstance(table, MqttConfig):
        from .mqtt import MqttSink

        return MqttSink(table, station, on_command)
    if isinstance(table, WebhookConfig):
        from .webhook import WebhookSink

        return WebhookSink(name.partition(":")[2], table)
    assert isinstance(table, JsonLinesConfig)
    from .jsonl import JsonLinesSink

    return JsonLinesSink(table)
