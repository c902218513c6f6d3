"""The last frame of a capture process, given to the next: a camera may go on showing just that."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..records import Image
from .memory import Slots, create
from .messages import Captured, LastFrame, Source


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
    def of(cls, message: Captured, slots: Slots) -> Shown:
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
