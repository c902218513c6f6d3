"""From the outbox to the sinks: one thread per sink, which retries until the sink acknowledges."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass

from ..config import Config
from ..config.problems import Key
from ..errors import SinkError
from ..service import STOP_S, Backoff, Service, stop_all
from ..sinks import BusyError, OnCommand, Sink, Stored, build_sinks, sink_tables
from .outbox import Outbox

_BATCH = 100
_IDLE_S = 1.0
_WAITS_S = (0.2, 0.4, 0.8, 1.6, 3.2, 5.0)
_LONGEST_ASKED_S = 300.0
"""Longest wait that a receiver may ask for; a wrong one must not end delivery."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class UnopenedSinks:
    """The sinks of a configuration, created but not opened.

    Args:
        origins: By name, in order, what each sink was made from.
        made: By name, the sinks whose origin differs from that of the sink in use.
    """

    origins: Mapping[str, object]
    made: Mapping[str, Sink]


class EventDelivery:
    """Owns the outbox and the deliveries; sinks can be changed while events come.

    Args:
        config: Configuration of the station.
        files: Fingerprints of the files of secrets and certificates that it names.
        on_command: Called with the camera and the part of a command that a sink received.

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

    def stop(self, timeout_s: float = STOP_S) -> None:
        """Ends the deliveries, and commits what waits."""
        stop_all(self.deliveries, timeout_s / 2)
        self.deliveries = []
        self.outbox.stop(timeout_s / 2)

    @property
    def alive(self) -> bool:
        """Whether the threads of the outbox and of all deliveries run."""
        return self.outbox.alive and all(delivery.alive for delivery in self.deliveries)

    def beat(self, cameras: list[str]) -> None:
        """Sends a heartbeat for the cameras that inspect."""
        for delivery in self.deliveries:
            delivery.sink.beat(cameras)

    def prepare(self, config: Config, files: Mapping[Key, str]) -> UnopenedSinks:
        """Creates the sinks that a configuration changes; the ones in use stay untouched.

        Args:
            config: New configuration of the station.
            files: Fingerprints, as for the class.

        Raises:
            ConfigError: A sink can't be created.
        """
        origins = {name: _origin(name, config, files) for name in sink_tables(config)}
        changed = [name for name in origins if origins[name] != self._origins.get(name)]
        made = build_sinks(config, self._on_command, changed)
        return UnopenedSinks(origins, {sink.name: sink for sink in made})

    def use(self, sinks: UnopenedSinks) -> None:
        """Stops the deliveries to sinks that changed or are gone; starts those to new ones."""
        staying = {
            one.sink.name: one
            for one in self.deliveries
            if one.sink.name in sinks.origins and one.sink.name not in sinks.made
        }
        ending = [one for one in self.deliveries if one.sink.name not in staying]
        self.deliveries = list(staying.values())  # one that ends on purpose must not look dead
        stop_all(ending)
        self.outbox.use_sinks(sinks.origins)
        started = {name: Delivery(self.outbox, sink) for name, sink in sinks.made.items()}
        self._origins = sinks.origins
        for delivery in started.values():
            delivery.start()
        self.deliveries = [(staying | started)[name] for name in sinks.origins]


def _origin(name: str, config: Config, files: Mapping[Key, str]) -> object:
    """Returns everything that a sink is made from: its table, and the content of its files."""
    at = tuple(name.split(":"))
    own = {key: found for key, found in files.items() if key[: len(at)] == at}
    return sink_tables(config)[name], own


@dataclass(frozen=True)
class DeliveryStatus:
    """A snapshot of the delivery to one sink.

    Args:
        sink: Name of the sink.
        problem: The last error, without passwords; None if the last attempt worked and the sink
            reports no problem.
        delivered: Events acknowledged since the start.
        stuck_s: Seconds for which it has acknowledged nothing although events wait, or could not
            be connected; None while it works or has nothing to do.
        caution: What is delivered differently from the configuration, or not at all; or None.
        undeliverable: Events skipped since the start because the receiver can never take them.
    """

    sink: str
    problem: str | None
    delivered: int
    stuck_s: float | None = None
    caution: str | None = None
    undeliverable: int = 0


class Delivery(Service):
    """Delivers events to a sink in order, each again until the sink has acknowledged it.

    Args:
        outbox: Outbox that holds the events.
        sink: Receives the events; opened by `start`, closed by `stop`.
    """

    def __init__(self, outbox: Outbox, sink: Sink) -> None:
        super().__init__(f"sink-{sink.name}")
        self._outbox, self.sink = outbox, sink
        self._delivered = self._of_batch = 0
        self._backoff = Backoff(_WAITS_S, jitter=0.5)
        self._problem: str | None = None
        self._stuck_since: float | None = None

    def start(self) -> None:
        """Opens the sink and starts the thread."""
        self.sink.open()
        super().start()

    def stop(self, timeout_s: float = STOP_S) -> None:
        """Stops the thread and closes the sink; unacknowledged events stay in the outbox."""
        self._stopping.set()
        self._outbox.wake()
        self.sink.close()
        super().stop(timeout_s)

    @property
    def status(self) -> DeliveryStatus:
        """A snapshot of the delivery."""
        sink, problem, since = self.sink, self._problem or self.sink.problem, self._stuck_since
        return DeliveryStatus(
            sink=sink.name,
            problem=problem,
            delivered=self._delivered - sink.undeliverable,
            stuck_s=None if since is None else time.monotonic() - since,
            caution=sink.caution,
            undeliverable=sink.undeliverable,
        )

    def _run(self) -> None:
        while not self._stopping.is_set():
            events = self._outbox.batch(self.sink.name, _BATCH)
            self._mark(waiting=bool(events))
            if not events:
                self._outbox.wait(self.sink.name, _IDLE_S, self._stopping)
                continue
            self._of_batch = 0
            try:
                self.sink.deliver(events, self._took)
                if self._of_batch < len(events):
                    self._advance(events[-1], len(events) - self._of_batch)
            except SinkError as error:
                self._failed(error)
            except Exception as error:  # a bug in one sink must not end its deliveries unseen
                log.exception("sink %s", self.sink.name)
                self._failed(SinkError(f"{type(error).__name__} in the sink (a bug): {error}"))

    def _mark(self, *, waiting: bool) -> None:
        """Notes since when the sink acknowledges nothing although events wait, or has a problem."""
        if not waiting and self.sink.problem is None:
            self._stuck_since = None
        elif self._stuck_since is None:
            self._stuck_since = time.monotonic()

    def _took(self, event: Stored) -> None:
        """Counts an event of the current batch as acknowledged, so that it is not sent again."""
        self._of_batch += 1
        self._advance(event, 1)

    def _advance(self, last: Stored, count: int) -> None:
        self._outbox.delivered(self.sink.name, last)
        self._delivered += count
        if self.sink.problem is None:  # otherwise its connection does not last
            self._stuck_since = time.monotonic()
        if self._problem is not None:
            log.info("sink %s takes events again", self.sink.name)
            self._problem = None
            self._backoff.reset()

    def _failed(self, error: SinkError) -> None:
        if self._stopping.is_set():
            return
        if str(error) != self._problem:
            log.warning("sink %s: %s; still trying", self.sink.name, error)
        self._problem = str(error)
        wait_s = self._backoff.next_s()
        if isinstance(error, BusyError):
            wait_s = max(wait_s, min(error.retry_after_s, _LONGEST_ASKED_S))
        self._stopping.wait(wait_s)
