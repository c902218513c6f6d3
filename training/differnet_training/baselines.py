"""What a flow must beat to earn its place: a Gaussian and nearest neighbours, same features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save
from sklearn.neighbors import NearestNeighbors

from differnet_runtime.errors import ModelFileError
from differnet_runtime.files import write_bytes

from .trainer import shrunk_moments

NEIGHBOURS = 3


class Baselines:
    """A Gaussian (Mahalanobis distance) and the mean distance to the 3 nearest neighbours.

    Both see features scaled to unit variance, one row per view, and average over the views of a
    picture, as the flow's score does.

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
        """Fits both to `(N, V, D) float32` features of good parts."""
        rows = features.reshape(-1, features.shape[-1])
        mean, covariance = shrunk_moments(rows.astype(np.float64))
        return cls(mean, covariance, rows)

    def gaussian(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Returns squared Mahalanobis distances `(N,)` of `(N, V, D)`, averaged over views."""
        rows = features.reshape(-1, features.shape[-1]) - self._mean
        distances = ((rows @ self._factor) ** 2).sum(axis=1)
        return self._per_picture(distances, features)

    def nearest(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Returns mean distances `(N,)` to the nearest neighbours, averaged over views."""
        rows = features.reshape(-1, features.shape[-1])
        distances = self._neighbours.kneighbors(self._scaled(rows))[0].mean(axis=1)
        return self._per_picture(distances, features)

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

    @staticmethod
    def _per_picture(
        distances: NDArray[np.float64], features: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        means: NDArray[np.float64] = distances.reshape(features.shape[:2]).mean(axis=1)
        return means
