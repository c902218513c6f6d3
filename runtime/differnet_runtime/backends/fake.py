"""A backend without a model, for tests and for trying a camera set-up."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .base import Backend, Outputs


class FakeBackend(Backend):
    """Scores each frame by a function of its pixels; the mean brightness by default."""

    name = "fake"

    def __init__(self, score: Callable[[NDArray[np.uint8]], float] | None = None) -> None:
        self._score = score or (lambda frame: float(frame.mean()))

    def infer(self, batch: NDArray[np.uint8]) -> Outputs:
        """Returns a score for each frame; see `Backend.infer`."""
        return Outputs(np.array([self._score(frame) for frame in batch], np.float32))

    def close(self) -> None:
        """Does nothing."""
