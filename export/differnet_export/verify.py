"""The trained model against the exported file, on the frames where they could part.

Frames that a camera could give must score alike: the relative difference tells how far two scores
are apart, a verdict flip (one calls good what the other calls a defect) whether anybody would
notice. Gross inputs, which no good part gives (noise, stripes, covered lenses, features many times
too large), must score finitely and never be called good.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from differnet_runtime.command import progress
from differnet_runtime.detector import Detector
from differnet_runtime.errors import ExportError
from differnet_runtime.inspection.verdict import decide, judged
from differnet_runtime.model_file.file import read_model_file
from differnet_runtime.model_file.metadata import ModelMetadata, Precision
from differnet_runtime.records import Verdict
from differnet_training.model import Model, load_model, read_training

from . import frames
from .graph import EMULATIONS, on_cpu, scores, with_scaled_features

LIMITS = {"fp32": 1e-4, "fp16": 2e-2, "int8": 0.25}
"""Greatest relative difference between torch's scores and a file's, by the file's precision; in
INT8, on pictures."""

FACTORS = (0.0, 1.5, 2.0, 5.0, 10.0, 20.0, 50.0)
"""By what features are multiplied, to be gross inputs; 1.5 may still be called good."""

Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Comparison:
    """What was found on frames that a camera could give.

    Args:
        names: Names of the frames, `(N,)`.
        trained: Scores by torch, `(N,) float32`.
        exported: Scores by the file, `(N,) float32`.
        threshold: Threshold of the file; None where it has none.
        limit: Greatest relative difference allowed.
    """

    names: tuple[str, ...]
    trained: Scores
    exported: Scores
    threshold: float | None
    limit: float

    @property
    def differences(self) -> NDArray[np.float64]:
        """Relative differences `(N,)`; NaN where a score is not finite."""
        return relative_difference(self.trained, self.exported)

    @property
    def greatest(self) -> float:
        """The greatest relative difference."""
        return float(self.differences.max(initial=0.0))

    @property
    def median(self) -> float:
        """The median relative difference."""
        return float(np.median(self.differences)) if self.names else 0.0

    @property
    def flips(self) -> tuple[str, ...]:
        """Names of the frames whose verdict differs."""
        if self.threshold is None:
            return ()
        differs = (self.trained > self.threshold) != (self.exported > self.threshold)
        return tuple(name for name, flip in zip(self.names, differs, strict=True) if flip)

    @property
    def wrong_flips(self) -> tuple[str, ...]:
        """Flips of frames that lie farther from the threshold than the limit explains."""
        if self.threshold is None:
            return ()
        scores = dict(zip(self.names, self.trained.astype(np.float64), strict=True))
        reach = self.limit * abs(self.threshold)
        return tuple(n for n in self.flips if not abs(scores[n] - self.threshold) <= reach)

    @property
    def passed(self) -> bool:
        """Whether the file may be deployed, as far as these frames tell."""
        return self.greatest <= self.limit and not self.wrong_flips


@dataclass(frozen=True)
class GrossInput:
    """An input that no good part gives.

    Args:
        name: What the input shows (`stripes`).
        score: Score that the file gives.
        verdict: Verdict at the file's own threshold.
        may_be_good: Whether the verdict GOOD is no fault.
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
class VerifyResult:
    """What `verify` found.

    Args:
        comparison: Differences on frames that a camera could give.
        gross: Scores of inputs that no good part gives.
        scored_by: Backend or emulation that ran the file.
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
) -> VerifyResult:
    """Compares the file with the trained model on real, golden and gross inputs.

    Args:
        model_file: The exported `.onnx` file.
        folder: The trained model's folder.
        images: Real pictures, good and defective.
        backend: Backend that runs the file; `auto` runs an FP16 or INT8 file by the emulation,
            since the CPU backend does not round as a GPU does.
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
    inputs = list(plausible.values())
    exported, scored_by = _exported(model_file, graph, inputs, backend, metadata.precision)
    # INT8 multiplies all scores, and the file's threshold with them.
    int8 = metadata.verification.int8 if metadata.verification else None
    shift = np.float32(int8.shift if int8 else 1.0)
    comparison = Comparison(
        names=tuple(plausible),
        trained=shift * torch_scores(model, inputs),
        exported=exported,
        threshold=metadata.threshold,
        limit=limit if limit is not None else LIMITS[metadata.precision],
    )
    gross = _gross(graph, metadata, list(plausible)[-1], inputs[-1])
    return VerifyResult(comparison, gross, scored_by)


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


def _gross(
    graph: onnx.ModelProto, metadata: ModelMetadata, name: str, frame: frames.Frame
) -> tuple[GrossInput, ...]:
    """Scores frames that no camera should give, and one frame with features many times too large.

    Args:
        graph: Runs on the CPU.
        metadata: Metadata of the file.
        name: Name of the frame.
        frame: `(height, width, C) uint8`.
    """
    extreme = frames.extreme(metadata.input)
    found = dict(zip(extreme, scores(graph, list(extreme.values()), "gross frames"), strict=True))
    mild = []
    for factor in progress(FACTORS, "gross features"):
        what = f"features x {factor:g}"
        (found[f"{what} of {name}"],) = scores(with_scaled_features(graph, factor), [frame], what)
        mild += [f"{what} of {name}"] if 0 < factor < 2 else []
    return tuple(
        GrossInput(
            name=label,
            score=float(score),
            verdict=decide(judged(float(score), metadata.calibration)).verdict,
            may_be_good=label in mild,
        )
        for label, score in found.items()
    )


def relative_difference(reference: Scores, other: Scores) -> NDArray[np.float64]:
    """Returns |other - reference| / |reference|, per frame."""
    exact = reference.astype(np.float64)
    difference: NDArray[np.float64] = np.abs(other - exact) / np.maximum(np.abs(exact), 1e-12)
    return difference


def torch_scores(model: Model, inputs: Sequence[frames.Frame]) -> Scores:
    """Returns torch's scores `(N,) float32` of `(height, width, C) uint8` frames."""
    with torch.inference_mode():
        found = [
            model(torch.from_numpy(np.ascontiguousarray(frame[:, :, :3]))[None])
            for frame in progress(inputs, "trained model", unit="frame")
        ]
    return np.asarray(torch.cat(found))


def recorded_images(folder: Path, most: int = 16) -> list[Path]:
    """Returns up to `most` pictures that training recorded and that are still there."""
    parts = read_training(folder).get("parts", {})
    entries = (*parts.get("calibration", ()), *parts.get("train", ()))
    return [path for entry in entries if (path := Path(entry["path"])).is_file()][:most]


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
