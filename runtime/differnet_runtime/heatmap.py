"""A model's window scores as colours over the picture, at the scale fixed in the model."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from .metadata import InputContract, Windows
from .preprocess import fitted

Map = NDArray[np.float32]
Picture = NDArray[np.uint8]

_STRONGEST = 0.7
"""Share of the colour where it is strongest; the picture stays to be seen."""


def resized(heatmap: Map, height: int, width: int) -> Map:
    """Brings `(rows, columns) float32` scores to `(height, width)`, linear between the centres."""
    grown = cv2.resize(heatmap, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(grown, np.float32)


def on_frame(heatmap: Map, height: int, width: int, contract: InputContract) -> Map:
    """Lays window scores where the model saw them: region and fit of the input undone.

    Args:
        heatmap: `(rows, columns) float32`.
        height: The camera's frame, in pixels.
        width: Likewise.
        contract: How the frame became the graph's input.

    Returns:
        `(height, width) float32`; NaN where the model saw nothing.
    """
    region = contract.region
    top, left, tall, wide = (
        (region.y, region.x, region.height, region.width) if region else (0, 0, height, width)
    )
    area = fitted(contract, tall, wide)
    shift_y, shift_x = (tall - area[0]) // 2, (wide - area[1]) // 2
    grown = resized(heatmap, *area)
    seen = np.full((height, width), np.nan, np.float32)
    y, x = max(0, shift_y), max(0, shift_x)  # a letterbox's border lies outside the region
    part = grown[y - shift_y : y - shift_y + tall, x - shift_x : x - shift_x + wide]
    part = part[: tall - y, : wide - x]
    seen[top + y : top + y + part.shape[0], left + x : left + x + part.shape[1]] = part
    return seen


def blended(picture: Picture, heat: Map, windows: Windows) -> Picture:
    """Draws scores over a picture; below the scale it stays as it is.

    Args:
        picture: `(H, W, 3) uint8` BGR.
        heat: `(H, W) float32`; NaN draws nothing.
        windows: Holds the scale, which a calibrated model has.

    Returns:
        `(H, W, 3) uint8` BGR.
    """
    colours, strength = tint(heat, windows)
    share = strength[:, :, None]
    mixed: Picture = (picture * (1 - share) + colours * share).astype(np.uint8)
    return mixed


def tint(heat: Map, windows: Windows) -> tuple[Picture, Map]:
    """Returns the colours of scores, and how strongly they cover the picture.

    Args:
        heat: `(H, W) float32`; NaN has no colour.
        windows: Holds the scale; one without a scale colours nothing.

    Returns:
        `(H, W, 3) uint8` BGR, and `(H, W) float32` from 0 to 1.
    """
    share = np.zeros(heat.shape, np.float32)
    if windows.low is not None and windows.high is not None:
        span = max(windows.high - windows.low, 1e-12)
        share = np.clip(np.nan_to_num((heat - windows.low) / span, posinf=1.0), 0.0, 1.0)
    colours = cv2.applyColorMap((share * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    return np.asarray(colours, np.uint8), np.asarray(_STRONGEST * share, np.float32)
