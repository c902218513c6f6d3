"""A model folder to a model file: traced, checked against torch, written whole or not at all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import ModelProto

from differnet_runtime.errors import ExportError
from differnet_runtime.inspection.calibration import HEADROOM, calibrate
from differnet_runtime.model_file.contract import InputContract, Pixel
from differnet_runtime.model_file.file import write_model_file
from differnet_runtime.model_file.graph_check import graph_problem
from differnet_runtime.model_file.metadata import (
    Calibration,
    HalfPrecision,
    ModelMetadata,
    Precision,
    Verification,
)
from differnet_training.model import load_model

from . import frames, int8
from .graph import EMULATIONS, on_cpu, scores, trace
from .precision import HalfWeights, to_half, unsound
from .verify import LIMITS, Scores, relative_difference, torch_scores

FOLD_PICTURES = 64
"""Number of good pictures that measure the graph's error where all calibrated out of fold."""

MOST_MOVED = 0.1
"""Greatest relative change from the trained threshold to the one set from the graph's scores."""

_ENORMOUS = 1e9
"""A model whose good pictures differ gives no score as great."""


@dataclass(frozen=True)
class _Scored:
    """Scores of one graph on all frames that export runs; `real` are pictures of good parts."""

    golden: Scores
    extreme: Scores
    real: Scores

    @property
    def plausible(self) -> Scores:
        """Those of frames that a camera could give."""
        return np.concatenate([self.golden, self.real])

    @property
    def made(self) -> Scores:
        """Those of frames made by a formula."""
        return np.concatenate([self.golden, self.extreme])


def export_model(
    folder: str | Path,
    output: str | Path,
    *,
    precision: Precision = "fp16",
    pixel: Pixel = "bgr",
) -> ModelMetadata:
    """Exports a trained model.

    Golden and extreme frames run through torch and through the graph first; the file is written
    only if their scores agree. The threshold is set again from the graph's own scores of the
    calibration pictures, if they are still there; with folds, by the graph's measured error.

    Args:
        folder: A folder that `differnet train` or `differnet import` wrote.
        output: Path of the `.onnx` file.
        precision: `fp16` for GPUs; CPUs run `fp32` faster. `int8` is for GPUs, too, and needs the
            good pictures that trained the model.
        pixel: Pixel format that the graph reads.

    Returns:
        The metadata carried by the file.

    Raises:
        ModelFileError: The folder holds no whole model.
        ExportError: The graph can't be written, or does not equal the trained model.
        OutputError: The file can't be written; what was there stays.

    Example:
        >>> export_model("model", "part.onnx", precision="fp32")  # doctest: +SKIP
    """
    folder, output = Path(folder), Path(output)
    model, metadata = load_model(folder)
    contract = metadata.input.model_copy(update={"pixel": pixel})
    metadata, trained = metadata.replaced(input=contract, precision=precision), metadata.calibration
    graph = trace(model, pixel)
    ranging, pictures = (
        list(frames.real(paths, contract).values())
        for paths in _good_pictures(folder, metadata, precision)
    )
    exact = scored = _score(graph, contract, pictures, "FP32 graph")
    made = [*frames.golden(contract).values(), *frames.extreme(contract).values()]
    difference = _checked(torch_scores(model, made), exact.made, folder)
    half = effect = None
    if precision == "int8":
        quantised = int8.to_int8(graph, ranging, pictures)
        graph = quantised.graph
    if precision != "fp32":
        graph, weights = to_half(graph)
        _check_sound(graph)
        scored = _score(on_cpu(graph), contract, pictures, f"{precision.upper()} graph, emulated")
    if precision == "fp16":
        half = _half(exact, scored, weights)
    calibration = recalibrate(trained, exact.real, scored.real, half, precision)
    _check_moved(trained, calibration)
    if precision == "int8":
        at = (trained.threshold, calibration.threshold) if trained and calibration else None
        int8.check_finite(scored.made)
        effect = int8.effect(quantised, exact.real, scored.real, at)
    metadata = metadata.replaced(
        calibration=calibration,
        verification=Verification(
            frames=len(scored.made) + len(scored.real),
            greatest_relative_difference=difference,
            golden_scores=tuple(scored.golden.tolist()),
            half=half,
            int8=effect,
        ),
    )
    data = graph.SerializeToString()
    if problem := graph_problem(data, metadata.input):
        raise ExportError(
            f"the runtime would refuse the file, since its graph {problem}; nothing was written. "
            f"{metadata.extractor.name} may not be suited; please report this."
        )
    write_model_file(output, data, metadata)
    return metadata


def _score(
    graph: ModelProto, contract: InputContract, pictures: list[frames.Frame], what: str
) -> _Scored:
    golden, extreme = frames.golden(contract).values(), frames.extreme(contract).values()
    found = scores(graph, [*golden, *extreme, *pictures], what)
    return _Scored(*np.split(found, [len(golden), len(golden) + len(extreme)]))


def _good_pictures(
    folder: Path, metadata: ModelMetadata, precision: Precision
) -> tuple[Sequence[Path], Sequence[Path]]:
    """Returns the pictures that give INT8's ranges, and those that are scored.

    The latter calibrated the model; with folds, they are some of those that trained and calibrated.
    """
    if precision == "int8":
        return int8.pictures_of(folder, metadata)
    if metadata.calibration is None:
        return (), ()
    if metadata.calibration.method == "split":
        return (), frames.recorded(folder, "calibration")
    return (), frames.recorded(folder, "train")[:FOLD_PICTURES]


def _checked(trained: Scores, exact: Scores, folder: Path) -> float:
    """Returns the greatest relative difference between torch and the FP32 graph."""
    difference, limit = float(relative_difference(trained, exact).max()), LIMITS["fp32"]
    if not difference <= limit:
        if trained.max() > _ENORMOUS:
            raise ExportError(
                f"the trained model scores frames up to {trained.max():.1e}, where rounding "
                "decides: its good pictures hardly differ. Nothing was written; train with "
                "pictures of different parts."
            )
        raise ExportError(
            f"the graph's scores differ from the trained model's by {difference:.2g} relative "
            f"(limit {limit:g}); nothing was written. Please report this with the output of "
            f"`differnet info {folder}`."
        )
    return difference


def _check_sound(graph: ModelProto) -> None:
    if problems := unsound(graph):
        raise ExportError(
            "the FP16 graph could give a score that is not finite: "
            + "; ".join(problems[:5])
            + ". Export with --precision fp32, and please report this."
        )


def _half(exact: _Scored, scored: _Scored, weights: HalfWeights) -> HalfPrecision:
    """Measures what FP16 does; refuses a graph that it spoils."""
    errors = relative_difference(exact.plausible, scored.plausible)
    finite, limit = np.isfinite(scored.made).all(), LIMITS["fp16"]
    if not (finite and errors.max() <= limit):
        what = f"changes scores by up to {errors.max():.2g} relative (limit {limit:g})"
        raise ExportError(
            f"FP16 {what if finite else 'gives scores that are not finite'}; nothing was written. "
            "Export with --precision fp32, or train again with more, or more varied, pictures."
        )
    return HalfPrecision(
        weights=weights.count,
        subnormal_share=weights.subnormal_share,
        median_relative_error=float(np.median(errors)),
        greatest_relative_error=float(errors.max()),
    )


def _check_moved(trained: Calibration | None, exported: Calibration | None) -> None:
    """Refuses a graph whose scores of the good pictures differ from the trained model's."""
    if trained is None or exported is None:
        return
    moved = abs(exported.threshold - trained.threshold)
    if not moved <= MOST_MOVED * abs(trained.threshold):
        raise ExportError(
            f"the threshold would go from {trained.threshold:.4g} to {exported.threshold:.4g}, "
            "because the graph's scores of the good pictures differ from those of training; "
            "nothing was written. Most likely these pictures hardly differ, so that rounding "
            "decides: train with pictures of different parts."
        )


def recalibrate(
    trained: Calibration | None,
    exact: Scores,
    scored: Scores,
    half: HalfPrecision | None,
    precision: Precision,
) -> Calibration | None:
    """Sets the threshold again from the graph's own scores; without them the trained one stays.

    Out-of-fold scores are of models that are not in the graph: they stay, with the graph's error as
    headroom. INT8 shifts all scores: where the trained ones stay, they are shifted as those of the
    good pictures were.

    Args:
        trained: The trained model's calibration.
        exact: The FP32 graph's scores of good pictures.
        scored: The exported graph's scores of the same pictures.
        half: Effects of FP16; None in another precision.
        precision: Precision of the exported graph.
    """
    if trained is None:
        return None
    folds = trained.method == "out_of_fold"
    # Pictures may be missing, or several show the same part, which counted once.
    own = not folds and len(scored) == trained.images
    if not (own or folds or precision == "int8"):
        return trained
    shift, error = 1.0, half.greatest_relative_error if half else 0.0
    if precision == "int8":
        shift = int8.shift_of(exact, scored)
        error = float(np.median(np.abs(scored / (shift * exact) - 1.0)))
    headroom = max(HEADROOM, error)
    if not own:
        upwards = math.copysign(1.0, trained.threshold)
        wider = (1.0 + upwards * headroom) / (1.0 + upwards * HEADROOM)
        return trained.model_copy(
            update={
                "threshold": shift * wider * trained.threshold,
                "good_scores": tuple(shift * score for score in trained.good_scores),
            }
        )
    return calibrate(
        scored.tolist(),
        trained.false_reject_rate,
        confidence=trained.confidence,
        scored_by=EMULATIONS.get(precision, "onnxruntime-cpu"),
        headroom=headroom,
        method=trained.method,
        tail="rank",
    )
