"""How well anomaly maps find the pixels of a defect; exact, from one sort of all pixels."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from differnet_runtime.errors import DataError

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
