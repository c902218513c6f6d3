"""The way of events out of the station: the outbox, and a delivery for each sink."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from ..config import Config
from ..events import Event
from ..outbox import Delivery, Outbox
from ..sinks import OnCommand, build_sinks


class Results:
    """Owns the outbox and the deliveries; sinks can be changed while events come.

    Args:
        config: Of the station.
        on_command: Gets the camera and the part of a command that a sink received.

    Raises:
        ConfigError: A sink's secret or certificate can't be read.
    """

    def __init__(self, config: Config, on_command: OnCommand) -> None:
        self._on_command = on_command
        self._sinks = build_sinks(config, on_command)
        self.outbox = Outbox(config.station.state / "outbox.sqlite", config.events)
        self.deliveries: list[Delivery] = []

    def start(self) -> None:
        """Starts writing and delivering."""
        self._deliver()
        self.outbox.start()

    def add(self, event: Event) -> None:
        """Takes an event; never waits."""
        self.outbox.add(event)

    def replace_sinks(self, config: Config) -> None:
        """Ends the deliveries and begins those of another configuration.

        Raises:
            ConfigError: A sink can't be made; the old ones go on.
        """
        sinks = build_sinks(config, self._on_command)
        self._end_deliveries(2.0)
        self._sinks = sinks
        self._deliver()

    def beat(self, cameras: list[str]) -> None:
        """Sends the heartbeat of the cameras that inspect."""
        for sink in self._sinks:
            sink.beat(cameras)

    def stop(self, timeout_s: float) -> None:
        """Ends the deliveries, and writes down what waits and what was taken."""
        self._end_deliveries(timeout_s / 2)
        self.outbox.stop(timeout_s / 2)

    def _deliver(self) -> None:
        self.outbox.use_sinks([sink.name for sink in self._sinks])
        self.deliveries = [Delivery(self.outbox, sink) for sink in self._sinks]
        for delivery in self.deliveries:
            delivery.start()

    def _end_deliveries(self, timeout_s: float) -> None:
        with ThreadPoolExecutor(max_workers=max(1, len(self.deliveries))) as pool:
            for delivery in self.deliveries:
                pool.submit(delivery.stop, timeout_s)
        self.deliveries = []
