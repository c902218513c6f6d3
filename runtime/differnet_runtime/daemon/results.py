"""The way of events out of the station: the outbox, and a delivery for each sink."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ..config import Config
from ..config.problems import Key
from ..events import Event
from ..outbox import Delivery, Outbox
from ..sinks import OnCommand, Sink, build_sinks, sink_tables

_END_S = 2.0


@dataclass(frozen=True)
class Sinks:
    """Those of a configuration, made but not opened.

    Args:
        origins: By name, in order: what each was made from.
        made: Those whose origin is another than that of the sink in use.
    """

    origins: Mapping[str, object]
    made: Mapping[str, Sink]


class Results:
    """Owns the outbox and the deliveries; sinks can be changed while events come.

    Args:
        config: Of the station.
        files: Fingerprints of the files of secrets and certificates that it names.
        on_command: Gets the camera and the part of a command that a sink received.

    Raises:
        ConfigError: A sink's secret or certificate can't be read.
    """

    def __init__(self, config: Config, files: Mapping[Key, str], on_command: OnCommand) -> None:
        self._on_command = on_command
        self._origins: Mapping[str, object] = {}
        self._first = self.prepare(config, files)
        self.outbox = Outbox(config.station.state / "outbox.sqlite", config.events)
        self.deliveries: list[Delivery] = []

    def start(self) -> None:
        """Starts writing and delivering."""
        self.use(self._first)
        self.outbox.start()

    def add(self, event: Event) -> None:
        """Takes an event; never waits."""
        self.outbox.add(event)

    def prepare(self, config: Config, files: Mapping[Key, str]) -> Sinks:
        """Makes the sinks that a configuration changes; those in use go on.

        Args:
            config: Of the station.
            files: See the class.

        Raises:
            ConfigError: A sink can't be made.
        """
        origins = {name: _origin(name, config, files) for name in sink_tables(config)}
        changed = [name for name in origins if origins[name] != self._origins.get(name)]
        made = build_sinks(config, self._on_command, changed)
        return Sinks(origins, {sink.name: sink for sink in made})

    def use(self, sinks: Sinks) -> None:
        """Ends the deliveries of sinks that changed or are gone; begins those that were made."""
        staying = {
            one.sink.name: one
            for one in self.deliveries
            if one.sink.name in sinks.origins and one.sink.name not in sinks.made
        }
        ending = [one for one in self.deliveries if one.sink.name not in staying]
        self.deliveries = list(staying.values())  # those that end on purpose are not missed
        self._end(ending, _END_S)
        self.outbox.use_sinks(sinks.origins)
        begun = {name: Delivery(self.outbox, sink) for name, sink in sinks.made.items()}
        self._origins = sinks.origins
        for delivery in begun.values():
            delivery.start()
        self.deliveries = [(staying | begun)[name] for name in sinks.origins]

    def beat(self, cameras: list[str]) -> None:
        """Sends the heartbeat of the cameras that inspect."""
        for delivery in self.deliveries:
            delivery.sink.beat(cameras)

    def stop(self, timeout_s: float) -> None:
        """Ends the deliveries, and writes down what waits and what was taken."""
        self._end(self.deliveries, timeout_s / 2)
        self.deliveries = []
        self.outbox.stop(timeout_s / 2)

    def _end(self, deliveries: list[Delivery], timeout_s: float) -> None:
        with ThreadPoolExecutor(max_workers=max(1, len(deliveries))) as pool:
            for delivery in deliveries:
                pool.submit(delivery.stop, timeout_s)


def _origin(name: str, config: Config, files: Mapping[Key, str]) -> object:
    """Returns all that a sink is made from: its table, and what the files named there hold."""
    at = tuple(name.split(":"))
    own = {key: found for key, found in files.items() if key[: len(at)] == at}
    return sink_tables(config)[name], own
