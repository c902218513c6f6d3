"""What a flow must beat to earn its place: a Gaussian and nearest neighbours, same features."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save
from sklearn.neighbors import NearestNeighbors

from differnet_runtime.errors import ModelFileError
from differnet_runtime.files import write_bytes

from .gaussian import CHUNK, Gaussian
from .model import neighbourhood_means

NEIGHBOURS = 3

BANK = 5_000
"""Most rows that are kept to search for neighbours; a picture of 64 windows gives 64."""


class Baselines:
    """The Gaussian that the flow starts from, and the mean distance to the 3 nearest neighbours.

    Neighbours are searched among features scaled to unit variance, one row per view and window.
    A picture's score is made of its rows as the flow's is: see `picture_scores`.

    Args:
        gaussian: Of the same features; None for a model with heads, which hold their own.
        bank: `(M, D) float32` training features.
    """

    def __init__(self, gaussian: Gaussian | None, bank: NDArray[np.float32]) -> None:
        self._gaussian, self._bank = gaussian, bank
        self._centre, self._scale = bank.mean(axis=0), bank.std(axis=0) + 1e-12
        self._neighbours = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(bank)))
        self._neighbours.fit(self._scaled(bank))

    @classmethod
    def fit(cls, features: NDArray[np.float32], *, placed: bool = False) -> Baselines:
        """Fits both to `(N, V, ..., D) float32` features of good parts.

        Of more than `BANK` rows, so many are kept, drawn at random by a fixed seed.
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
        means: NDArray[np.float64] = self._neighbours.kneighbors(rows)[0].mean(axis=1)
        return means.reshape(features.shape[:-1])

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
            if "mean" not in tensors:
                return cls(None, tensors["bank"])
            mean = tensors["mean"]
            gaussian = Gaussian(mean, tensors["matrix"], np.zeros(mean.shape[:-1]))
            return cls(gaussian, tensors["bank"])
        except Exception as error:  # safetensors' and numpy's errors share no base class
            raise ModelFileError(
                f"{path} can't be read ({error}); train the model again"
            ) from error

    def _scaled(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        scaled: NDArray[np.float64] = (rows - self._centre) / self._scale
        return scaled


def bank_of(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns at most `BANK` rows of `(..., D)`, drawn at random by a fixed seed."""
    rows = features.reshape(-1, features.shape[-1])
    if len(rows) > BANK:
        rows = rows[np.sort(np.random.RandomState(0).permutation(len(rows))[:BANK])]
    return rows


def picture_scores(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Makes `(N,)` scores of `(N, V)` or, with windows, `(N, V, n * n)` ones.

    The mean over the views; of windows, the greatest mean of 3 x 3 neighbours (those there are).
    """
    means: NDArray[np.float64] = rows.mean(axis=1)
    if means.ndim == 1:
        return means
    n = math.isqrt(means.shape[1])
    maps = torch.from_numpy(means.reshape(-1, 1, n, n))
    return neighbourhood_means(maps).flatten(1).amax(dim=1).numpy()


def in_chunks(
    features: NDArray[np.float32], score: Callable[[NDArray[np.float32]], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Scores the pictures of `(N, V, ..., D)` features, some at a time.

    Args:
        features: Of N pictures, a file mapped into memory perhaps.
        score: From `(M, V, ..., D)` to `(M, V, ...)`.

    Returns:
        `(N,)`; see `picture_scores`.
    """
    parts = (features[k : k + CHUNK] for k in range(0, len(features), CHUNK))
    return np.concatenate([picture_scores(score(part)) for part in parts])
