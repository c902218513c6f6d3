"""What a backend is: something that turns a batch of frames into scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

IMAGE = "image"
"""Name of the graph's input."""
SCORE, HEATMAP, HEADS = "score", "heatmap", "heads"
"""Names of its outputs; only `score` is in every file."""


@dataclass(frozen=True)
class Outputs:
    """What the graph gives for a batch.

    Args:
        scores: `(N,)` float32.
        heatmaps: `(N, rows, columns)` float32 where the graph has that output, else None.
        heads: `(N, H)` float32, a score for each head in the order of `metadata.heads`, where the
            graph has that output, else None.
    """

    scores: NDArray[np.float32]
    heatmaps: NDArray[np.float32] | None = None
    heads: NDArray[np.float32] | None = None


class Backend(ABC):
    """Runs a model's graph; made open, used by one thread, closed once."""

    name: str
    """What really runs, for logs and results (`onnxruntime-cpu`)."""

    batch: int | None = None
    """Frames that it takes at once without loss; None for any number."""

    def buffer(self, shape: tuple[int, int, int, int]) -> NDArray[np.uint8]:
        """Returns an array in which a batch is prepared; the device's own memory where it has any.

        `infer` of that very array saves a copy; any other array may be given as well.

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
            Arrays that stay as they are when the next batch runs.

        Raises:
            BackendError: The batch does not fit, or inference failed.
        """

    @abstractmethod
    def close(self) -> None:
        """Releases what the backend holds."""

    def __enter__(self) -> Backend:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
