"""The frames' shared memory: slots that travel from the child to the daemon and back.

A slot is written only while nobody else has it, on either side: what was handed over by a message
comes back by one. So neither side ever sees half a frame, and neither waits for the other. A memfd
is not a file in /dev/shm, which containers make small, and it goes with its last user.
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Callable
from math import prod

import numpy as np
from numpy.typing import DTypeLike

from ..records import Image


def create(length: int) -> int:
    """Returns the descriptor of new shared memory."""
    descriptor = os.memfd_create("differnet-capture", os.MFD_CLOEXEC)
    try:
        os.ftruncate(descriptor, length)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


class Slots:
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
