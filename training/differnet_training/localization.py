"""Where the defect is: the scores of a model's windows, or else the score's gradient.

The gradient is how the original finds it. Rudolph et al. 2021, section 3.4: the loss is propagated
back to the image, its gradient's absolute values are summed over the colours, averaged over the
rotations and smoothed by a Gaussian. It costs a backward pass for each view, so it belongs to
evaluation and is not in the exported graph; the scores of the windows are.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from differnet_runtime.command import progress, step
from differnet_runtime.errors import DataError
from differnet_runtime.images import read_image, write_image
from differnet_runtime.inspection.drawing import blended, resized
from differnet_runtime.inspection.preprocess import preprocess
from differnet_runtime.model_file.contract import InputContract
from differnet_runtime.model_file.metadata import Windows

from .datasets import ImageFile, Label
from .metrics import aupro, pixel_auroc, read_mask
from .model import DifferNet
from .results import Localization, printable
from .scoring import Model

SMOOTHING = 1 / 48
"""The Gaussian's standard deviation, as a share of the input's side."""

SCALE_QUANTILE = 0.999
"""Share of good pictures' pixels below the full colour; the rest is what stands out."""

Map = NDArray[np.float32]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Located:
    picture: ImageFile
    size: tuple[int, ...]
    frame: NDArray[np.uint8]
    heat: Map


def gradient_map(model: DifferNet, frame: NDArray[np.uint8]) -> Map:
    """Returns how strongly each pixel moves the score.

    Args:
        model: In eval mode, without windows.
        frame: `(H, W, 3) uint8` BGR, as `preprocess` gives it.

    Returns:
        `(H, W) float32`, not negative; every view's gradient lies where its pixel came from.
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
    """Returns the scores of the windows, brought to the frame's size as the camera does.

    Args:
        model: In eval mode, with windows.
        frame: `(H, W, 3) uint8` BGR, as `preprocess` gives it.

    Returns:
        `(H, W) float32`.
    """
    with torch.inference_mode():
        heatmaps = model.judge(model.features(torch.from_numpy(frame)[None])).heatmaps
    assert heatmaps is not None
    return resized(heatmaps[0].numpy(), frame.shape[0], frame.shape[1])


def localize(
    model: Model, pictures: Sequence[ImageFile], output: Path, windows: Windows | None = None
) -> Localization:
    """Draws a heatmap of every defective picture, and judges them where there are masks.

    All are drawn at one scale, so that colours compare: the model's own for windows, else one of
    the good pictures, where there are any. A mask that can't be used is named, and its picture
    left out of the pixel figures.

    Args:
        model: In eval mode.
        pictures: Labelled; those that can't be read are an error.
        output: Folder for `INDEX_NAME.png`, the picture on the left of each.
        windows: The calibrated model's; None for gradient maps.

    Raises:
        ImageReadError: A picture can't be read.
        OutputError: A heatmap can't be written.
    """
    located = [
        _located(model, picture)
        for picture in progress(pictures, "heatmaps", unit="image")
        if picture.label is not Label.UNCERTAIN
    ]
    good = [one.heat for one in located if one.picture.label is Label.GOOD]
    scale = windows or _gradient_scale(good or [one.heat for one in located])
    defects = [one for one in located if one.picture.label is Label.DEFECT]
    for index, one in enumerate(defects):
        name = f"{index:04d}_{one.picture.path.stem}.png"
        mixed = blended(one.frame, one.heat, scale)
        write_image(output / name, np.hstack([one.frame, mixed]))
    return _judged(str(output), scale, good, defects, model.contract)


def _judged(
    folder: str,
    scale: Windows,
    good: Sequence[Map],
    defects: Sequence[_Located],
    contract: InputContract,
) -> Localization:
    """Judges heatmaps by masks; one that can't be used costs its own picture only."""
    maps, masks, unusable = [*good], [np.zeros(heat.shape, bool) for heat in good], []
    for one in defects:
        if one.picture.mask is None:
            continue
        try:
            masks.append(read_mask(one.picture.mask, one.size, contract))
        except DataError as error:
            unusable.append(printable(str(error)))
            continue
        maps.append(one.heat)
    for line in unusable:
        _log.warning("%s; this picture is not in the pixel figures", line)
    with_masks = len(masks) - len(good)
    with step("pixel figures"):
        return Localization(
            folder=folder,
            drawn=len(defects),
            with_masks=with_masks,
            scale=float(scale.high or 0.0),
            pixel_auroc=pixel_auroc(maps, masks) if with_masks else None,
            aupro=aupro(maps, masks) if with_masks else None,
            unusable_masks=tuple(unusable),
        )


def _located(model: Model, picture: ImageFile) -> _Located:
    image = read_image(picture.path)
    frame = np.ascontiguousarray(preprocess(image, model.contract)[:, :, :3])
    if isinstance(model, DifferNet) and model.windows is None:
        return _Located(picture, image.shape, frame, gradient_map(model, frame))
    return _Located(picture, image.shape, frame, window_map(model, frame))


def _gradient_scale(good: Sequence[Map]) -> Windows:
    high = max(float(np.quantile(np.stack(good), SCALE_QUANTILE)), 1e-12)
    return Windows(rows=2, columns=2, low=0.0, high=high)
