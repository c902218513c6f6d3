"""The Gaussian of normal images' features, which a whitened flow starts from.

There is one for all rows, or one for each window of the grid if parts lie the same in every image
(as PaDiM has one for each position: Defard et al. 2020, arXiv:2011.08785). One window has few
samples to estimate a covariance from, so its own covariance is blended with the shared one:

    C = share * C_window + (1 - share) * C_shared

Held-out normal images choose the share.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[np.float64]
ScalarT = TypeVar("ScalarT", bound=np.generic)

CHUNK = 64
"""Number of images processed at a time."""

SHARES = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9)
"""Candidates for the weight of a window's own covariance."""

LEAST_DEVIATION = 1e-3
"""Lower bound of a feature's standard deviation, as a share of the median feature's."""

RIDGE = 0.01
"""Added to each feature's variance in a window, as a share of its mean variance."""


@dataclass(frozen=True)
class Gaussian:
    """Whitens rows: z = (x - mean) matrix has zero mean and unit covariance.

    Args:
        mean: `(D,) float64`, or `(W, D)` for W windows.
        matrix: `(D, D) float64`, or `(W, D, D)`.
        log_det: log |det matrix|, `()` or `(W,)`.
        share: Weight of the windows' own covariances, 0 to 1; 0 for one Gaussian.

    Example:
        >>> gaussian = Gaussian.fit(np.random.randn(100, 1, 8).astype(np.float32))
        >>> gaussian.squares(np.zeros((5, 1, 8), np.float32)).shape
        (5, 1)
    """

    mean: Array
    matrix: Array
    log_det: Array
    share: float = 0.0

    @classmethod
    def of(
        cls, mean: Array, covariance: Array, share: float = 0.0, *, symmetric: bool = False
    ) -> Gaussian:
        """Builds one from means and positive definite covariances: W = E diag(1 / sqrt(lambda)).

        Args:
            mean: `(D,)` or `(W, D)`.
            covariance: `(D, D)` or `(W, D, D)`.
            share: Weight of the windows' own covariances, to be recorded.
            symmetric: Rotate back to the features' axes, W = E diag(1 / sqrt(lambda)) E', so that
                a latent means the same in neighbouring windows.
        """
        # torch's solver: numpy's takes ten times as long for many small matrices.
        eigenvalues, eigenvectors = (
            found.numpy() for found in torch.linalg.eigh(torch.from_numpy(covariance))
        )
        matrix = eigenvectors / np.sqrt(eigenvalues)[..., None, :]
        if symmetric:
            matrix = matrix @ eigenvectors.swapaxes(-1, -2)
        log_det = -0.5 * np.log(eigenvalues).sum(axis=-1)
        return cls(mean, np.ascontiguousarray(matrix), log_det, share)

    @classmethod
    def fit(cls, features: NDArray[np.float32], *, placed: bool = False) -> Gaussian:
        """Fits features of normal images.

        Args:
            features: `(N, V, ..., D) float32`, read in chunks, so they may be memory-mapped.
            placed: Fit one Gaussian for each window of `(N, V, W, D)`; a fifth of the images
                chooses the share.
        """
        if not placed:
            return cls.of(*shrunk_moments(features))
        learned = max(2, round(0.8 * len(features)))
        share = best_share(PlacedMoments.of(features[:learned]), features[learned:])
        return PlacedMoments.of(features).gaussian(share)

    def squares(self, features: NDArray[np.floating]) -> Array:
        """Returns the mean over D of z squared: `(N, V, ..., D) -> (N, V, ...) float64`."""
        return np.asarray((self._latents(features) ** 2).mean(axis=-1), np.float64)

    def negative_log_likelihood(self, features: NDArray[np.floating]) -> float:
        """Returns the mean negative log-likelihood of all rows, up to a constant; 0 for no rows."""
        total: float = sum(
            float((0.5 * (self._latents(part) ** 2).sum(axis=-1) - self.log_det).sum())
            for part in chunks(features)
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

    The covariance of the features, scaled to unit variance, is shrunk towards a multiple of the
    identity (Ledoit and Wolf, A well-conditioned estimator for large-dimensional covariance
    matrices, 2004) and scaled back. The features are read in chunks: memory does not grow with N.
    """
    dimension = features.shape[-1]
    count = features.size // dimension
    mean = sum(rows.sum(axis=0) for rows in _float_rows(features)) / count
    variance = sum(((rows - mean) ** 2).sum(axis=0) for rows in _float_rows(features)) / count
    scale = floored(np.sqrt(variance))
    product, fourth = np.zeros((dimension, dimension)), 0.0
    for rows in _float_rows(features):
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
    """Sums over images of each window's features; `+` joins those of disjoint images.

    Args:
        count: Number of rows summed for each window of a view.
        total: `(V, W, D) float64`, the sum of each of V views. The first view is the images as they
            are; the others are mirrored copies, which have their own means and add to the
            covariance only.
        product: `(W, D, D) float64`, the sum of outer products over all views.
    """

    count: int
    total: Array
    product: Array

    @classmethod
    def of(cls, features: NDArray[np.floating]) -> PlacedMoments:
        """Sums `(N, V, W, D)` features, or `(N, W, D)`; all V count as rows of one view."""
        windows, dimension = features.shape[-2:]
        total, product = np.zeros((windows, dimension)), np.zeros((windows, dimension, dimension))
        for part in chunks(features):
            rows = part.reshape(-1, windows, dimension).astype(np.float64).transpose(1, 0, 2)
            total += rows.sum(axis=1)
            product += rows.transpose(0, 2, 1) @ rows
        return cls(features.size // (windows * dimension), total[None], product)

    def with_view(self, other: PlacedMoments) -> PlacedMoments:
        """Adds the sums of another view of the same images, which keeps its own mean."""
        return PlacedMoments(
            self.count, np.concatenate([self.total, other.total]), self.product + other.product
        )

    def __add__(self, other: PlacedMoments) -> PlacedMoments:
        return PlacedMoments(
            self.count + other.count, self.total + other.total, self.product + other.product
        )

    def gaussian(self, share: float, *, symmetric: bool = False) -> Gaussian:
        """Returns a Gaussian for each window, given the weight of its own covariance."""
        mean, covariance = self._mixed(share)
        if share:
            return Gaussian.of(mean, covariance, share, symmetric=symmetric)
        one = Gaussian.of(mean, covariance[0], share, symmetric=symmetric)
        return Gaussian(mean, np.broadcast_to(one.matrix, covariance.shape), one.log_det, share)

    def losses(self, share: float, held_out: NDArray[np.floating]) -> Array:
        """Returns -2 log p of each of N images `(N, ..., W, D)`, averaged over its rows: `(N,)`.

        The result is exact up to a constant. Cholesky factors take a fifth of the time of
        `gaussian`.
        """
        mean, covariance = self._mixed(share)
        low = torch.linalg.cholesky(torch.from_numpy(covariance))
        constant = 2.0 * float(low.diagonal(dim1=-2, dim2=-1).log().sum()) / len(mean)
        found = []
        for part in chunks(held_out):
            rows = (part - mean).reshape(-1, *mean.shape).transpose(1, 2, 0)
            z = torch.linalg.solve_triangular(low, torch.from_numpy(rows), upper=False)
            by_row = z.square().sum(dim=1).mean(dim=0).numpy()
            found.append(by_row.reshape(len(part), -1).mean(axis=1))
        return np.concatenate(found) + constant

    def _mixed(self, share: float) -> tuple[Array, Array]:
        """Returns means `(W, D)` and blended covariances `(W, D, D)`."""
        means = self.total / self.count
        outer_means = np.einsum("vwi,vwj->wij", means, means)
        mean, covariance = means[0], (self.product / self.count - outer_means) / len(means)
        scale = floored(np.sqrt(covariance.diagonal(axis1=1, axis2=2).mean(axis=0).clip(0)))
        outer = np.outer(scale, scale)
        covariance /= outer
        shared = covariance.mean(axis=0)
        covariance *= share
        covariance += (1 - share) * shared + RIDGE * np.eye(len(shared))
        covariance *= outer
        return mean, covariance


def floored(deviations: Array) -> Array:
    """Raises standard deviations `(D,)` to at least `LEAST_DEVIATION` of their median.

    A channel that is constant over the training images would otherwise make any later change of it
    extremely unlikely.
    """
    alive = deviations[deviations > 0]
    least = LEAST_DEVIATION * float(np.median(alive)) if alive.size else 1e-12
    return np.asarray(np.maximum(deviations, least), np.float64)


def best_share(moments: PlacedMoments, held_out: NDArray[np.floating]) -> float:
    """Returns the share for which held-out features `(N, ..., W, D)` are most likely.

    The median image decides: in the mean, a few outliers would outweigh all others.
    """
    losses = {share: median_loss(moments, share, held_out) for share in SHARES}
    return min(losses, key=losses.__getitem__)


def median_loss(moments: PlacedMoments, share: float, held_out: NDArray[np.floating]) -> float:
    """Returns -2 log p of the median held-out image; see `PlacedMoments.losses`."""
    return float(np.median(moments.losses(share, held_out)))


def chunks(values: NDArray[ScalarT]) -> Iterator[NDArray[ScalarT]]:
    """Yields the rows of an array in slices of `CHUNK`."""
    for start in range(0, len(values), CHUNK):
        yield values[start : start + CHUNK]


def _float_rows(features: NDArray[np.floating]) -> Iterator[Array]:
    for part in chunks(features):
        yield part.reshape(-1, features.shape[-1]).astype(np.float64)
