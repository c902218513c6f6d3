"""A station of the default model, and solar cells as its cameras would show them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from differnet_runtime.config import Config
from differnet_runtime.images import read_image
from differnet_training.datasets import open_data

from .default_model import default_model

VIDEO_FPS, VIDEO_FRAMES = 30, 90
POOL = 6


def cells(width: int, height: int, count: int) -> list[NDArray[np.uint8]]:
    """Returns cells of solar modules as a camera of that size would show them, with its noise.

    Stretched, so that the model's input is the cell again: it looks as training pictures do.
    """
    random = np.random.RandomState(0)
    found = []
    for cell in open_data("elpv:mono").good[:count]:
        image = cv2.resize(read_image(cell.path), (width, height), interpolation=cv2.INTER_CUBIC)
        noise = random.randint(-2, 3, image.shape, np.int16)
        found.append(np.clip(image + noise, 0, 255).astype(np.uint8))
    return found


def configured(folder: Path, cameras: dict[str, dict[str, Any]], threads: int) -> Config:
    """Returns a station of the default model that writes its events to `folder/events.jsonl`.

    Its cameras may give frames of any size; the model learned from cells of 300 x 300 pixels.
    """
    any_size = {"integrity": {"size": "any"}}
    return Config.model_validate(
        {
            "station": {"state": folder / "state"},
            # Its own threshold: a rejected part would add the time to keep its picture.
            "model": {
                "path": default_model(),
                "backend": "onnxruntime-cpu",
                "threads": threads,
                "threshold": 1e9,
            },
            "camera": {name: {**any_size, **table} for name, table in cameras.items()},
            "jsonl": {"path": folder / "events.jsonl"},
            "web": {"enabled": False},
        }
    )


def write_video(path: Path, size: tuple[int, int]) -> Path:
    """Writes a video of cells, `size` in pixels across and down; returns its path."""
    pictures = cells(*size, POOL)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), VIDEO_FPS, size)
    for index in range(VIDEO_FRAMES):
        writer.write(pictures[index % len(pictures)])
    writer.release()
    return path
