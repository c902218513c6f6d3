"""Anomaly maps in pixels, drawn as heatmaps and judged by the masks of defects.

A map is the heatmap of a model with windows. A model without windows gives the gradient of its
score, as the original does (Rudolph et al. 2021, section 3.4): the gradient with respect to the
image in absolute values, summed over the colours, averaged over the rotations and smoothed by a
Gaussian. It needs a backward pass for each view, so it is used in evaluation only and is not in
the exported graph.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from differnet_runtime.command import progress, step
from differnet_runtime.errors import DataError, FrameError, ImageReadError
from differnet_runtime.images import read_image, write_image
from differnet_runtime.inspection.drawing import blended, resized
from differnet_runtime.inspection.preprocess import preprocess
from differnet_runtime.model_file.contract import InputContract
from differnet_runtime.model_file.metadata import Windows

from .datasets import ImageFile, Label
from .model import DifferNet, Model
from .results import Localization, printable

SMOOTHING = 1 / 48
"""Standard deviation of the Gaussian, as a share of the input's height."""

SCALE_QUANTILE = 0.999
"""Share of the pixels of normal images that lie below the full colour."""

AUPRO_LIMIT = 0.3
"""False-positive rate up to which the per-region overlap is integrated (Bergmann et al. 2020)."""

_HALF = 127
"""JPEG leaves grey values beside an edge; other files mark a defect by any value above 0."""

Map = NDArray[np.float32]
Mask = NDArray[np.bool_]
Curve = NDArray[np.float64]
_log = logging.getLogger(__name__)


class _Located(NamedTuple):
    """An image file, its size in pixels, the frame `(H, W, 3)` that the model sees, and its map."""

    file: ImageFile
    size: tuple[int, ...]
    frame: NDArray[np.uint8]
    heat: Map


def gradient_map(model: DifferNet, frame: NDArray[np.uint8]) -> Map:
    """Returns how strongly the score depends on each pixel.

    Args:
        model: In eval mode, without windows.
        frame: `(H, W, 3) uint8` BGR, preprocessed.

    Returns:
        `(H, W) float32`, not negative; the gradients of all views in the frame's pixels.
    """
    image = torch.from_numpy(frame).float()[None].requires_grad_()
    scores = model.score_features(model.features(image))
    total = np.zeros(frame.shape[:2], np.float32)
    for position, score in enumerate(scores):
        more = position + 1 < len(scores)
        (gradient,) = torch.autograd.grad(score, image, retain_graph=more)
        total += gradient[0].abs().sum(dim=2).numpy()
    smooth = cv2.GaussianBlur(total / len(scores), (0, 0), SMOOTHING * frame.shape[0])
    return np.asarray(smooth, np.float32)


def window_map(model: Model, frame: NDArray[np.uint8]) -> Map:
    """Returns the heatmap, resized to the frame as at the camera.

    Args:
        model: In eval mode, with windows.
        frame: `(H, W, 3) uint8` BGR, preprocessed.

    Returns:
        `(H, W) float32`.
    """
    with torch.inference_mode():
        heatmaps = model.judge(model.features(torch.from_numpy(frame)[None])).heatmaps
    assert heatmaps is not None
    return resized(heatmaps[0].numpy(), frame.shape[0], frame.shape[1])


def localize(
    model: Model, images: Sequence[ImageFile], output: Path, windows: Windows | None = None
) -> Localization:
    """Draws a heatmap of every defective image and judges them by masks.

    All heatmaps have one colour scale: the model's own for windows, else one from the normal
    images (or the defective ones if there are none). A mask that can't be used is named, and its
    image left out of the pixel figures.

    Args:
        model: The trained model, in eval mode.
        images: Labelled images; uncertain ones are skipped.
        output: Folder for `INDEX_NAME.png`, the frame beside the heatmap.
        windows: The calibrated model's windows; None for gradient maps.

    Raises:
        ImageReadError: An image can't be read.
        OutputError: A heatmap can't be written.
    """
    located = [
        _located(model, image)
        for image in progress(images, "heatmaps", unit="image")
        if image.label is not Label.UNCERTAIN
    ]
    good = [one.heat for one in located if one.file.label is Label.GOOD]
    defects = [one for one in located if one.file.label is Label.DEFECT]
    if windows is None:
        heats = np.stack(good or [one.heat for one in located])
        high = max(float(np.quantile(heats, SCALE_QUANTILE)), 1e-12)
        windows = Windows(rows=2, columns=2, low=0.0, high=high)
    for index, one in enumerate(defects):
        mixed = blended(one.frame, one.heat, windows)
        name = f"{index:04d}_{one.file.path.stem}.png"
        write_image(output / name, np.hstack([one.frame, mixed]))
    maps, masks, unusable = [*good], [np.zeros(heat.shape, bool) for heat in good], []
    for one in defects:
        if one.file.mask is not None:
            try:
                masks.append(read_mask(one.file.mask, one.size, model.contract))
                maps.append(one.heat)
            except DataError as error:
                unusable.append(printable(str(error)))
                _log.warning("%s; this picture is not in the pixel figures", unusable[-1])
    with_masks = len(masks) - len(good)
    with step("pixel figures"):
        return Localization(
            folder=str(output),
            drawn=len(defects),
            with_masks=with_masks,
            scale=float(windows.high or 0.0),
            pixel_auroc=pixel_auroc(maps, masks) if with_masks else None,
            aupro=aupro(maps, masks) if with_masks else None,
            unusable_masks=tuple(unusable),
        )


def _located(model: Model, file: ImageFile) -> _Located:
    image = read_image(file.path)
    frame = np.ascontiguousarray(preprocess(image, model.contract)[:, :, :3])
    if isinstance(model, DifferNet) and model.windows is None:
        return _Located(file, image.shape, frame, gradient_map(model, frame))
    return _Located(file, image.shape, frame, window_map(model, frame))


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
        contract: Size, fit and region by which the image becomes the model's input.

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
