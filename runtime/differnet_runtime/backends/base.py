"""The interface of a backend, which turns a batch of frames into scores."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IMAGE = "image"
"""Name of the graph's input."""
SCORE, HEATMAP, HEADS = "score", "heatmap", "heads"
"""Names of the graph's outputs, of which only `score` is in every file."""


@dataclass(frozen=True)
class Outputs:
    """The graph's outputs for a batch.

    Args:
        scores: `(N,)` float32.
        heatmaps: `(N, rows, columns)` float32; None if the graph has no such output.
        heads: `(N, H)` float32, a score for each head in the order of `metadata.heads`; None if
            the graph has no such output.
    """

    scores: NDArray[np.float32]
    heatmaps: NDArray[np.float32] | None = None
    heads: NDArray[np.float32] | None = None


class Backend(AbstractContextManager["Backend"]):
    """Runs a model's graph; open once it is made, used by one thread, closed once."""

    name: str
    """Name of what really runs, for logs and results (`onnxruntime-cpu`)."""

    batch: int | None = None
    """Number of frames that it takes at once without loss of speed; None for any number."""

    def buffer(self, shape: tuple[int, int, int, int]) -> NDArray[np.uint8]:
        """Returns an array in which to prepare a batch, in the device's own memory if it has any.

        `infer` accepts any array, but saves a copy with this one.

        Args:
            shape: `(N, height, width, C)`.
        """
        return np.empty(shape, np.uint8)

    @abstractmethod
    def infer(self, batch: NDArray[np.uint8]) -> Outputs:
        """Runs the graph.

        Args:
            batch: `(N, height, width, C)` uint8 BGR (C = 3) or BGRx (C = 4), contiguous.

        Returns:
            Arrays that the next batch does not overwrite.

        Raises:
            BackendError: The batch does not fit, or inference failed.
        """

    @abstractmethod
    def close(self) -> None:
        """Releases what the backend holds."""

    def __exit__(self, *_error: object) -> None:
        self.close()


def greatest_relative_difference(
    scores: NDArray[np.float64], expected: NDArray[np.float64]
) -> float:
    """Returns the greatest relative difference between scores; NaN if a score is NaN.

    Args:
        scores: Scores that a backend gave.
        expected: The right scores, of a shape that broadcasts.
    """
    scale = np.maximum(np.abs(expected), 1e-12)
    return float(np.max(np.abs(scores - expected) / scale))
