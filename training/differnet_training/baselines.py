"""The baselines that a flow must beat: a Gaussian and nearest neighbours on the same features."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save
from sklearn.neighbors import NearestNeighbors

from differnet_runtime.errors import ModelFileError
from differnet_runtime.files import write_bytes

from .gaussian import Gaussian, chunks
from .model import image_scores

NEIGHBOURS = 3

BANK = 5_000
"""Most rows that are searched for neighbours; an image with 64 windows gives 64."""


class Baselines:
    """Scores by the Gaussian that the flow starts from, and by the 3 nearest neighbours.

    Neighbours are searched among features scaled to unit variance, one row per view and window.
    Rows are combined to an image's score as the flow's are; see `model.image_scores`.

    Args:
        gaussian: Fitted to the same features; None for a model with heads, which hold their own.
        bank: `(M, D) float32` training features.

    Example:
        >>> baselines = Baselines.fit(features.values)
        >>> scores = baselines.nearest(test.values)
    """

    def __init__(self, gaussian: Gaussian | None, bank: NDArray[np.float32]) -> None:
        self._gaussian, self._bank = gaussian, bank
        self._centre, self._scale = bank.mean(axis=0), bank.std(axis=0) + 1e-12
        self._neighbours = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(bank)))
        self._neighbours.fit(self._scaled(bank))

    @classmethod
    def fit(cls, features: NDArray[np.float32], *, placed: bool = False) -> Baselines:
        """Fits both to `(N, V, ..., D) float32` features of normal images.

        Args:
            features: Training features; at most `BANK` rows are kept for the search.
            placed: Fit one Gaussian for each window; see `Gaussian.fit`.
        """
        return cls(Gaussian.fit(features, placed=placed), bank_of(features))

    def gaussian(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Returns the Gaussian's scores `(N,)` of `(N, V, ..., D)`: means of z squared."""
        assert self._gaussian is not None
        return in_chunks(features, self._gaussian.squares)

    def nearest(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Returns mean distances `(N,)` to the nearest neighbours of `(N, V, ..., D)`."""
        return in_chunks(features, self.distances)

    def distances(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Returns mean distances `(...)` to the nearest neighbours of rows `(..., D)`."""
        rows = self._scaled(features.reshape(-1, features.shape[-1]))
        means = self._neighbours.kneighbors(rows)[0].mean(axis=1)
        return np.asarray(means.reshape(features.shape[:-1]))

    def save(self, path: Path) -> None:
        """Writes the baselines."""
        tensors = {"bank": torch.from_numpy(np.ascontiguousarray(self._bank))}
        if self._gaussian is not None:
            tensors["mean"] = torch.from_numpy(self._gaussian.mean)
            tensors["matrix"] = torch.from_numpy(self._gaussian.matrix)
        write_bytes(path, save(tensors))

    @classmethod
    def load(cls, path: Path) -> Baselines:
        """Reads baselines.

        Raises:
            ModelFileError: The file is missing or damaged.
        """
        try:
            tensors = {name: tensor.numpy() for name, tensor in load(path.read_bytes()).items()}
            gaussian = None
            if (mean := tensors.get("mean")) is not None:
                gaussian = Gaussian(mean, tensors["matrix"], np.zeros(mean.shape[:-1]))
            return cls(gaussian, tensors["bank"])
        except Exception as error:  # safetensors' and numpy's errors share no base class
            raise ModelFileError(
                f"{path} can't be read ({error}); train the model again"
            ) from error

    def _scaled(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.asarray((rows - self._centre) / self._scale)


def bank_of(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns at most `BANK` rows of `(..., D)`, drawn at random by a fixed seed."""
    rows = features.reshape(-1, features.shape[-1])
    if len(rows) > BANK:
        rows = rows[np.sort(np.random.RandomState(0).permutation(len(rows))[:BANK])]
    return rows


def in_chunks(
    features: NDArray[np.float32], score: Callable[[NDArray[np.float32]], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Scores images in chunks.

    Args:
        features: `(N, V, ..., D)`, which may be memory-mapped.
        score: Maps `(M, V, ..., D)` to `(M, V, ...)`.

    Returns:
        `(N,)`; see `model.image_scores`.
    """
    return np.concatenate([image_scores(score(part)) for part in chunks(features)])
