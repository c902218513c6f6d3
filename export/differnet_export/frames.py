"""The frames on which a file is held against its model: golden, extreme, real."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from differnet_runtime.images import digest, read_image
from differnet_runtime.inspection.preprocess import golden_frames, preprocess
from differnet_runtime.model_file.contract import InputContract
from differnet_training.model import read_training

Frame = NDArray[np.uint8]


def golden(contract: InputContract) -> dict[str, Frame]:
    """Makes the golden frames, by name."""
    return {f"golden {k}": frame for k, frame in enumerate(golden_frames(contract))}


def extreme(contract: InputContract) -> dict[str, Frame]:
    """Makes frames that no camera should give: `(height, width, 3) uint8` each, by name."""
    shape = (contract.height, contract.width, 3)
    black = np.zeros(shape, np.uint8)
    one_pixel = black.copy()
    one_pixel[contract.height // 2, contract.width // 2] = 255
    stripes = black.copy()
    stripes[:, ::2] = 255
    noise = np.random.RandomState(0).randint(0, 256, shape).astype(np.uint8)
    return {
        "black": black,
        "white": np.full_like(black, 255),
        "noise": noise,
        "one pixel": one_pixel,
        "stripes": stripes,
    }


def real(paths: Sequence[Path], contract: InputContract) -> dict[str, Frame]:
    """Reads pictures as the graph's input, by path.

    Raises:
        DifferNetError: A picture can't be read, or does not fit.
    """
    return {str(path): preprocess(read_image(path), contract) for path in paths}


def recorded(folder: Path, part: str) -> list[Path]:
    """Returns the pictures of a part of the training data, if all are there, unchanged.

    Args:
        folder: Folder of the trained model.
        part: `train`, `stopping` or `calibration`.
    """
    entries = read_training(folder).get("parts", {}).get(part, ())
    unchanged = all(digest(Path(entry["path"])) == entry["sha256"] for entry in entries)
    return [Path(entry["path"]) for entry in entries] if unchanged else []
