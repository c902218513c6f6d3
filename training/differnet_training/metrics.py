"""Figures of merit with their intervals. Test data is judged by them, and chooses nothing.

A mask of a defect's pixels, as the model sees its picture.

How well anomaly maps find the pixels of a defect; exact, from one sort of all pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy.stats import beta
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from differnet_runtime.errors import DataError, FrameError, ImageReadError
from differnet_runtime.images import read_image
from differnet_runtime.inspection.operating_points import Scores, ranked
from differnet_runtime.inspection.preprocess import preprocess
from differnet_runtime.model_file.contract import InputContract

_JPEG = (".jpg", ".jpeg")
_HALF = 127
"""JPEG leaves grey values beside an edge; other files mark a defect by any value above 0."""


def read_mask(path: Path, size: tuple[int, ...], contract: InputContract) -> NDArray[np.bool_]:
    """Reads a mask, and brings it to the model's input as its picture was brought.

    Args:
        path: The mask's file; black off the defect.
        size: Height and width of its picture.
        contract: How the picture becomes the input.

    Returns:
        `(contract.height, contract.width) bool`, true where at least half of a pixel is marked, or
        any of it where no pixel is marked by half.

    Raises:
        DataError: It can't be read, has another size than its picture, or marks nothing that the
            model sees; names the file.
    """
    try:
        mask = read_image(path)
    except ImageReadError as error:
        raise DataError(str(error)) from error
    if mask.shape[:2] != size[:2]:
        raise DataError(
            f"{path}: the mask has {mask.shape[1]} x {mask.shape[0]} pixels, its picture "
            f"{size[1]} x {size[0]}"
        )
    above = _HALF if path.suffix.lower() in _JPEG else 0
    marked = np.where(mask > above, 255, 0).astype(np.uint8)
    try:
        covered = preprocess(marked, contract)[:, :, 0]
    except FrameError as error:
        raise DataError(f"{path}: {error}") from error
    if not covered.any():
        raise DataError(f"{path}: the mask marks no pixel that the model sees")
    # A crack thinner than a pixel of the input covers none of them by half.
    seen: NDArray[np.bool_] = covered > (_HALF if covered.max() > _HALF else 0)
    return seen


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


AUPRO_LIMIT = 0.3
"""False-positive rate up to which the per-region overlap is integrated (Bergmann et al. 2020)."""

Map = NDArray[np.float32]
Mask = NDArray[np.bool_]
Curve = NDArray[np.float64]


def pixel_auroc(maps: Sequence[Map], masks: Sequence[Mask]) -> float:
    """Returns the area under the ROC curve over all pixels.

    Args:
        maps: `(H, W) float32` each, higher is more anomalous.
        masks: `(H, W) bool` each, true on the defect.

    Raises:
        DataError: Shapes differ, a value is not finite, or one class has no pixels.
    """
    return _area(*_curve(maps, masks, by_region=False), limit=1.0)


def aupro(maps: Sequence[Map], masks: Sequence[Mask], limit: float = AUPRO_LIMIT) -> float:
    """Returns the area under the per-region overlap, up to a false-positive rate, over that rate.

    Every connected region of a mask counts the same, however small (Bergmann et al., "Uninformed
    Students", CVPR 2020). 1 is perfect; a map that knows nothing gets about half of the limit.

    Args:
        maps: `(H, W) float32` each, higher is more anomalous.
        masks: `(H, W) bool` each, true on the defect; 8-connected pixels are a region.
        limit: The false-positive rate to integrate up to, in (0, 1].

    Raises:
        DataError: Shapes differ, a value is not finite, or one class has no pixels.
    """
    return _area(*_curve(maps, masks, by_region=True), limit=limit)


def _area(false: Curve, found: Curve, limit: float) -> float:
    """Integrates by trapezoids from 0 to `limit`, and divides by it."""
    inside = false <= limit
    x = np.append(false[inside], limit)
    y = np.append(found[inside], np.interp(limit, false, found))
    return float(((x[1:] - x[:-1]) * (y[1:] + y[:-1]) / 2).sum() / limit)


def _curve(maps: Sequence[Map], masks: Sequence[Mask], *, by_region: bool) -> tuple[Curve, Curve]:
    """Returns the share of good pixels called defective, and of the defect found, from 0 on."""
    values = np.concatenate([_checked(one, mask).ravel() for one, mask in _pairs(maps, masks)])
    weights = np.concatenate([_weights(mask, by_region=by_region).ravel() for mask in masks])
    good = weights == 0
    if good.all() or not good.any():
        raise DataError("pixel metrics need pixels of both kinds: on a defect, and off it")
    order = np.argsort(-values, kind="stable")
    values, weights, good = values[order], weights[order], good[order]
    last = np.append(values[1:] != values[:-1], True)  # equal values pass a threshold together
    found = np.cumsum(weights, dtype=np.float64)[last] / weights.sum(dtype=np.float64)
    false = np.cumsum(good)[last] / good.sum()
    return np.append(0.0, false), np.append(0.0, found)


def _pairs(maps: Sequence[Map], masks: Sequence[Mask]) -> list[tuple[Map, Mask]]:
    if len(maps) != len(masks) or not maps:
        raise DataError(f"each map needs a mask: received {len(maps)} maps, {len(masks)} masks")
    return list(zip(maps, masks, strict=True))


def _checked(values: Map, mask: Mask) -> Map:
    if values.shape != mask.shape:
        raise DataError(f"a map of {values.shape} pixels has a mask of {mask.shape}")
    if not np.isfinite(values).all():
        raise DataError("a map holds values that are not finite")
    return values


def _weights(mask: Mask, *, by_region: bool) -> NDArray[np.float64]:
    """Weighs the defect's pixels: 1 each, or 1 for each region."""
    if not by_region:
        return mask.astype(np.float64)
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    sizes = np.bincount(labels.ravel(), minlength=count).astype(np.float64)
    share = 1.0 / sizes
    share[0] = 0.0
    weights: NDArray[np.float64] = share[labels]
    return weights
