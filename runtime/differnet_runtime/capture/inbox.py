"""What came from a capture process and was not taken yet."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import deque
from dataclasses import dataclass
from functools import partial

from ..cameras.remembered import UnreadablePictureError
from ..errors import ImageReadError
from ..records import Frame, Image
from .memory import Slots
from .messages import RELEASE, Captured, Unreadable

_KEPT_BACK = 3
"""Slots that are never lent: one being written, one on its way, and the newest frame."""


@dataclass(frozen=True)
class _Item:
    """Something to take, and the slot to give back afterwards; neither for the source's end."""

    message: Captured | Unreadable | None
    slots: Slots | None = None
    channel: socket.socket | None = None


class Inbox:
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

    def frame(self, message: Captured, slots: Slots, channel: socket.socket) -> None:
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

    def _pixels(self, item: _Item, message: Captured, slots: Slots) -> Image:
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
