"""For how long has a camera given the same pixels?"""

from __future__ import annotations

import numpy as np

from ..records import Frame, Image

_STEPS = (256, 16, 1)
"""Every so many rows are compared, one after another: a few tell a sensor's noise at once, every
16th meets each block of a codec, and only all of them are the same picture."""


class Repetition:
    """Compares each frame of a live source with the one before, pixel by pixel.

    What a sensor sees always has noise, so one changed pixel is enough to be alive. It is kept
    while a source is opened again: pixels from before an outage are old ones.

    Args:
        last: The frame before the first one, where an earlier process saw it.
        since_ns: Stamp of the first frame with those pixels.
    """

    def __init__(self, last: Image | None = None, since_ns: int = 0) -> None:
        self._last: Image = np.empty((0, 0), np.uint8) if last is None else last
        self._since_ns = since_ns

    def seconds(self, frame: Frame) -> float:
        """Takes the next frame, whose pixels must not be written to afterwards.

        Returns:
            How long pixels have been identical, by the frames' stamps; 0 for a changed picture.
        """
        last, self._last = self._last, frame.image
        if all(np.array_equal(frame.image[::step], last[::step]) for step in _STEPS):
            return max(0.0, (frame.captured_ns - self._since_ns) / 1e9)
        self._since_ns = frame.captured_ns
        return 0.0
