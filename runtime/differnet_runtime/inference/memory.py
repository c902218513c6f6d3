"""The memory that the daemon and the engine process share: prepared frames, and their heatmaps.

A memfd is not a file in /dev/shm, which containers make small, and it goes with its last user. Its
pages take memory only once they are written, so there is a slot for more threads than any daemon
has cameras.
"""

from __future__ import annotations

import mmap
import os
import threading
import weakref

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineFault

SLOTS = 64


class SharedMemory:
    """Both sides map it.

    Args:
        height: Height of the graph's input in pixels.
        width: Likewise.
        channels: Its channels.
        descriptor: Of memory that the other side made; None makes it.
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
        # Never closed by hand: a caller may still hold a view, and unmapping it would be a fault.
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


class Slots:
    """Gives each thread its own slot, and takes it back when the thread has ended."""

    def __init__(self) -> None:
        self._free = list(range(SLOTS))
        self._own = threading.local()

    def own(self) -> int:
        """Returns the calling thread's slot.

        Raises:
            EngineFault: As many threads as there are slots use the engine.
        """
        if not hasattr(self._own, "slot"):
            try:
                self._own.slot = _Slot(self._free.pop())
            except IndexError:
                raise EngineFault(
                    "busy", f"more than {SLOTS} threads use one engine; close some cameras"
                ) from None
            weakref.finalize(self._own.slot, self._free.append, self._own.slot.number)
        number: int = self._own.slot.number
        return number


class _Slot:
    def __init__(self, number: int) -> None:
        self.number = number
