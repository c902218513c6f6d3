"""For how long has a camera given the same pixels?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..records import Frame, Image

_STEP = 16
"""Every so many rows and columns of the camera's own frame are compared."""


class Repetition:
    """Compares each frame with the one before, pixel by pixel.

    The network's input is compared whole; of the camera's own frame, which may be large, only a
    grid. What a sensor sees always has noise, so one changed pixel is enough to be alive.
    """

    def __init__(self) -> None:
        self._prepared = np.empty((0,), np.uint8)
        self._sample: Image = np.empty((0,), np.uint8)
        self._since_ns = 0

    def seconds(self, frame: Frame, prepared: NDArray[np.uint8]) -> float:
        """Takes the next frame.

        Args:
            frame: As the camera gave it.
            prepared: `(size, size, 3 | 4) uint8`, the network's input made of it.

        Returns:
            How long pixels have been identical, by the frames' stamps; 0 for a changed picture.
        """
        sample = frame.image[::_STEP, ::_STEP]
        if np.array_equal(prepared, self._prepared) and np.array_equal(sample, self._sample):
            return (frame.captured_ns - self._since_ns) / 1e9
        # Copies: the caller may reuse its buffers for the next frame.
        self._prepared, self._sample = prepared.copy(), sample.copy()
        self._since_ns = frame.captured_ns
        return 0.0
