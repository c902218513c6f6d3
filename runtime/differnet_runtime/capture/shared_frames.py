"""What came from a capture process and was not taken yet.

The frames' shared memory: slots that travel from the child to the daemon and back.

A slot is written only while nobody else has it, on either side: what was handed over by a message
comes back by one. So neither side ever sees half a frame, and neither waits for the other. A memfd
is not a file in /dev/shm, which containers make small, and it goes with its last user.

The last frame of a capture process, given to the next: a camera may go on showing just that.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import DTypeLike

from ..cameras.files import UnreadablePictureError
from ..errors import ImageReadError
from ..records import Frame, Image
from .messages import RELEASE, Captured, LastFrame, Source, Unreadable


def create(length: int) -> int:
    """Returns the descriptor of new shared memory."""
    descriptor = os.memfd_create("differnet-capture", os.MFD_CLOEXEC)
    try:
        os.ftruncate(descriptor, length)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


class FrameSlots:
    """Shared memory of one generation, mapped; a frame of another size may need a new one.

    Args:
        descriptor: Of the memory; may be closed afterwards.
        generation: Told apart from earlier ones by both sides.
        slots: How many frames it holds.
        slot_bytes: Greatest frame.
    """

    def __init__(self, descriptor: int, generation: int, slots: int, slot_bytes: int) -> None:
        self.generation, self.count, self.slot_bytes = generation, slots, slot_bytes
        self.lent: dict[int, weakref.ref[np.ndarray]] = {}
        """Slots whose memory somebody on this side has."""
        # Never closed by hand: it goes with the last view, and unmapping earlier would be a fault.
        self._mapped = mmap.mmap(descriptor, slots * slot_bytes)
        self._start = _address(np.frombuffer(self._mapped, np.uint8))

    def write(self, slot: int, image: Image) -> None:
        """Puts a frame into a slot."""
        self._view(slot, image.shape, image.dtype)[...] = image

    def copy(self, slot: int, shape: tuple[int, ...], dtype: str) -> Image:
        """Returns the frame in a slot, in memory of its own."""
        copied: Image = self._view(slot, shape, dtype).copy()
        return copied

    def lend(
        self,
        slot: int,
        shape: tuple[int, ...],
        dtype: DTypeLike,
        returned: Callable[[], None] = lambda: None,
    ) -> Image:
        """Returns a slot's memory as a frame.

        Args:
            slot: Which.
            shape: The frame's.
            dtype: The frame's.
            returned: Called once nobody has the frame or a part of it any more, by any thread.
        """

        def end(_: weakref.ref[np.ndarray]) -> None:
            del self.lent[slot]
            returned()

        view = self._view(slot, shape, dtype)
        assert view.base is not None  # parts of the view keep it
        self.lent[slot] = weakref.ref(view.base, end)
        return view

    def holding(self, image: Image) -> int | None:
        """Returns the slot that an image fills from its start; None if it lies elsewhere."""
        slot, rest = divmod(_address(image) - self._start, self.slot_bytes)
        inside = rest == 0 and 0 <= slot < self.count and image.flags.c_contiguous
        return slot if inside else None

    def _view(self, slot: int, shape: tuple[int, ...], dtype: DTypeLike) -> Image:
        length = prod(shape) * np.dtype(dtype).itemsize
        lying = np.frombuffer(self._mapped, np.uint8, length, slot * self.slot_bytes)
        view: Image = lying.view(dtype).reshape(shape)
        return view


def _address(array: np.ndarray) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


_KEPT_BACK = 3
"""Slots that are never lent: one being written, one on its way, and the newest frame."""


@dataclass(frozen=True)
class _Item:
    """Something to take, and the slot to give back afterwards; neither for the source's end."""

    message: Captured | Unreadable | None
    slots: FrameSlots | None = None
    channel: socket.socket | None = None


class FrameQueue:
    """Filled by the thread that listens to the process, emptied by the one that judges.

    A frame is lent where it lies, and its slot given back when nobody has it any more. It is
    copied, and the slot given back at once, where lending would leave the process too few.

    Args:
        live: Whether a newer frame replaces one that was not taken.
    """

    def __init__(self, live: bool) -> None:
        self._live = live
        self._items: deque[_Item] = deque()
        self._changed = threading.Condition()
        # The last to have a frame may be any thread, even one that is sending: the collector's.
        self._sending = threading.RLock()

    def frame(self, message: Captured, slots: FrameSlots, channel: socket.socket) -> None:
        """Adds a frame."""
        replaced: list[_Item] = []
        with self._changed:
            if self._live:
                replaced = list(self._items)
                self._items.clear()
            self._items.append(_Item(message, slots, channel))
            self._changed.notify_all()
        for item in replaced:
            self._give_back(item)

    def unreadable(self, message: Unreadable, channel: socket.socket | None) -> None:
        """Adds that a picture can't be read; without a channel there is no slot to give back."""
        self._add(_Item(message, None, channel))

    def end(self) -> None:
        """Adds the end, which is taken once as None."""
        self._add(_Item(None))

    def _add(self, item: _Item) -> None:
        with self._changed:
            self._items.append(item)
            self._changed.notify_all()

    def wait(self, timeout_s: float) -> bool:
        """Waits until there is something to take."""
        until = time.monotonic() + timeout_s
        with self._changed:
            while not self._items:
                left_s = until - time.monotonic()
                if left_s <= 0 or not self._changed.wait(left_s):
                    return bool(self._items)
            return True

    def take(self) -> Frame | None:
        """Takes it; see `CaptureProcess.take`."""
        with self._changed:
            if not self._items:
                return None
            item = self._items.popleft()
        if isinstance(item.message, Captured) and item.slots is not None:
            return _frame(item.message, self._pixels(item, item.message, item.slots))
        self._give_back(item)
        if isinstance(item.message, Unreadable):
            raise _unreadable(item.message)
        return None

    def _pixels(self, item: _Item, message: Captured, slots: FrameSlots) -> Image:
        if len(slots.lent) < slots.count - _KEPT_BACK:
            returned = partial(self._give_back, item)
            lent = slots.lend(message.slot, message.shape, message.dtype, returned)
            lent.flags.writeable = False  # the process compares the next frame with it
            return lent
        try:
            return slots.copy(message.slot, message.shape, message.dtype)
        finally:
            self._give_back(item)

    def close(self, channel: socket.socket) -> None:
        """Closes a channel when no slot is being given back on it."""
        with self._sending:
            channel.close()

    def _give_back(self, item: _Item) -> None:
        if item.channel is None or item.message is None:
            return
        packet = RELEASE.pack(item.message.generation, item.message.slot)
        # Fewer packets than slots are ever on their way, so there is always room for one.
        with self._sending, contextlib.suppress(OSError):  # the process has ended
            item.channel.send(packet, socket.MSG_DONTWAIT)


def _unreadable(message: Unreadable) -> ImageReadError:
    if message.origin is None:
        return ImageReadError(message.name, message.cause)
    return UnreadablePictureError(message.cause, message.origin)


def _frame(message: Captured, image: Image) -> Frame:
    return Frame(
        image,
        message.name,
        message.index,
        message.captured_ns,
        message.captured_at_s,
        message.stream_ms,
        message.damage,
        message.unchanged_s,
        message.origin,
        message.waiting,
    )


@dataclass(frozen=True)
class Shown:
    """A frame that may be shown again.

    Args:
        image: Its pixels.
        since_ns: Stamp of the first frame in a row that had them.
    """

    image: Image
    since_ns: int

    @classmethod
    def of(cls, message: Captured, slots: FrameSlots) -> Shown:
        """Copies a frame out of the memory of a process that has ended.

        It may have begun to write the next frame there; then no later frame equals this one.
        """
        image = slots.copy(message.slot, message.shape, message.dtype)
        return cls(image, message.captured_ns - round(message.unchanged_s * 1e9))

    def written(self) -> int:
        """Returns the descriptor of a file with the pixels."""
        descriptor = create(self.image.nbytes)
        os.pwrite(descriptor, self.image.data, 0)
        return descriptor

    def told(self, descriptor: int) -> LastFrame:
        """Returns what a process must know to read that file."""
        dtype: Literal["uint8", "uint16"] = "uint8" if self.image.itemsize == 1 else "uint16"
        return LastFrame(
            descriptor=descriptor, shape=self.image.shape, dtype=dtype, since_ns=self.since_ns
        )


def read_shown(source: Source) -> Shown | None:
    """Returns what the process before this one has shown last."""
    last = source.shown
    if last is None:
        return None
    with os.fdopen(last.descriptor, "rb") as file:
        pixels = np.frombuffer(file.read(), last.dtype).reshape(last.shape)
    return Shown(pixels, last.since_ns)
