"""Blocks of a picture that its decoder never wrote.

FFmpeg's decoder of H.265 says nothing of a slice that is missing, or that ends too early: where it
would be, the memory keeps an older picture. So all memory that a decoder gets is zero: new memory
is, and what it gets again is wiped here first. A block whose brightness and both colours are zero
is no colour that a picture can have.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from av import VideoFrame

_HELD = 8
"""Pictures kept until the decoder needs them no more as references; cameras use one to four."""
_STEP = 8
"""Chroma samples between those that are looked at: half the smallest coding tree block."""
_MIDDLE = _STEP // 2


class Unwritten:
    """Looks at a decoder's pictures, and wipes their memory before it is used again."""

    def __init__(self) -> None:
        self._held: deque[VideoFrame] = deque()

    def blocks(self, frame: VideoFrame) -> int:
        """Returns how many of the looked-at places of a picture were never written."""
        if len(frame.planes) != 3:
            return 0  # grey, or of a kind that needs no look
        luma, blue, red = (_samples(frame, plane) for plane in range(3))
        down, across = (max(1, luma.shape[axis] // blue.shape[axis]) for axis in (0, 1))
        zero = (blue[_MIDDLE::_STEP, _MIDDLE::_STEP] == 0) & (
            red[_MIDDLE::_STEP, _MIDDLE::_STEP] == 0
        )
        rows, columns = zero.shape
        bright = luma[_MIDDLE * down :: _STEP * down, _MIDDLE * across :: _STEP * across]
        return int((zero & (bright[:rows, :columns] == 0)).sum())

    def release(self, frame: VideoFrame) -> None:
        """Gives a picture's memory back to the decoder, wiped, once that needs it no more."""
        self._held.append(frame)
        if len(self._held) > _HELD:
            last = self._held.popleft()
            last.make_writable()  # a copy, where the decoder still refers to it
            for plane in last.planes:
                np.frombuffer(plane, np.uint8)[:] = 0  # type: ignore[call-overload]


def _samples(frame: VideoFrame, index: int) -> NDArray[np.generic]:
    plane = frame.planes[index]
    dtype = np.uint16 if frame.format.components[index].bits > 8 else np.uint8
    rows = np.frombuffer(plane, dtype).reshape(-1, plane.line_size // np.dtype(dtype).itemsize)  # type: ignore[call-overload]
    samples: NDArray[np.generic] = rows[: plane.height, : plane.width]
    return samples
