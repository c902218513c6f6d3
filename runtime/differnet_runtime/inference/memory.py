"""The memory of an engine process: what it shares with the station, and how much it may take.

The shared memory holds prepared frames and their heatmaps. A memfd is no file in /dev/shm, which
containers make small, and it vanishes with its last user. Its pages take memory only once they are
written, so there are slots for more threads than any station has cameras.

On the CPU the process has a bound, because a graph of a few bytes can ask for terabytes. A GPU's
driver takes any amount of address space, so there is no bound with a GPU; the kernel then ends this
process before the station.
"""

from __future__ import annotations

import mmap
import os
import re
import resource
import threading
import weakref
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineFault
from ..model_file.metadata import ModelMetadata

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


class ThreadSlots:
    """Gives each thread a slot of its own until the thread ends."""

    def __init__(self) -> None:
        self._free = list(range(SLOTS))
        self._own = threading.local()

    def own(self) -> int:
        """Returns the calling thread's slot.

        Raises:
            EngineFault: All slots are in use.
        """
        if not hasattr(self._own, "slot"):
            try:
                self._own.slot = _Slot(self._free.pop())
            except IndexError:
                raise EngineFault(
                    "busy", f"more than {SLOTS} threads use one engine; close some cameras"
                ) from None
            weakref.finalize(self._own.slot, self._free.append, self._own.slot.number)
        return int(self._own.slot.number)


class _Slot:
    def __init__(self, number: int) -> None:
        self.number = number


_TAKEN = re.compile(r"^VmData:\s+(\d+) kB$", re.MULTILINE)
_LEAST = 512 * 2**20
_OF_FILE = 8
"""Copies of the file: weights as read and as the runtime packs them; four were measured."""
_OF_PIXEL = 16 * 2**10
"""Bytes for each pixel of each view; 2,600 were measured, weights included."""
_OF_THREAD = 8 * 2**20
"""Bytes of a thread's stack."""
_STARTED = 52 * 2**20
_FAKE = 35 * 2**20
"""Bytes of a process with and without ONNX Runtime."""
_WEIGHTS = {"fp32": 2.0, "fp16": 5.0}
"""Copies of the file that a process keeps; on a CPU, FP16 weights become FP32."""
_ACTIVATIONS = 360
"""Bytes for each pixel of each view and frame."""


def memory_bound(metadata: ModelMetadata, file_bytes: int, batch: int = 1) -> int:
    """Returns how many bytes a model may take on the CPU: several times what any has needed."""
    threads = os.cpu_count() or 1
    pixels = _pixels(metadata, batch)
    return _LEAST + _OF_FILE * file_bytes + _OF_PIXEL * pixels + _OF_THREAD * threads


def expected_memory(metadata: ModelMetadata, file_bytes: int, batch: int = 1) -> int:
    """Returns how many bytes an engine process is expected to take on the CPU.

    Measured with EfficientNet-Lite0 at 64 to 256 pixels, one and four views, 0.1 to 33 MiB.

    Args:
        metadata: Metadata of the model.
        file_bytes: Size of its file; 0 for the fake backend.
        batch: Frames that it takes at once.
    """
    if not file_bytes:
        return _FAKE
    weights = _WEIGHTS.get(metadata.precision, max(_WEIGHTS.values())) * file_bytes
    return _STARTED + int(weights) + _ACTIVATIONS * _pixels(metadata, batch)


def _pixels(metadata: ModelMetadata, batch: int) -> int:
    """Returns the pixels of all views of a batch."""
    contract = metadata.input
    return contract.height * contract.width * len(metadata.views.angles) * batch


def bound_memory(metadata: ModelMetadata, file_bytes: int, batch: int = 1) -> None:
    """Bounds this process's memory from now on; an allocation beyond it fails.

    Args:
        metadata: Metadata of the model that is about to be loaded.
        file_bytes: Size of its file.
        batch: Frames that it takes at once.
    """
    taken = _TAKEN.search(Path("/proc/self/status").read_text())
    if taken is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    bound = int(taken[1]) * 1024 + memory_bound(metadata, file_bytes, batch)
    limits = [limit for limit in (bound, soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(limits), hard))
