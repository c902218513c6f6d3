"""The Gaussian in front of the flow: against scikit-learn, and never worse than one for all."""

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from differnet_training.gaussian import SHARES, Gaussian, PlacedMoments, best_share, shrunk_moments


def drawn(pictures=90, windows=9, dimension=6, seed=0, *, own=True):
    """Rows `(N, 1, W, D)`; with `own`, each window has its own mean and covariance."""
    random = np.random.RandomState(seed)
    truth = np.random.RandomState(99)
    maps = truth.normal(size=(windows if own else 1, dimension, dimension))
    means = truth.normal(size=(windows if own else 1, dimension))
    rows = random.normal(size=(pictures, windows, dimension))
    rows = np.einsum("pwd,wde->pwe", rows, np.broadcast_to(maps, (windows, *maps.shape[1:])))
    return (rows + means)[:, None].astype(np.float32)


def test_the_shrinkage_is_ledoit_and_wolfs_in_chunks():
    features = drawn(pictures=150)
    rows = features.reshape(-1, 6).astype(np.float64)
    mean, covariance = shrunk_moments(features)
    scale = rows.std(axis=0)
    expected = LedoitWolf().fit((rows - rows.mean(axis=0)) / scale).covariance_
    np.testing.assert_allclose(mean, rows.mean(axis=0))
    np.testing.assert_allclose(covariance, expected * np.outer(scale, scale), rtol=1e-6)


@pytest.mark.parametrize(("placed", "tolerance"), [(False, 0.05), (True, 0.3)])
def test_latents_are_white(placed, tolerance):
    """Nearly, where windows are trusted by nine tenths only."""
    features = drawn(pictures=2000)
    gaussian = Gaussian.fit(features, placed=placed)
    unseen = drawn(pictures=2000, seed=1)
    assert gaussian.squares(unseen).shape == (2000, 1, 9)
    assert gaussian.squares(unseen).mean() == pytest.approx(1.0, abs=tolerance)


def test_windows_are_trusted_where_they_differ():
    features, unseen = drawn(), drawn(seed=1)
    placed, shared = Gaussian.fit(features, placed=True), Gaussian.fit(features)
    assert placed.share >= 0.5
    assert placed.negative_log_likelihood(unseen) < shared.negative_log_likelihood(unseen)


def test_and_not_where_they_are_alike():
    """With hardly more pictures than features, windows of their own would only learn noise."""
    features, unseen = drawn(pictures=10, own=False), drawn(pictures=200, seed=1, own=False)
    placed, shared = Gaussian.fit(features, placed=True), Gaussian.fit(features)
    assert placed.share <= 0.3
    own, one = (g.negative_log_likelihood(unseen) for g in (placed, shared))
    assert own < one + 1.0


def test_the_likelihood_is_that_of_the_density():
    from scipy.stats import multivariate_normal

    features = drawn(pictures=40, windows=1)
    mean, covariance = shrunk_moments(features)
    density = multivariate_normal(mean, covariance).logpdf(features.reshape(-1, 6)).mean()
    found = Gaussian.of(mean, covariance).negative_log_likelihood(features)
    assert found + 3 * np.log(2 * np.pi) == pytest.approx(-density)


def test_each_pictures_loss_is_that_of_its_windows_densities():
    moments, pictures = PlacedMoments.of(drawn(pictures=60)), drawn(pictures=3, seed=1)
    gaussian = moments.gaussian(0.5)
    squares = 6 * gaussian.squares(pictures).mean(axis=(1, 2))
    found = moments.losses(0.5, pictures)
    np.testing.assert_allclose(found, squares - 2 * gaussian.log_det.mean(), rtol=1e-5)


def test_a_few_strange_pictures_do_not_choose_the_share():
    moments, held_out = PlacedMoments.of(drawn(pictures=60)), drawn(pictures=20, seed=1)
    expected = best_share(moments, held_out)
    held_out[:4] += 30 * np.random.RandomState(5).normal(size=held_out[:4].shape)
    in_the_mean = min(SHARES, key=lambda share: moments.losses(share, held_out).mean())
    assert in_the_mean < expected == best_share(moments, held_out)
