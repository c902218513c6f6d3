"""Where the defect is: the scores of a model's windows, or else the score's gradient.

The gradient is how the original finds it. Rudolph et al. 2021, section 3.4: the loss is propagated
back to the image, its gradient's absolute values are summed over the colours, averaged over the
rotations and smoothed by a Gaussian. It costs a backward pass for each view, so it belongs to
evaluation and is not in the exported graph; the scores of the windows are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from differnet_runtime.command import progress
from differnet_runtime.errors import DataError
from differnet_runtime.heatmap import blended, resized
from differnet_runtime.images import read_image, write_image
from differnet_runtime.metadata import InputContract, Windows
from differnet_runtime.preprocess import preprocess

from .datasets import Label, Picture
from .model import DifferNet
from .pixel_metrics import aupro, pixel_auroc
from .results import Localization
from .scoring import Model

SMOOTHING = 1 / 48
"""The Gaussian's standard deviation, as a share of the input's side."""

SCALE_QUANTILE = 0.999
"""Share of good pictures' pixels below the full colour; the rest is what stands out."""

Map = NDArray[np.float32]


@dataclass(frozen=True)
class _Located:
    picture: Picture
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
    model: Model, pictures: Sequence[Picture], output: Path, windows: Windows | None = None
) -> Localization:
    """Draws a heatmap of every defective picture, and judges them where there are masks.

    All are drawn at one scale, taken from good pictures, so that colours compare: the model's own
    for windows, else one of these pictures.

    Args:
        model: In eval mode.
        pictures: Labelled; those that can't be read are an error.
        output: Folder for `INDEX_NAME.png`, the picture on the left of each.
        windows: The calibrated model's; None for gradient maps.

    Raises:
        DataError: No good picture, or a mask that does not fit its picture.
        ImageReadError: A picture or mask can't be read.
        OutputError: A heatmap can't be written.
    """
    located = [
        _located(model, picture)
        for picture in progress(pictures, "heatmaps", unit="image")
        if picture.label is not Label.UNCERTAIN
    ]
    good = [one.heat for one in located if one.picture.label is Label.GOOD]
    if not good:
        raise DataError("heatmaps take their scale from good pictures, and there are none")
    scale = windows or _gradient_scale(good)
    defects = [one for one in located if one.picture.label is Label.DEFECT]
    for index, one in enumerate(defects):
        name = f"{index:04d}_{one.picture.path.stem}.png"
        mixed = blended(one.frame, one.heat, scale)
        write_image(output / name, np.hstack([one.frame, mixed]))
    masked = [one for one in defects if one.picture.mask is not None]
    maps = [*good, *(one.heat for one in masked)]
    masks = [np.zeros(heat.shape, bool) for heat in good]
    masks += [_mask(one.picture, model.contract) for one in masked]
    return Localization(
        folder=str(output),
        drawn=len(defects),
        with_masks=len(masked),
        scale=float(scale.high or 0.0),
        pixel_auroc=pixel_auroc(maps, masks) if masked else None,
        aupro=aupro(maps, masks) if masked else None,
    )


def _located(model: Model, picture: Picture) -> _Located:
    frame = preprocess(read_image(picture.path), model.contract)[:, :, :3]
    frame = np.ascontiguousarray(frame)
    if isinstance(model, DifferNet) and model.windows is None:
        return _Located(picture, frame, gradient_map(model, frame))
    return _Located(picture, frame, window_map(model, frame))


def _gradient_scale(good: Sequence[Map]) -> Windows:
    high = max(float(np.quantile(np.stack(good), SCALE_QUANTILE)), 1e-12)
    return Windows(rows=2, columns=2, low=0.0, high=high)


def _mask(picture: Picture, contract: InputContract) -> NDArray[np.bool_]:
    """Brings a mask to the network's input as its picture was brought."""
    assert picture.mask is not None
    mask, image = read_image(picture.mask), read_image(picture.path)
    if mask.shape[:2] != image.shape[:2]:
        raise DataError(
            f"{picture.mask}: the mask has {mask.shape[1]} x {mask.shape[0]} pixels, its picture "
            f"{image.shape[1]} x {image.shape[0]}"
        )
    marked = np.where(mask > 0, 255, 0).astype(np.uint8)
    found: NDArray[np.bool_] = preprocess(marked, contract)[:, :, 0] > 127
    return found
