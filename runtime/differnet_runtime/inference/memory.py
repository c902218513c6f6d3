"""The memory that the daemon and the engine process share: prepared frames, and their heatmaps.

A memfd is not a file in /dev/shm, which containers make small, and it goes with its last user. Its
pages take memory only once they are written, so there is a slot for more threads than any daemon
has cameras.

How often the engine process may be started again before something else must be done.

Bounds the memory of an engine process that runs its model on the CPU.

A graph of a few bytes can ask for terabytes. A GPU's driver takes address space as it likes, so
with a GPU there is no such bound; the kernel then ends this process before the daemon.
"""

from __future__ import annotations

import mmap
import os
import re
import resource
import threading
import weakref
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineFault
from ..model_file.metadata import ModelMetadata


@dataclass
class RestartBudget:
    """At most so many restarts in so many seconds; room comes back as time goes by.

    Args:
        restarts: How many.
        window_s: In how many seconds.
    """

    restarts: int = 5
    window_s: float = 60.0
    _spent_ns: deque[int] = field(default_factory=deque, init=False, repr=False)

    def take(self, now_ns: int) -> bool:
        """Spends a restart; False if there is none left."""
        while self._spent_ns and now_ns - self._spent_ns[0] >= self.window_s * 1e9:
            self._spent_ns.popleft()
        if len(self._spent_ns) >= self.restarts:
            return False
        self._spent_ns.append(now_ns)
        return True

    def fresh(self) -> RestartBudget:
        """Returns the same budget with nothing spent."""
        return RestartBudget(self.restarts, self.window_s)


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


class ThreadSlots:
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


_STATUS = Path("/proc/self/status")
_TAKEN = re.compile(r"^VmData:\s+(\d+) kB$", re.MULTILINE)
_LEAST = 512 * 2**20
_OF_FILE = 8
"""Copies of the file: weights as read, and as the runtime packs them; four were measured."""
_OF_PIXEL = 16 * 2**10
"""Bytes for each pixel of each view; 2,600 were measured, weights included."""
_OF_THREAD = 8 * 2**20
"""A thread's stack."""
_STARTED = 52 * 2**20
_FAKE = 35 * 2**20
"""Of a process without ONNX Runtime."""
_WEIGHTS = {"fp32": 2.0, "fp16": 5.0}
"""Copies of the file that a process really keeps; on a CPU, FP16 weights become FP32."""
_ACTIVATIONS = 360
"""Bytes for each pixel of each view and frame."""


def memory_bound(metadata: ModelMetadata, file_bytes: int, batch: int = 1) -> int:
    """Returns how many bytes a model may take on the CPU: several times what any has needed."""
    contract, views = metadata.input, len(metadata.views.angles)
    pixels = contract.height * contract.width * views * batch
    threads = os.cpu_count() or 1
    return _LEAST + _OF_FILE * file_bytes + _OF_PIXEL * pixels + _OF_THREAD * threads


def expected_memory(metadata: ModelMetadata, file_bytes: int, batch: int = 1) -> int:
    """Returns how many bytes an engine process is expected to take on the CPU.

    Measured with EfficientNet-Lite0 at 64 to 256 pixels, one and four views, 0.1 to 33 MiB.

    Args:
        metadata: Of the model.
        file_bytes: Size of its file; 0 for the fake backend.
        batch: Frames that it takes at once.
    """
    if not file_bytes:
        return _FAKE
    contract, views = metadata.input, len(metadata.views.angles)
    pixels = contract.height * contract.width * views * batch
    weights = _WEIGHTS.get(metadata.precision, max(_WEIGHTS.values())) * file_bytes
    return _STARTED + int(weights) + _ACTIVATIONS * pixels


def bound_memory(metadata: ModelMetadata, file_bytes: int, batch: int = 1) -> None:
    """Bounds this process's memory from now on; an allocation beyond it fails.

    Args:
        metadata: Of the model that is about to be loaded.
        file_bytes: Size of its file.
        batch: Frames that it takes at once.
    """
    taken = _TAKEN.search(_STATUS.read_text())
    if taken is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    bound = int(taken[1]) * 1024 + memory_bound(metadata, file_bytes, batch)
    limits = [limit for limit in (bound, soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(limits), hard))
