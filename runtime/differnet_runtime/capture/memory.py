"""The frames' shared memory: slots that travel from the child to the daemon and back.

Each slot has one owner at a time, handed over by a message, so neither side ever sees half a
frame and neither waits for the other. A memfd is not a file in /dev/shm, which containers make
small, and it goes with its last user.
"""

from __future__ import annotations

import mmap
import os

import numpy as np
from numpy.typing import DTypeLike, NDArray

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
        # Never closed by hand: it goes with the last view, and unmapping earlier would be a fault.
        mapped = np.frombuffer(mmap.mmap(descriptor, slots * slot_bytes), np.uint8)
        self._slots: NDArray[np.uint8] = mapped.reshape(slots, slot_bytes)

    def write(self, slot: int, image: Image) -> None:
        """Puts a frame into a slot."""
        self._view(slot, image.shape, image.dtype)[...] = image

    def copy(self, slot: int, shape: tuple[int, ...], dtype: str) -> Image:
        """Returns the frame in a slot, in memory of its own."""
        copied: Image = self._view(slot, shape, dtype).copy()
        return copied

    def _view(self, slot: int, shape: tuple[int, ...], dtype: DTypeLike) -> Image:
        length = int(np.prod(shape)) * np.dtype(dtype).itemsize
        view: Image = self._slots[slot, :length].view(dtype).reshape(shape)
        return view
