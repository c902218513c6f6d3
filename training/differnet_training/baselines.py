"""What a flow must beat to earn its place: a Gaussian and nearest neighbours, same features."""

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

from .trainer import CHUNK, shrunk_moments

NEIGHBOURS = 3

BANK = 5_000
"""Most rows that are kept to search for neighbours; a picture of 64 windows gives 64."""


class Baselines:
    """A Gaussian (Mahalanobis distance) and the mean distance to the 3 nearest neighbours.

    Both see features scaled to unit variance, one row per view and window, and make a picture's
    score of them as the flow does: see `picture_scores`.

    Args:
        mean: `(D,) float64`.
        covariance: `(D, D) float64`, positive definite.
        bank: `(M, D) float32` training features.
    """

    def __init__(
        self, mean: NDArray[np.float64], covariance: NDArray[np.float64], bank: NDArray[np.float32]
    ) -> None:
        self._mean, self._covariance, self._bank = mean, covariance, bank
        self._factor = np.linalg.cholesky(np.linalg.inv(covariance))
        self._scale = np.sqrt(np.diag(covariance))
        self._neighbours = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(bank)))
        self._neighbours.fit(self._scaled(bank))

    @classmethod
    def fit(cls, features: NDArray[np.float32]) -> Baselines:
        """Fits both to `(N, V, ..., D) float32` features of good parts.

        Of more than `BANK` rows, so many are kept, drawn at random by a fixed seed.
        """
        rows = features.reshape(-1, features.shape[-1])
        if len(rows) > BANK:
            rows = rows[np.sort(np.random.RandomState(0).permutation(len(rows))[:BANK])]
        return cls(*shrunk_moments(features), rows)

    def gaussian(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Returns squared Mahalanobis distances `(N,)` of `(N, V, ..., D)`."""
        return in_chunks(features, lambda rows: (((rows - self._mean) @ self._factor) ** 2).sum(1))

    def nearest(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Returns mean distances `(N,)` to the nearest neighbours of `(N, V, ..., D)`."""
        nearest = self._neighbours.kneighbors
        return in_chunks(features, lambda rows: nearest(self._scaled(rows))[0].mean(axis=1))

    def save(self, path: Path) -> None:
        """Writes the baselines."""
        tensors = {
            "mean": torch.from_numpy(self._mean),
            "covariance": torch.from_numpy(self._covariance),
            "bank": torch.from_numpy(np.ascontiguousarray(self._bank)),
        }
        write_bytes(path, save(tensors))

    @classmethod
    def load(cls, path: Path) -> Baselines:
        """Reads baselines.

        Raises:
            ModelFileError: The file is missing or damaged.
        """
        try:
            tensors = load(path.read_bytes())
            return cls(*(tensors[key].numpy() for key in ("mean", "covariance", "bank")))
        except Exception as error:  # safetensors' and numpy's errors share no base class
            raise ModelFileError(
                f"{path} can't be read ({error}); train the model again"
            ) from error

    def _scaled(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        scaled: NDArray[np.float64] = (rows - self._mean) / self._scale
        return scaled


def picture_scores(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Makes `(N,)` scores of `(N, V)` or, with windows, `(N, V, n * n)` ones.

    The mean over the views, then the greatest of the windows.
    """
    means: NDArray[np.float64] = rows.mean(axis=1)
    return means if means.ndim == 1 else means.max(axis=1)


def in_chunks(
    features: NDArray[np.float32], score: Callable[[NDArray[np.float32]], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Scores the pictures of `(N, V, ..., D)` features, some at a time.

    Args:
        features: Of N pictures, a file mapped into memory perhaps.
        score: From `(M, D)` rows to `(M,)`.

    Returns:
        `(N,)`; see `picture_scores`.
    """
    found = [
        picture_scores(score(part.reshape(-1, part.shape[-1])).reshape(part.shape[:-1]))
        for part in (features[k : k + CHUNK] for k in range(0, len(features), CHUNK))
    ]
    return np.concatenate(found)
