"""One thread a sink: takes events from the outbox to it, for ever."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from ..backoff import Backoff
from ..errors import SinkError
from ..sinks import BusyError, Sink, Stored
from .outbox import Outbox
from .records import DeliveryStatus

_BATCH = 100
_IDLE_S = 1.0
_WAITS_S = (0.2, 0.4, 0.8, 1.6, 3.2, 5.0)
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
        self._delivered = self._failures = self._of_batch = 0
        self._backoff = Backoff(_WAITS_S, jitter=0.5)
        self._problem: str | None = None
        self._stuck_since: float | None = None
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
        sink, problem, since = self.sink, self._problem or self.sink.problem, self._stuck_since
        return DeliveryStatus(
            sink=sink.name,
            connected=problem is None,
            problem=problem,
            delivered=self._delivered - sink.undeliverable,
            failures=self._failures,
            stuck_s=None if since is None else time.monotonic() - since,
            caution=sink.caution,
            undeliverable=sink.undeliverable,
        )

    def _run(self) -> None:
        while not self._stopping.is_set():
            events = self._outbox.batch(self.sink.name, _BATCH)
            self._mark(waiting=bool(events))
            if not events:
                self._outbox.wait(self.sink.name, _IDLE_S)
                continue
            self._of_batch = 0
            try:
                self.sink.deliver(events, self._took)
            except SinkError as error:
                self._failed(error)
            except Exception as error:  # a bug in one sink must not end its deliveries unseen
                log.exception("sink %s", self.sink.name)
                self._failed(SinkError(f"{type(error).__name__} in the sink (a bug): {error}"))
            else:
                self._taken(events)

    def _mark(self, *, waiting: bool) -> None:
        """Notes since when the sink has taken nothing, though it should, or has been unwell."""
        if not waiting and self.sink.problem is None:
            self._stuck_since = None
        elif self._stuck_since is None:
            self._stuck_since = time.monotonic()

    def _took(self, event: Stored) -> None:
        """Notes an event of a batch that is under way: it is not delivered again."""
        self._of_batch += 1
        self._advance(event, 1)

    def _taken(self, events: Sequence[Stored]) -> None:
        if self._of_batch < len(events):
            self._advance(events[-1], len(events) - self._of_batch)

    def _advance(self, last: Stored, count: int) -> None:
        self._outbox.delivered(self.sink.name, last)
        self._delivered += count
        if self.sink.problem is None:  # else its connection does not last
            self._stuck_since = time.monotonic()
        if self._problem is not None:
            log.info("sink %s takes events again", self.sink.name)
        self._problem = None
        self._backoff.reset()

    def _failed(self, error: SinkError) -> None:
        if self._stopping.is_set():
            return
        self._failures += 1
        if str(error) != self._problem:
            log.warning("sink %s: %s; still trying", self.sink.name, error)
        self._problem = str(error)
        wait_s = self._backoff.next_s()
        if isinstance(error, BusyError):
            wait_s = max(wait_s, min(error.retry_after_s, _LONGEST_ASKED_S))
        self._stopping.wait(wait_s)
