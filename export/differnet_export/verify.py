"""The trained model against the exported file, on the frames where they could part.

A relative difference tells how far the scores are apart; a verdict flip tells whether anybody
would notice: a frame that one calls good and the other a defect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from differnet_runtime.command import progress
from differnet_runtime.detector import Detector
from differnet_runtime.errors import ExportError
from differnet_runtime.images import read_image
from differnet_runtime.preprocess import golden_frames, preprocess
from differnet_training.model import DifferNet
from differnet_training.model_directory import load_model, read_training

LIMIT = 1e-4
"""Greatest relative difference between torch and the file in FP32."""

Frame = NDArray[np.uint8]


@dataclass(frozen=True)
class Comparison:
    """What was found.

    Args:
        names: Of the frames.
        trained: Scores by torch, `(N,) float32`.
        exported: Scores by the file, `(N,) float32`.
        flips: Names of the frames whose verdict differs.
    """

    names: tuple[str, ...]
    trained: NDArray[np.float32]
    exported: NDArray[np.float32]
    flips: tuple[str, ...]

    @property
    def greatest(self) -> float:
        """The greatest relative difference; NaN where one of the two is not finite."""
        return float(relative_difference(self.trained, self.exported).max())


def verify(model_file: Path, folder: Path, images: Sequence[Path], backend: str) -> Comparison:
    """Compares the file with the trained model on real, golden and extreme frames.

    Args:
        model_file: The exported file.
        folder: The trained model's folder.
        images: Real pictures.
        backend: What runs the file.

    Raises:
        ExportError: The file was exported from another model.
        DifferNetError: The model, the file or a picture can't be read.
    """
    model, metadata = load_model(folder)
    with Detector(model_file, backend=backend) as detector:
        if detector.metadata.weights_sha256 != metadata.weights_sha256:
            raise ExportError(
                f"{model_file} was not exported from {folder}: its weights have another hash. Name "
                "the right folder with --model."
            )
        frames = _named_frames(metadata.input.size)
        frames |= {str(path): preprocess(read_image(path), metadata.input) for path in images}
        exported = np.array(
            [detector.score_input(frame) for frame in progress(frames.values(), "exported file")],
            np.float32,
        )
        calibration = detector.metadata.calibration
    trained = torch_scores(model, list(frames.values()))
    return compare(list(frames), trained, exported, calibration.threshold if calibration else None)


def compare(
    names: Sequence[str],
    trained: NDArray[np.float32],
    exported: NDArray[np.float32],
    threshold: float | None,
) -> Comparison:
    """Holds two sets of scores together."""
    flips: tuple[str, ...] = ()
    if threshold is not None:
        differs = (trained > threshold) != (exported > threshold)
        flips = tuple(name for name, flip in zip(names, differs, strict=True) if flip)
    return Comparison(tuple(names), trained, exported, flips)


def relative_difference(
    trained: NDArray[np.float32], exported: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Returns |exported - trained| / |trained|, per frame."""
    reference = np.maximum(np.abs(trained.astype(np.float64)), 1e-12)
    difference: NDArray[np.float64] = np.abs(exported - trained.astype(np.float64)) / reference
    return difference


def torch_scores(model: DifferNet, frames: Sequence[Frame]) -> NDArray[np.float32]:
    """Scores `(size, size, 3) uint8` frames with torch, one at a time; returns `(N,) float32`."""
    with torch.inference_mode():
        scores = [
            model(torch.from_numpy(np.ascontiguousarray(frame))[None])
            for frame in progress(frames, "trained model")
        ]
        result: NDArray[np.float32] = torch.cat(scores).numpy()
    return result


def extreme_frames(size: int) -> dict[str, Frame]:
    """Makes frames that no camera should give: `(size, size, 3) uint8` each, by name."""
    black = np.zeros((size, size, 3), np.uint8)
    one_pixel = black.copy()
    one_pixel[size // 2, size // 2] = 255
    stripes = black.copy()
    stripes[:, ::2] = 255
    noise = np.random.RandomState(0).randint(0, 256, (size, size, 3)).astype(np.uint8)
    return {
        "black": black,
        "white": np.full_like(black, 255),
        "noise": noise,
        "one pixel": one_pixel,
        "stripes": stripes,
    }


def recorded_images(folder: Path, most: int = 16) -> list[Path]:
    """Returns up to `most` pictures that training recorded and that are still there."""
    parts = read_training(folder).get("parts", {})
    paths = [
        Path(entry["path"]) for name in ("calibration", "train") for entry in parts.get(name, ())
    ]
    return [path for path in paths if path.is_file()][:most]


def find_folder(model_file: Path, named: Path | None) -> Path:
    """Returns the trained model's folder: the one named, or `model` beside the file.

    Raises:
        ExportError: Neither is there.
    """
    folder = named or model_file.parent / "model"
    if not folder.is_dir():
        raise ExportError(
            f"there is no trained model at {folder} to compare {model_file} with; name its folder: "
            "--model FOLDER"
        )
    return folder


def _named_frames(size: int) -> dict[str, Frame]:
    golden = {f"golden {k}": frame for k, frame in enumerate(golden_frames(size))}
    return golden | extreme_frames(size)
