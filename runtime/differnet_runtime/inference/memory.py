"""How much memory an engine process may take, and how much it is expected to take.

On the CPU the process has a bound, because a graph of a few bytes can ask for terabytes. A GPU's
driver takes any amount of address space, so there is no bound with a GPU; the kernel then ends this
process before the station.
"""

from __future__ import annotations

import os
import re
import resource
from pathlib import Path

from ..model_file.metadata import ModelMetadata

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
