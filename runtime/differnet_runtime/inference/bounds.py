"""Bounds the memory of an engine process that runs its model on the CPU.

A graph of a few bytes can ask for terabytes. A GPU's driver takes address space as it likes, so
with a GPU there is no such bound; the kernel then ends this process before the daemon.
"""

from __future__ import annotations

import os
import re
import resource
from pathlib import Path

from ..metadata import ModelMetadata

_STATUS = Path("/proc/self/status")
_TAKEN = re.compile(r"^VmData:\s+(\d+) kB$", re.MULTILINE)
_LEAST = 512 * 2**20
_OF_FILE = 8
"""Copies of the file: weights as read, and as the runtime packs them; four were measured."""
_OF_PIXEL = 16 * 2**10
"""Bytes for each pixel of each view; 2,600 were measured, weights included."""
_OF_THREAD = 8 * 2**20
"""A thread's stack."""


def memory_bound(metadata: ModelMetadata, file_bytes: int) -> int:
    """Returns how many bytes a model may take on the CPU: several times what any has needed."""
    contract, views = metadata.input, len(metadata.views.angles)
    pixels = contract.height * contract.width * views
    threads = os.cpu_count() or 1
    return _LEAST + _OF_FILE * file_bytes + _OF_PIXEL * pixels + _OF_THREAD * threads


def bound_memory(metadata: ModelMetadata, file_bytes: int) -> None:
    """Bounds this process's memory from now on; an allocation beyond it fails.

    Args:
        metadata: Of the model that is about to be loaded.
        file_bytes: Size of its file.
    """
    taken = _TAKEN.search(_STATUS.read_text())
    if taken is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    bound = int(taken[1]) * 1024 + memory_bound(metadata, file_bytes)
    limits = [limit for limit in (bound, soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(limits), hard))
