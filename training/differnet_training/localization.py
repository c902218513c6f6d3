"""Anomaly maps in pixels, drawn as heatmaps and judged by the masks of defects.

A map shows the scores of a model's windows. A model without windows gives the gradient of its
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
from differnet_runtime.errors import DataError
from differnet_runtime.images import read_image, write_image
from differnet_runtime.inspection.drawing import blended, resized
from differnet_runtime.inspection.preprocess import preprocess
from differnet_runtime.model_file.metadata import Windows

from .datasets import ImageFile, Label
from .metrics import aupro, pixel_auroc, read_mask
from .model import DifferNet
from .results import Localization, printable
from .scoring import Model

SMOOTHING = 1 / 48
"""Standard deviation of the Gaussian, as a share of the input's height."""

SCALE_QUANTILE = 0.999
"""Share of the pixels of normal images that lie below the full colour."""

Map = NDArray[np.float32]
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
    """Returns the scores of the windows, resized to the frame as at the camera.

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
        model: In eval mode.
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
