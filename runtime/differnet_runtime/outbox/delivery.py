"""One thread a sink: takes events from the outbox to it, for ever."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Sequence

from ..errors import SinkError
from ..sinks import BusyError, Sink, Stored
from .outbox import Outbox
from .records import DeliveryStatus

_BATCH = 100
_IDLE_S = 1.0
_LEAST_WAIT_S, _GREATEST_WAIT_S = 0.2, 5.0
_LONGEST_ASKED_S = 300.0
"""Of a receiver's own wish; a wrong one must not end delivery."""

log = logging.getLogger(__name__)


class Delivery:
    """Delivers a sink's events in order, again and again until it has taken them.

    Args:
        outbox: Holds the events.
        sink: Takes them; opened by `start`, closed by `stop`.
    """

    def __init__(self, outbox: Outbox, sink: Sink) -> None:
        self._outbox, self.sink = outbox, sink
        self._delivered = self._failures = self._in_a_row = 0
        self._problem: str | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"sink-{sink.name}", daemon=True)

    def start(self) -> None:
        """Opens the sink and starts the thread."""
        self.sink.open()
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        """Ends the thread and closes the sink; what was not taken stays in the outbox."""
        self._stopping.set()
        self.sink.close()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    @property
    def alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    @property
    def status(self) -> DeliveryStatus:
        """How the sink is doing."""
        problem = self._problem or self.sink.problem
        return DeliveryStatus(
            self.sink.name, problem is None, problem, self._delivered, self._failures
        )

    def _run(self) -> None:
        while not self._stopping.is_set():
            events = self._outbox.batch(self.sink.name, _BATCH)
            if not events:
                self._outbox.wait(self.sink.name, _IDLE_S)
                continue
            try:
                self.sink.deliver(events)
            except SinkError as error:
                self._failed(error)
            except Exception as error:  # a bug in one sink must not end its deliveries unseen
                log.exception("sink %s", self.sink.name)
                self._failed(SinkError(f"{type(error).__name__} in the sink (a bug): {error}"))
            else:
                self._taken(events)

    def _taken(self, events: Sequence[Stored]) -> None:
        self._outbox.delivered(self.sink.name, events[-1])
        self._delivered += len(events)
        if self._problem is not None:
            log.info("sink %s takes events again", self.sink.name)
        self._problem, self._in_a_row = None, 0

    def _failed(self, error: SinkError) -> None:
        if self._stopping.is_set():
            return
        self._failures += 1
        if str(error) != self._problem:
            log.warning("sink %s: %s; trying on", self.sink.name, error)
        self._problem = str(error)
        wait_s = min(_GREATEST_WAIT_S, _LEAST_WAIT_S * 2 ** min(self._in_a_row, 10))
        self._in_a_row += 1
        # Devices that lost the same broker must not all come back at the same moment.
        wait_s *= random.uniform(0.5, 1.0)  # noqa: S311
        if isinstance(error, BusyError):
            wait_s = max(wait_s, min(error.retry_after_s, _LONGEST_ASKED_S))
        self._stopping.wait(wait_s)
