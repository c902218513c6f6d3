"""Figures of merit with their intervals."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy.stats import beta
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from differnet_runtime.inspection.operating_points import Scores, ranked

CONFIDENCE = 0.95
RESAMPLES = 1000


class Figure(BaseModel):
    """A value with its confidence interval."""

    model_config = ConfigDict(frozen=True)

    value: float
    low: float
    high: float
    confidence: float = CONFIDENCE


class Rate(Figure):
    """A share, `count` of `of`, with Clopper and Pearson's exact interval."""

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

    If every pair is in order, no resample can show an error and the percentiles would claim
    certainty: the interval is then the exact one of min(good, defects) independent pairs.
    """
    value, pairs = auroc(good, defect), min(len(good), len(defect))
    if value in (0.0, 1.0):
        exact = rate(round(value * pairs), pairs)
        return Figure(value=value, low=exact.low, high=exact.high)
    low, high = _interval(_resampled(good, defect, seed))
    return Figure(value=value, low=low, high=high)


def paired_difference(
    first: tuple[Scores, Scores], second: tuple[Scores, Scores], *, seed: int = 0
) -> Figure:
    """Returns the AUROC of `first` minus `second`, (good, defect) each, on the same resamples."""
    low, high = _interval(_resampled(*first, seed) - _resampled(*second, seed))
    return Figure(value=auroc(*first) - auroc(*second), low=low, high=high)


def _resampled(good: Scores, defect: Scores, seed: int) -> Scores:
    """Returns the AUROC of `RESAMPLES` resamples; the same ones for equal counts and seeds."""
    random = np.random.default_rng(seed)
    good, defect = ranked(good), ranked(defect)
    return np.array(
        [
            _fast_auroc(
                good[random.integers(0, len(good), len(good))],
                defect[random.integers(0, len(defect), len(defect))],
            )
            for _ in range(RESAMPLES)
        ]
    )


def _interval(values: Scores) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _fast_auroc(good: Scores, defect: Scores) -> float:
    """Returns the share of (good, defect) pairs in the right order, ties counting half."""
    ordered = np.sort(good)
    below = np.searchsorted(ordered, defect, side="left")
    up_to = np.searchsorted(ordered, defect, side="right")
    return float((below + up_to).mean() / (2 * len(good)))


def rate(count: int, of: int) -> Rate:
    """Returns `count / of` with Clopper and Pearson's interval (1934)."""
    tail = (1 - CONFIDENCE) / 2
    low = beta.ppf(tail, count, of - count + 1) if count > 0 else 0.0
    high = beta.ppf(1 - tail, count + 1, of - count) if count < of else 1.0
    return Rate(value=count / of, low=float(low), high=float(high), count=count, of=of)


def rejected(scores: Scores, threshold: float) -> int:
    """Returns the number of scores above the threshold or not finite."""
    return int((ranked(scores) > threshold).sum())


def roc(good: Scores, defect: Scores) -> tuple[Scores, Scores]:
    """Returns the ROC curve: false-reject rates and detection rates."""
    false_rejects, detected, _ = roc_curve(*_labelled(good, defect))
    return false_rejects, detected


def _labelled(good: Scores, defect: Scores) -> tuple[Scores, Scores]:
    labels = np.concatenate([np.zeros(len(good)), np.ones(len(defect))])
    return labels, ranked(np.concatenate([good, defect]))
