"""The trained model against the exported file, on the frames where they could part.

Frames that a camera could give must score alike. Gross inputs, which no good part gives, must
score finitely and never be called good: frames of noise or stripes, covered lenses, features many
times too large.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from differnet_runtime.command import progress
from differnet_runtime.decision import decide
from differnet_runtime.detector import Detector
from differnet_runtime.errors import ExportError
from differnet_runtime.metadata import ModelMetadata, Precision
from differnet_runtime.model_file import read_model_file
from differnet_runtime.records import Score, Verdict
from differnet_training.model_directory import load_model, read_training

from . import frames
from .comparison import HALF_LIMIT, INT8_LIMIT, LIMIT, Comparison, torch_scores
from .scoring import EMULATIONS, on_cpu, scores, with_scaled_features

LIMITS = {"fp32": LIMIT, "fp16": HALF_LIMIT, "int8": INT8_LIMIT}
"""Greatest relative difference between torch and a file, by its precision."""

FACTORS = (0.0, 1.5, 2.0, 5.0, 10.0, 20.0, 50.0)
"""By what features are multiplied, to be gross inputs; 1.5 may still be called good."""


@dataclass(frozen=True)
class GrossInput:
    """An input that no good part gives.

    Args:
        name: What it is.
        score: By the file.
        verdict: By the file's own threshold.
        may_be_good: Whether GOOD is no fault.
    """

    name: str
    score: float
    verdict: Verdict
    may_be_good: bool = False

    @property
    def passed(self) -> bool:
        """Finite, and not called good."""
        return np.isfinite(self.score) and (self.verdict != Verdict.GOOD or self.may_be_good)


@dataclass(frozen=True)
class Result:
    """What `verify` found.

    Args:
        comparison: On frames that a camera could give.
        gross: On those that no good part gives.
        scored_by: What ran the file.
    """

    comparison: Comparison
    gross: tuple[GrossInput, ...]
    scored_by: str

    @property
    def passed(self) -> bool:
        """Whether the file may be deployed."""
        return self.comparison.passed and all(entry.passed for entry in self.gross)


def verify(
    model_file: Path,
    folder: Path,
    images: Sequence[Path],
    backend: str = "auto",
    limit: float | None = None,
) -> Result:
    """Compares the file with the trained model on real, golden and gross inputs.

    Args:
        model_file: The exported file.
        folder: The trained model's folder.
        images: Real pictures, good and defective.
        backend: What runs the file; `auto` runs an FP16 or INT8 file by the emulation, since the
            CPU backend does not round as a GPU does.
        limit: Greatest relative difference; by precision if None.

    Raises:
        ExportError: The file was exported from another model; or it is in INT8, whose scores of
            golden frames say nothing, and there are no pictures.
        DifferNetError: The model, the file or a picture can't be read.
    """
    model, trained_metadata = load_model(folder)
    data, metadata = read_model_file(model_file)
    if metadata.weights_sha256 != trained_metadata.weights_sha256:
        raise ExportError(
            f"{model_file} was not exported from {folder}: its weights have another hash. Name "
            "the right folder with --model."
        )
    graph = on_cpu(onnx.load_from_string(data))
    plausible = frames.real(list(images), metadata.input)
    if metadata.precision != "int8":
        plausible = frames.golden(metadata.input) | plausible
    elif not plausible:
        raise ExportError(
            f"{model_file} is an INT8 file, which only real pictures can be compared on, and those "
            "that trained the model are not where they were. Name some with --images."
        )
    exported, scored_by = _exported(
        model_file, graph, list(plausible.values()), backend, metadata.precision
    )
    shift = _shift(metadata)
    comparison = Comparison(
        names=tuple(plausible),
        trained=shift * torch_scores(model, list(plausible.values())),
        exported=exported,
        threshold=metadata.calibration.threshold if metadata.calibration else None,
        limit=limit if limit is not None else LIMITS[metadata.precision],
    )
    last = list(plausible.items())[-1]
    return Result(comparison, _gross(graph, metadata, last), scored_by)


def _exported(
    model_file: Path,
    graph: onnx.ModelProto,
    inputs: list[frames.Frame],
    backend: str,
    precision: Precision,
) -> tuple[NDArray[np.float32], str]:
    if backend == "auto" and precision in EMULATIONS:
        what = f"exported file, {precision.upper()} emulated"
        return scores(graph, inputs, what), EMULATIONS[precision]
    with Detector(model_file, backend=backend) as detector:
        found = [detector.score_input(frame) for frame in progress(inputs, "exported file")]
        return np.array(found, np.float32), detector.backend


def _shift(metadata: ModelMetadata) -> np.float32:
    """Returns by what INT8 multiplies all scores; the file's threshold takes part in it."""
    int8 = metadata.verification.int8 if metadata.verification else None
    return np.float32(int8.shift if int8 else 1.0)


def _gross(
    graph: onnx.ModelProto, metadata: ModelMetadata, base: tuple[str, frames.Frame]
) -> tuple[GrossInput, ...]:
    extreme = frames.extreme(metadata.input)
    found = scores(graph, list(extreme.values()), "gross frames")
    entries = [_judged(name, s, metadata) for name, s in zip(extreme, found, strict=True)]
    name, frame = base
    for factor in progress(FACTORS, "gross features"):
        (score,) = scores(with_scaled_features(graph, factor), [frame], f"features x {factor:g}")
        entry = _judged(
            f"features x {factor:g} of {name}", score, metadata, may_be_good=0 < factor < 2
        )
        entries.append(entry)
    return tuple(entries)


def _judged(
    name: str, score: float, metadata: ModelMetadata, *, may_be_good: bool = False
) -> GrossInput:
    calibration = metadata.calibration
    threshold = calibration.threshold if calibration else None
    lowest = calibration.lowest_plausible if calibration else None
    verdict = decide(Score(float(score), threshold, None, lowest)).verdict
    return GrossInput(name, float(score), verdict, may_be_good)


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
