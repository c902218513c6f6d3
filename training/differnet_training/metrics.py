"""Figures of merit with their intervals, and how well anomaly maps find the pixels of a defect."""

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

CONFIDENCE = 0.95
RESAMPLES = 1000
AUPRO_LIMIT = 0.3
"""False-positive rate up to which the per-region overlap is integrated (Bergmann et al. 2020)."""

Map = NDArray[np.float32]
Mask = NDArray[np.bool_]
Curve = NDArray[np.float64]

_HALF = 127
"""JPEG leaves grey values beside an edge; other files mark a defect by any value above 0."""


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
    """Returns false-positive rates and shares of the defect found, in ascending order from 0.

    The curve is exact: all pixels are sorted once.
    """
    if len(maps) != len(masks) or not maps:
        raise DataError(f"each map needs a mask: received {len(maps)} maps, {len(masks)} masks")
    for one, mask in zip(maps, masks, strict=True):
        if one.shape != mask.shape:
            raise DataError(f"a map of {one.shape} pixels has a mask of {mask.shape}")
    values = np.concatenate([one.ravel() for one in maps])
    if not np.isfinite(values).all():
        raise DataError("a map holds values that are not finite")
    weights = np.concatenate([_weights(mask, by_region=by_region).ravel() for mask in masks])
    good = weights == 0
    if good.all() or not good.any():
        raise DataError("pixel metrics need pixels of both kinds: on a defect, and off it")
    order = np.argsort(-values, kind="stable")
    values, weights, good = values[order], weights[order], good[order]
    last = np.append(values[1:] != values[:-1], True)  # equal values pass a threshold together
    found = np.cumsum(weights, dtype=np.float64)[last] / weights.sum(dtype=np.float64)
    return np.append(0.0, np.cumsum(good)[last] / good.sum()), np.append(0.0, found)


def _weights(mask: Mask, *, by_region: bool) -> NDArray[np.float64]:
    """Returns the weights of a mask's pixels: 1 on the defect, or 1 / size of their region."""
    if not by_region:
        return mask.astype(np.float64)
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    share = 1.0 / np.bincount(labels.ravel(), minlength=count).astype(np.float64)
    share[0] = 0.0
    return np.asarray(share[labels])


def read_mask(path: Path, size: tuple[int, ...], contract: InputContract) -> NDArray[np.bool_]:
    """Reads a defect's mask in the pixels of the model's input.

    Args:
        path: The mask's file, black off the defect.
        size: Height and width of its image in pixels.
        contract: How the image becomes the input.

    Returns:
        `(contract.height, contract.width) bool`, true where at least half of a pixel is marked, or
        any of it if no pixel is marked by half.

    Raises:
        DataError: The mask can't be read, has another size than its image, or marks nothing that
            the model sees; names the file.
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
    above = _HALF if path.suffix.lower() in (".jpg", ".jpeg") else 0
    marked = np.where(mask > above, 255, 0).astype(np.uint8)
    try:
        covered = preprocess(marked, contract)[:, :, 0]
    except FrameError as error:
        raise DataError(f"{path}: {error}") from error
    if not covered.any():
        raise DataError(f"{path}: the mask marks no pixel that the model sees")
    # A crack thinner than a pixel of the input covers none of them by half.
    return np.asarray(covered > (_HALF if covered.max() > _HALF else 0), np.bool_)
