"""Threads that wait for the engine at the same time take their turn together, as one batch.

A turn is a place in the next batch: it is used by one frame, or given back. The engine is free for
the next batch as soon as this one has its scores.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from ..errors import EngineFault
from ..sentences import sentence

_RETURN_S = 0.005
"""A caller whose frame lies there may take so long to come back from its last verdict."""
_STRAGGLER_S = 0.1
"""A batch goes without a caller that takes longer to prepare its frame; it goes alone then."""

T = TypeVar("T")


class Callers:
    """Those that may have frames judged by one model, and who has one lying there now."""

    def __init__(self) -> None:
        self._lies_there: dict[str, Callable[[], bool]] = {}

    def add(self, name: str, lies_there: Callable[[], bool]) -> None:
        """Adds a caller; `lies_there` must be quick, and says whether it is about to ask."""
        self._lies_there = {**self._lies_there, name: lies_there}

    def remove(self, name: str) -> None:
        """Removes a caller, if it is there."""
        self._lies_there = {one: lies for one, lies in self._lies_there.items() if one != name}

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._lies_there)

    def lying(self) -> int:
        """Returns how many have a frame, those that wait for their turn included."""
        return sum(lies_there() for lies_there in self._lies_there.values())


@dataclass(eq=False)
class BatchEntry(Generic[T]):
    """A prepared frame in a batch.

    Args:
        slot: Where it lies in the shared memory.
        until_ns: `time.monotonic_ns()` until which its caller needs the score.
        outcome: What became of it; None while nothing has.
    """

    slot: int
    until_ns: int
    outcome: T | EngineFault | None = None


Run = Callable[[Sequence[BatchEntry[T]]], Sequence[T | EngineFault]]
"""Has the engine score a batch; returns an outcome for each frame, and raises nothing."""


class Batch(Generic[T]):
    """Callers that took their turn together.

    Args:
        callers: How many.
        run: See `Run`.
        over: Called once, when each has its outcome or has left.
        changed: Guards it; may be shared with other batches.
    """

    def __init__(
        self, callers: int, run: Run[T], over: Callable[[], None], changed: threading.Condition
    ) -> None:
        self._run, self._over = run, over
        self._open, self._running, self._ended = callers, False, False
        self._ready: list[BatchEntry[T]] = []
        self._changed = changed

    def leave(self) -> None:
        """Says that a caller has no frame."""
        with self._changed:
            self._open -= 1
            self._changed.notify_all()
        self._end()

    def submit(self, entry: BatchEntry[T]) -> T:
        """Adds a frame, and returns its outcome; one of the callers runs the engine for all.

        Raises:
            EngineFault: There is no score.
        """
        with self._changed:
            self._open -= 1
            self._ready.append(entry)
            self._changed.notify_all()
            mine = self._await(entry)
            if mine:
                entries, self._ready, self._running = self._ready, [], True
        if mine:
            self._run_for(entries)
        self._end()
        if isinstance(entry.outcome, EngineFault):
            raise entry.outcome
        assert entry.outcome is not None, "it was waited for"
        return entry.outcome

    def _await(self, entry: BatchEntry[T]) -> bool:
        """Waits for the entry's outcome; returns True where its caller is to run the engine."""
        stragglers_ns = time.monotonic_ns() + int(_STRAGGLER_S * 1e9)
        while entry.outcome is None:
            now_ns = time.monotonic_ns()
            complete = self._open == 0 or now_ns >= stragglers_ns
            # Whoever can wait longest runs it, so that nobody waits beyond its own time.
            if complete and self._ready and not self._running:
                if entry is max(self._ready, key=lambda one: one.until_ns):
                    return True
                self._changed.notify_all()
            if now_ns >= entry.until_ns:
                if entry in self._ready:
                    self._ready.remove(entry)
                    self._changed.notify_all()
                text = sentence("engine_late")
                entry.outcome = EngineFault("timeout", text)
                break
            until_ns = entry.until_ns if complete else min(entry.until_ns, stragglers_ns)
            self._changed.wait((until_ns - now_ns) / 1e9)
        return False

    def _run_for(self, entries: list[BatchEntry[T]]) -> None:
        outcomes: Sequence[T | EngineFault] = ()
        try:
            outcomes = self._run(entries)
        finally:
            with self._changed:
                if not outcomes:
                    text = "the batch failed, a bug"
                    outcomes = [EngineFault("exception", text) for _ in entries]
                for entry, outcome in zip(entries, outcomes, strict=True):
                    entry.outcome = outcome
                self._running = False
                self._changed.notify_all()

    def _end(self) -> None:
        with self._changed:
            if self._open or self._ready or self._running or self._ended:
                return
            self._ended = True
        self._over()


@dataclass(eq=False)
class _Place(Generic[T]):
    woken: threading.Event
    batch: Batch[T] | None = None
    used: bool = False


class _Own(threading.local, Generic[T]):
    """A thread's places, and what wakes it while it waits for one."""

    def __init__(self) -> None:
        self.places: list[_Place[T]] = []
        self.woken = threading.Event()


class FifoLock(Generic[T]):
    """First come, first served, in batches; a thread that has a turn may take it again.

    Args:
        run: See `Run`.
        size: Gives how many frames the engine takes together now.
        callers: Who may come; frames that lie there are waited for, if only for milliseconds.
        wait_s: How long frames that are not there yet are waited for.
    """

    def __init__(
        self,
        run: Run[T],
        size: Callable[[], int],
        callers: Callers | None = None,
        wait_s: float = 0.0,
    ) -> None:
        self._run, self._size, self._wait_s = run, size, wait_s
        self._callers = callers or Callers()
        self._lock = threading.Lock()
        self._waiting: deque[_Place[T]] = deque()
        self._batch: Batch[T] | None = None
        self._changed = threading.Condition()
        self._gather_until: float | None = None
        self._own: _Own[T] = _Own()

    @property
    def busy(self) -> bool:
        """Whether a batch is under way."""
        return self._batch is not None

    @property
    def waiting(self) -> int:
        """How many threads wait for their turn."""
        return len(self._waiting)

    @property
    def wanted(self) -> bool:
        """Whether a batch is under way, a thread waits, or a caller has a frame lying there."""
        return self.busy or bool(self._waiting) or self._callers.lying() > 0

    def take(self, timeout_s: float) -> bool:
        """Waits for this thread's turn; False if it did not come in time."""
        places = self._own.places
        if not places or places[-1].used:
            place: _Place[T] = _Place(self._own.woken)
            if not self._queue(place, time.monotonic() + timeout_s):
                return False
            places.append(place)
        else:
            places.append(places[-1])
        return True

    def give_back(self) -> None:
        """Ends this thread's turn, whether it was used or not."""
        places = self._own.places
        place = places.pop()
        if place in places or place.used:
            return
        assert place.batch is not None, "it had its turn"
        place.batch.leave()

    def submit(self, slot: int, until_ns: int) -> T:
        """Uses this thread's turn for a frame; see `Batch.submit`."""
        place = self._own.places[-1]
        place.used = True
        assert place.batch is not None, "it has its turn"
        return place.batch.submit(BatchEntry(slot, until_ns))

    def _queue(self, place: _Place[T], until: float) -> bool:
        with self._lock:
            self._waiting.append(place)
        while True:
            now = time.monotonic()
            with self._lock:
                pause_s = self._admit(now, at_once=now >= until)
                if place.batch is not None:
                    return True
                if now >= until:
                    self._waiting.remove(place)
                    self._wake_first()
                    return False
                place.woken.clear()
                first = self._waiting[0] is place
            left_s = until - now
            place.woken.wait(left_s if pause_s is None or not first else min(left_s, pause_s))

    def _admit(self, now: float, *, at_once: bool = False) -> float | None:
        """Lets the next batch in, if the engine is free; else says when to look again."""
        if self._batch is not None or not self._waiting:
            return None
        size = self._size()
        if not at_once and len(self._waiting) < self._wanted(size):
            if self._gather_until is None:
                self._gather_until = now + max(self._wait_s, _RETURN_S)
            if now < self._gather_until:
                return self._gather_until - now
        self._gather_until = None
        places = [self._waiting.popleft() for _ in range(min(size, len(self._waiting)))]
        self._batch = Batch(len(places), self._run, self._over, self._changed)
        for place in places:
            place.batch = self._batch
            place.woken.set()
        return None

    def _wanted(self, size: int) -> int:
        if size == 1:
            return 1
        return min(size, self._callers.count if self._wait_s else self._callers.lying())

    def _over(self) -> None:
        with self._lock:
            self._batch = None
            self._admit(time.monotonic())
            self._wake_first()

    def _wake_first(self) -> None:
        """Has the one that is next look after the time, if the batch gathers."""
        if self._batch is None and self._waiting:
            self._waiting[0].woken.set()


def remaining_s(until_ns: int) -> float:
    """Returns the seconds left, at least 0."""
    return max(0.0, (until_ns - time.monotonic_ns()) / 1e9)
