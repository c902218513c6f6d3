"""Thumbnails of what a model sees, as data URIs."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from differnet_runtime.errors import DifferNetError
from differnet_runtime.heatmap import blended, resized
from differnet_runtime.images import read_image
from differnet_runtime.metadata import ModelMetadata
from differnet_runtime.preprocess import preprocess

_SIDE = 160


def thumbnail(
    path: Path, model: ModelMetadata, heatmap: Sequence[Sequence[float]] | None = None
) -> str | None:
    """Returns a data URI of what the model sees of a picture, or None if it can't be read.

    Args:
        path: The picture.
        model: Says which part of it is seen, and the heatmap's scale.
        heatmap: Scores of the windows, drawn over it; None draws none.
    """
    seen = model.input
    scale = _SIDE / max(seen.height, seen.width)
    height, width = max(1, round(scale * seen.height)), max(1, round(scale * seen.width))
    contract = seen.model_copy(update={"height": height, "width": width})
    try:
        image = preprocess(read_image(path), contract)
        if heatmap is not None and model.windows is not None:
            heat = resized(np.array(heatmap, np.float32), height, width)
            image = blended(image[:, :, :3], heat, model.windows)
        encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
    except DifferNetError:
        return None
    return "data:image/jpeg;base64," + base64.b64encode(encoded).decode()
