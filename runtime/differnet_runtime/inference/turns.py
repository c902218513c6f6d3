"""Batching: threads that wait for the engine at the same time take their turn together.

A turn is a place in the next batch, which is used for one frame or given back. The engine is free
for the next batch as soon as this one has its scores.

The frames and their heatmaps lie in memory that the station and the engine process share. A memfd
is no file in /dev/shm, which containers make small, and it vanishes with its last user. Its pages
take memory only once they are written, so there are slots for more threads than any station has
cameras.
"""

from __future__ import annotations

import mmap
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineFault
from ..sentences import sentence

_RETURN_S = 0.005
"""How long a batch waits for a caller that has a frame, but is still busy with its last verdict."""
_STRAGGLER_S = 0.1
"""How long a batch waits for a caller to prepare its frame, which goes alone after that."""

T = TypeVar("T")

SLOTS = 64
"""Threads that can use one engine."""


class SharedMemory:
    """A prepared frame and a heatmap for each of 64 slots, mapped by both processes.

    Args:
        height: Height of the graph's input in pixels.
        width: Width of the graph's input in pixels.
        channels: Channels of the graph's input.
        descriptor: File descriptor of memory that the other process made; None makes it.
    """

    def __init__(
        self, height: int, width: int, channels: int, descriptor: int | None = None
    ) -> None:
        heatmap_bytes, frame_bytes = height * width * 4, height * width * channels
        length = SLOTS * (heatmap_bytes + frame_bytes)
        if descriptor is None:
            descriptor = os.memfd_create("differnet-frames", os.MFD_CLOEXEC)
            os.ftruncate(descriptor, length)
        self.descriptor = descriptor
        # Never closed explicitly: a caller may still hold a view, and unmapping it would crash.
        mapped = np.frombuffer(mmap.mmap(descriptor, length), np.uint8)
        heatmaps = mapped[: SLOTS * heatmap_bytes].view(np.float32)
        self._heatmaps = heatmaps.reshape(SLOTS, height * width)
        self._frames = mapped[heatmaps.nbytes :].reshape(SLOTS, height, width, channels)
        self.height, self.width = height, width
        weakref.finalize(self, os.close, descriptor)

    def frame(self, slot: int) -> NDArray[np.uint8]:
        """Returns a slot's `(height, width, channels)` uint8."""
        frame: NDArray[np.uint8] = self._frames[slot]
        return frame

    def heatmap(self, slot: int, rows: int, columns: int) -> NDArray[np.float32]:
        """Returns a slot's `(rows, columns)` float32; neither exceeds the input's pixels."""
        heatmap: NDArray[np.float32] = self._heatmaps[slot, : rows * columns]
        return heatmap.reshape(rows, columns)


class _Slot:
    def __init__(self, number: int) -> None:
        self.number = number


Callers = dict[str, Callable[[], bool]]
"""The cameras that share one model; each says whether it has a frame and is about to ask."""


@dataclass(eq=False)
class BatchEntry(Generic[T]):
    """A prepared frame in a batch.

    Args:
        slot: Number of the shared-memory slot that holds the frame, from 0 on.
        until_ns: `time.monotonic_ns()` until which its caller needs the score.
        outcome: Its result or fault; None before that.
    """

    slot: int
    until_ns: int
    outcome: T | EngineFault | None = None


Run = Callable[[Sequence[BatchEntry[T]]], Sequence[T | EngineFault]]
"""Scores a batch; returns an outcome for each frame, and raises nothing."""


class Batch(Generic[T]):
    """The callers that take their turn together.

    Args:
        callers: Number of callers in the batch.
        run: Scores the batch; see `Run`.
        over: Called once, when each caller has its outcome or has left.
        changed: Guards the batch; may be shared with other batches.
    """

    def __init__(
        self, callers: int, run: Run[T], over: Callable[[], None], changed: threading.Condition
    ) -> None:
        self._run, self._over, self._changed = run, over, changed
        self._open, self._running, self._ended = callers, False, False
        self._ready: list[BatchEntry[T]] = []

    def leave(self) -> None:
        """Called for a caller that has no frame after all."""
        with self._changed:
            self._open -= 1
            self._changed.notify_all()
        self._end()

    def submit(self, entry: BatchEntry[T]) -> T:
        """Adds a frame, and returns its outcome; one of the callers runs the engine for all.

        Raises:
            EngineFault: There is no score.
        """
        entries: list[BatchEntry[T]] = []
        with self._changed:
            self._open -= 1
            self._ready.append(entry)
            self._changed.notify_all()
            if self._await(entry):
                entries, self._ready, self._running = self._ready, [], True
        if entries:
            self._run_for(entries)
        self._end()
        if isinstance(entry.outcome, EngineFault):
            raise entry.outcome
        assert entry.outcome is not None, "it was waited for"
        return entry.outcome

    def _await(self, entry: BatchEntry[T]) -> bool:
        """Waits for the entry's outcome; returns True if its caller is to run the engine."""
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
                entry.outcome = EngineFault("timeout", sentence("engine_late"))
                break
            until_ns = entry.until_ns if complete else min(entry.until_ns, stragglers_ns)
            self._changed.wait((until_ns - now_ns) / 1e9)
        return False

    def _run_for(self, entries: list[BatchEntry[T]]) -> None:
        outcomes: Sequence[T | EngineFault]
        try:
            outcomes = self._run(entries)
        except BaseException:
            outcomes = [EngineFault("exception", "the batch failed, a bug") for _ in entries]
            raise
        finally:
            with self._changed:
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
    """A thread's places, its slot, and the event that wakes it while it waits for a place."""

    def __init__(self) -> None:
        self.places: list[_Place[T]] = []
        self.woken = threading.Event()
        self.slot: _Slot | None = None


class FifoLock(Generic[T]):
    """A lock that admits threads in batches, first come, first served.

    A thread that has a turn may take it again.

    Args:
        run: Scores a batch; see `Run`.
        size: Returns how many frames the engine takes together now.
        callers: Those that may come; a batch waits some milliseconds for those that have a frame.
        wait_s: How long a batch waits for callers that have none yet.

    Example:
        >>> turns = FifoLock(run, size=lambda: 4)  # doctest: +SKIP
        >>> if turns.take(timeout_s=1.0):  # doctest: +SKIP
        ...     score = turns.submit(slot, until_ns)
        ...     turns.give_back()
    """

    def __init__(
        self,
        run: Run[T],
        size: Callable[[], int],
        callers: Callers | None = None,
        wait_s: float = 0.0,
    ) -> None:
        self._run, self._size, self._wait_s = run, size, wait_s
        self._callers = Callers() if callers is None else callers
        self._lock = threading.Lock()
        self._waiting: deque[_Place[T]] = deque()
        self._batch: Batch[T] | None = None
        self._changed = threading.Condition()
        self._gather_until: float | None = None
        self._own: _Own[T] = _Own()
        self._free_slots = list(range(SLOTS))

    def slot(self) -> int:
        """Returns the slot that the calling thread has of its own until it ends.

        Raises:
            EngineFault: All slots are in use.
        """
        own = self._own
        if own.slot is None:
            try:
                own.slot = _Slot(self._free_slots.pop())
            except IndexError:
                text = f"more than {SLOTS} threads use one engine; close some cameras"
                raise EngineFault("busy", text) from None
            weakref.finalize(own.slot, self._free_slots.append, own.slot.number)
        return own.slot.number

    @property
    def busy(self) -> bool:
        """Whether a batch is under way."""
        return self._batch is not None

    @property
    def waiting(self) -> int:
        """Number of threads that wait for their turn."""
        return len(self._waiting)

    @property
    def wanted(self) -> bool:
        """Whether a batch is under way, a thread waits, or a caller has a frame."""
        return self.busy or bool(self._waiting) or self._with_frame() > 0

    def take(self, timeout_s: float) -> bool:
        """Waits for this thread's turn; returns False if it did not come in time."""
        places = self._own.places
        if places and not places[-1].used:
            places.append(places[-1])
            return True
        place: _Place[T] = _Place(self._own.woken)
        if admitted := self._queue(place, time.monotonic() + timeout_s):
            places.append(place)
        return admitted

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
        """Admits the next batch if the engine is free; returns the seconds to wait for more."""
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
        """Returns how many threads the next batch waits for."""
        if size == 1:
            return 1
        return min(size, len(self._callers) if self._wait_s else self._with_frame())

    def _with_frame(self) -> int:
        """Returns how many callers have a frame, including those that wait for their turn."""
        return sum(has_frame() for has_frame in list(self._callers.values()))

    def _over(self) -> None:
        with self._lock:
            self._batch = None
            self._admit(time.monotonic())
            self._wake_first()

    def _wake_first(self) -> None:
        """Wakes the first thread in the queue, which watches the time while a batch gathers."""
        if self._batch is None and self._waiting:
            self._waiting[0].woken.set()


def remaining_s(until_ns: int) -> float:
    """Returns the seconds left, at least 0."""
    return max(0.0, (until_ns - time.monotonic_ns()) / 1e9)
