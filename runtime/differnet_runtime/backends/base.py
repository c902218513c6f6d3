"""What a backend is: something that turns a batch of frames into scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType

import numpy as np
from numpy.typing import NDArray


class Backend(ABC):
    """Runs a model's graph; made open, used by one thread, closed once."""

    name: str
    """What really runs, for logs and results (`onnxruntime-cpu`)."""

    @abstractmethod
    def infer(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Runs the graph.

        Args:
            batch: `(N, size, size, 3)` uint8 BGR, contiguous.

        Returns:
            `(N,)` float32 scores.

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
