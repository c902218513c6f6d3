"""Figures of merit with their intervals. Test data is judged by them, and chooses nothing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy.stats import beta
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from differnet_runtime.operating_points import Scores, ranked

CONFIDENCE = 0.95
RESAMPLES = 1000


class Figure(BaseModel):
    """A value with its interval."""

    model_config = ConfigDict(frozen=True)

    value: float
    low: float
    high: float
    confidence: float = CONFIDENCE


class Rate(Figure):
    """A share: `count` of `of`, with Clopper and Pearson's exact interval."""

    count: int
    of: int


def auroc(good: Scores, defect: Scores) -> float:
    """Returns the area under the ROC curve."""
    return float(roc_auc_score(*_labelled(good, defect)))


def aupr(good: Scores, defect: Scores) -> float:
    """Returns the average precision, defects as the positive class."""
    return float(average_precision_score(*_labelled(good, defect)))


def bootstrap_auroc(good: Scores, defect: Scores, *, seed: int = 0) -> Figure:
    """Returns the AUROC with a percentile interval from a stratified bootstrap.

    Where every pair is in order no resample can show an error, and the percentiles would claim
    certainty: the interval is then the exact one of min(good, defects) independent pairs.
    """
    values = [
        _fast_auroc(ranked(good)[g], ranked(defect)[d])
        for g, d in _resamples(len(good), len(defect), seed)
    ]
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    value = auroc(good, defect)
    if value in (0.0, 1.0):
        exact = rate(round(value * min(len(good), len(defect))), min(len(good), len(defect)))
        low, high = exact.low, exact.high
    return Figure(value=value, low=float(low), high=float(high))


def paired_difference(
    first: tuple[Scores, Scores], second: tuple[Scores, Scores], *, seed: int = 0
) -> Figure:
    """Returns AUROC of `first` minus `second`, (good, defect) each, on the same resamples."""
    (good_a, defect_a), (good_b, defect_b) = first, second
    values = [
        _fast_auroc(ranked(good_a)[g], ranked(defect_a)[d])
        - _fast_auroc(ranked(good_b)[g], ranked(defect_b)[d])
        for g, d in _resamples(len(good_a), len(defect_a), seed)
    ]
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Figure(value=auroc(*first) - auroc(*second), low=float(low), high=float(high))


def rate(count: int, of: int) -> Rate:
    """Returns `count / of` with Clopper and Pearson's interval (1934)."""
    tail = (1 - CONFIDENCE) / 2
    low = beta.ppf(tail, count, of - count + 1) if count > 0 else 0.0
    high = beta.ppf(1 - tail, count + 1, of - count) if count < of else 1.0
    return Rate(value=count / of, low=float(low), high=float(high), count=count, of=of)


def rejected(scores: Scores, threshold: float) -> int:
    """Counts the parts that a machine rejects: above the threshold, or not finite."""
    return int((ranked(scores) > threshold).sum())


def roc(good: Scores, defect: Scores) -> tuple[Scores, Scores]:
    """Returns the ROC curve: false-reject rates and detection rates."""
    false_rejects, detected, _ = roc_curve(*_labelled(good, defect))
    return false_rejects, detected


def _labelled(good: Scores, defect: Scores) -> tuple[Scores, Scores]:
    labels = np.concatenate([np.zeros(len(good)), np.ones(len(defect))])
    return labels, ranked(np.concatenate([good, defect]))


def _resamples(
    good: int, defect: int, seed: int
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    random = np.random.default_rng(seed)
    return [
        (random.integers(0, good, good), random.integers(0, defect, defect))
        for _ in range(RESAMPLES)
    ]


def _fast_auroc(good: Scores, defect: Scores) -> float:
    """The share of (good, defect) pairs in the right order, ties half."""
    ordered = np.sort(good)
    below = np.searchsorted(ordered, defect, side="left")
    up_to = np.searchsorted(ordered, defect, side="right")
    return float((below + up_to).mean() / (2 * len(good)))
