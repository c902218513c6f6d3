"""The Gaussian of good parts' features, which a whitened flow starts from.

One for all rows, or, where parts lie the same in every picture, one for each window of the grid
(as PaDiM has one for each position: Defard et al., 2020, arXiv:2011.08785). A window alone has
few pictures to learn a covariance from, so its own is trusted by a share only, the rest is the
shared one; held-out good pictures choose the share, and 0 is the shared Gaussian.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[np.float64]

CHUNK = 64
"""Pictures at a time, where all of them are gone through."""

SHARES = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9)
"""How far a window's own covariance may be trusted."""

LEAST_DEVIATION = 1e-3
"""A feature's standard deviation counts as at least this share of the median feature's."""

RIDGE = 0.01
"""Added to each feature's variance in a window, as a share of its variance over all windows."""


@dataclass(frozen=True)
class Gaussian:
    """Whitens rows: z = (x - mean) matrix has zero mean and unit covariance.

    Args:
        mean: `(D,) float64`, or `(W, D)` for W windows.
        matrix: `(D, D) float64`, or `(W, D, D)`.
        log_det: Of the map, `()` or `(W,)`.
        share: How far windows' own covariances are trusted; 0 for one Gaussian.
    """

    mean: Array
    matrix: Array
    log_det: Array
    share: float = 0.0

    @classmethod
    def of(
        cls, mean: Array, covariance: Array, share: float = 0.0, *, symmetric: bool = False
    ) -> Gaussian:
        """From means and positive definite covariances: W = E diag(1 / sqrt(lambda)).

        Args:
            mean: `(D,)` or `(W, D)`.
            covariance: `(D, D)` or `(W, D, D)`.
            share: Recorded.
            symmetric: Turn back into the features' axes, W = E diag(1 / sqrt(lambda)) E', so that
                a latent means the same in neighbouring windows.
        """
        # torch's solver: numpy's takes ten times as long for many small matrices.
        found = torch.linalg.eigh(torch.from_numpy(covariance))
        eigenvalues, eigenvectors = found.eigenvalues.numpy(), found.eigenvectors.numpy()
        matrix = eigenvectors / np.sqrt(eigenvalues)[..., None, :]
        if symmetric:
            matrix = matrix @ eigenvectors.swapaxes(-1, -2)
        log_det = -0.5 * np.log(eigenvalues).sum(axis=-1)
        return cls(mean, np.ascontiguousarray(matrix), log_det, share)

    @classmethod
    def fit(cls, features: NDArray[np.float32], *, placed: bool = False) -> Gaussian:
        """Fits `(N, V, ..., D)` features of good parts.

        Args:
            features: Mapped into memory, perhaps; gone through in chunks.
            placed: One Gaussian for each window; the features are `(N, V, W, D)` then. A fifth
                of the pictures choose how far the windows are trusted.
        """
        if not placed:
            return cls.of(*shrunk_moments(features))
        learned = max(2, round(0.8 * len(features)))
        share = best_share(PlacedMoments.of(features[:learned]), features[learned:])
        return PlacedMoments.of(features).gaussian(share)

    def squares(self, features: NDArray[np.floating]) -> Array:
        """Returns the mean over D of z squared, `(N, V, ...)` of `(N, V, ..., D)`."""
        return np.asarray((self._latents(features) ** 2).mean(axis=-1), np.float64)

    def negative_log_likelihood(self, features: NDArray[np.floating]) -> float:
        """Returns the mean over all rows, up to a constant; 0 of no rows."""
        total: float = sum(
            float((0.5 * (self._latents(part) ** 2).sum(axis=-1) - self.log_det).sum())
            for part in _parts(features)
        )
        return float(total / max(features.size // features.shape[-1], 1))

    def _latents(self, features: NDArray[np.floating]) -> Array:
        centred = features - self.mean
        if self.mean.ndim == 1:
            return np.asarray(centred @ self.matrix, np.float64)
        windows, dimension = self.mean.shape
        by_window = centred.reshape(-1, windows, dimension).transpose(1, 0, 2)
        z = np.matmul(by_window, self.matrix).transpose(1, 0, 2)
        return np.asarray(z.reshape(features.shape), np.float64)


def shrunk_moments(features: NDArray[np.floating]) -> tuple[Array, Array]:
    """Returns mean `(D,)` and covariance `(D, D)`, float64, of features `(N, ..., D)`.

    The covariance is shrunk as Ledoit and Wolf do (A well-conditioned estimator for
    large-dimensional covariance matrices, 2004), after scaling each feature to unit variance, and
    scaled back. Twice through the features, a chunk at a time: memory does not grow with them.
    """
    dimension = features.shape[-1]
    count = features.size // dimension
    mean = sum(rows.sum(axis=0) for rows in _chunks(features)) / count
    variance = sum(((rows - mean) ** 2).sum(axis=0) for rows in _chunks(features)) / count
    scale = floored(np.sqrt(variance))
    product, fourth = np.zeros((dimension, dimension)), 0.0
    for rows in _chunks(features):
        scaled = (rows - mean) / scale
        product += scaled.T @ scaled
        fourth += float(((scaled**2).sum(axis=1) ** 2).sum())
    correlation = product / count
    target = np.trace(correlation) / dimension
    own = float((correlation**2).sum())
    spread = max(own - dimension * target**2, 1e-12)
    share = min(max((fourth / count - own) / count, 0.0) / spread, 1.0)
    shrunk = (1 - share) * correlation + share * target * np.eye(dimension)
    return mean, shrunk * np.outer(scale, scale)


@dataclass(frozen=True)
class PlacedMoments:
    """Sums over pictures of each window's features; those of disjoint pictures add up.

    Args:
        count: Rows of each window.
        total: `(W, D) float64`, the sum.
        product: `(W, D, D) float64`, the sum of outer products.
    """

    count: int
    total: Array
    product: Array

    @classmethod
    def of(cls, features: NDArray[np.floating]) -> PlacedMoments:
        """Sums `(N, V, W, D)` features, or `(N, W, D)`."""
        windows, dimension = features.shape[-2:]
        total, product = np.zeros((windows, dimension)), np.zeros((windows, dimension, dimension))
        for part in _parts(features):
            rows = part.reshape(-1, windows, dimension).astype(np.float64).transpose(1, 0, 2)
            total += rows.sum(axis=1)
            product += rows.transpose(0, 2, 1) @ rows
        return cls(features.size // (windows * dimension), total, product)

    def __add__(self, other: PlacedMoments) -> PlacedMoments:
        return PlacedMoments(
            self.count + other.count, self.total + other.total, self.product + other.product
        )

    def gaussian(self, share: float, *, symmetric: bool = False) -> Gaussian:
        """Returns a Gaussian for each window that trusts its own covariance by `share`."""
        mean, covariance = self._mixed(share)
        if share:
            return Gaussian.of(mean, covariance, share, symmetric=symmetric)
        one = Gaussian.of(mean, covariance[0], share, symmetric=symmetric)
        return Gaussian(mean, np.broadcast_to(one.matrix, covariance.shape), one.log_det, share)

    def losses(self, share: float, held_out: NDArray[np.floating]) -> Array:
        """Returns -2 log p of each of N pictures `(N, ..., W, D)`, the mean over its rows: `(N,)`.

        Up to a constant. By Cholesky's factors: `gaussian` would take five times as long.
        """
        mean, covariance = self._mixed(share)
        low = torch.linalg.cholesky(torch.from_numpy(covariance))
        constant = 2.0 * float(low.diagonal(dim1=-2, dim2=-1).log().sum()) / len(mean)
        found = []
        for part in _parts(held_out):
            rows = (part - mean).reshape(-1, *mean.shape).transpose(1, 2, 0)
            z = torch.linalg.solve_triangular(low, torch.from_numpy(rows), upper=False)
            by_row = z.square().sum(dim=1).mean(dim=0).numpy()
            found.append(by_row.reshape(len(part), -1).mean(axis=1))
        return np.concatenate(found) + constant

    def _mixed(self, share: float) -> tuple[Array, Array]:
        """Returns means `(W, D)` and covariances `(W, D, D)` that trust a window by `share`."""
        mean = self.total / self.count
        covariance = self.product / self.count - mean[:, :, None] * mean[:, None, :]
        scale = floored(np.sqrt(covariance.diagonal(axis1=1, axis2=2).mean(axis=0).clip(0)))
        outer = np.outer(scale, scale)
        covariance /= outer
        shared = covariance.mean(axis=0)
        covariance *= share
        covariance += (1 - share) * shared + RIDGE * np.eye(len(shared))
        covariance *= outer
        return mean, covariance


def floored(deviations: Array) -> Array:
    """Returns standard deviations `(D,)`, none far below the others.

    A channel that is dead in all training pictures but one, or all, would otherwise make any later
    sign of life as unlikely as can be.
    """
    alive = deviations[deviations > 0]
    least = LEAST_DEVIATION * float(np.median(alive)) if alive.size else 1e-12
    floor: Array = np.maximum(deviations, least)
    return floor


def best_share(moments: PlacedMoments, held_out: NDArray[np.floating]) -> float:
    """Returns the share for which held-out `(N, ..., W, D)` are most likely.

    The median picture decides: a few strange ones are so unlikely that they would outweigh all
    others in the mean, and ask for smaller shares.
    """
    losses = {share: float(np.median(moments.losses(share, held_out))) for share in SHARES}
    return min(losses, key=losses.__getitem__)


def _parts(features: NDArray[np.floating]) -> Iterator[NDArray[np.floating]]:
    for start in range(0, len(features), CHUNK):
        yield features[start : start + CHUNK]


def _chunks(features: NDArray[np.floating]) -> Iterator[Array]:
    for part in _parts(features):
        yield part.reshape(-1, features.shape[-1]).astype(np.float64)
