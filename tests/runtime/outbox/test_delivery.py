"""Delivery: again and again, in order, and stopped at once."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from differnet_runtime.config import EventsConfig
from differnet_runtime.errors import SinkError
from differnet_runtime.events import StateEvent
from differnet_runtime.outbox.delivery import Delivery
from differnet_runtime.outbox.outbox import Outbox
from differnet_runtime.sinks import BusyError, Sink, Stored, Took, unheard
from tests.runtime.waiting import wait_for


class Shy(Sink):
    """Takes events only after some failures."""

    def __init__(self, *failures: Exception) -> None:
        super().__init__("shy")
        self.failures, self.taken = list(failures), [0]
        self.closed = False

    def deliver(self, events: Sequence[Stored], took: Took = unheard) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.taken += [event.row for event in events]

    def close(self) -> None:
        self.closed = True


@contextmanager
def delivering(folder: Path, sink: Sink, events: int) -> Iterator[Delivery]:
    outbox = Outbox(folder / "outbox.sqlite", EventsConfig())
    outbox.use_sinks([sink.name])
    outbox.start()
    delivery = Delivery(outbox, sink)
    delivery.start()
    for number in range(events):
        outbox.add(StateEvent(station="line", component="station", state=str(number)))
    try:
        yield delivery
    finally:
        delivery.stop()
        outbox.stop()


def test_failures_are_shown_and_outlasted(tmp_path: Path) -> None:
    sink = Shy(SinkError("not now"), ValueError("a bug"), SinkError("not now"))
    with delivering(tmp_path, sink, 350) as delivery:
        wait_for(lambda: delivery.status.problem == "not now")
        assert delivery.status.problem is not None
        wait_for(lambda: delivery.status.delivered == 350)
        assert delivery.status.problem is None
        assert not sink.failures, "each was raised"
    assert sink.taken == list(range(351))
    assert sink.closed


def test_a_receiver_that_asks_for_time_gets_it(tmp_path: Path) -> None:
    sink = Shy(BusyError("busy", 1.0))
    begun = time.monotonic()
    with delivering(tmp_path, sink, 1) as delivery:
        wait_for(lambda: delivery.status.delivered == 1)
        assert time.monotonic() - begun >= 1.0


def test_it_stops_while_it_waits(tmp_path: Path) -> None:
    with delivering(tmp_path, Shy(BusyError("busy", 10_000.0)), 1) as delivery:
        wait_for(lambda: delivery.status.problem == "busy")
        start = time.monotonic()
        delivery.stop()
        assert time.monotonic() - start < 1.5
