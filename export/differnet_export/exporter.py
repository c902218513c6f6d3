"""A model folder to a model file: traced, checked against torch, written whole or not at all.

Proof that an FP16 graph gives a finite score for every frame.

Walks the graph once with interval arithmetic. Every FP16 tensor must stay within FP16's range,
except where the very next thing done to it is a saturation; what FP16 spoils must be FP32.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

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
from .precision import (
    ELEMENTWISE,
    GREATEST,
    MOVES,
    UNKNOWN,
    HalfWeights,
    Range,
    bound,
    constant_range,
    input_range,
    to_half,
)
from .scoring import EMULATIONS, on_cpu, scores, trace
from .simplify import uses
from .verify import HALF_LIMIT, LIMIT, relative_difference, torch_scores

_HALF_OPERATORS = ELEMENTWISE | MOVES | {"Conv", "Cast"}


def unsound(model: ModelProto) -> list[str]:
    """Lists what could make a score of an FP16 graph infinite, NaN or imprecise.

    Args:
        model: As `precision.to_half` writes it.

    Returns:
        A sentence each; none for a sound graph.
    """
    return _Walk(model).problems()


class _Walk:
    def __init__(self, model: ModelProto) -> None:
        tensors = model.graph.initializer
        self.nodes = list(model.graph.node)
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in tensors}
        self.half = {t.name for t in tensors if t.data_type == TensorProto.FLOAT16}
        self.ranges = {value.name: input_range(value) for value in model.graph.input}
        self.ranges |= {
            name: constant_range(array)
            for name, array in self.constants.items()
            if array.dtype.kind in "fiu"
        }
        self.users = uses(self.nodes)

    def problems(self) -> list[str]:
        found = []
        for node in self.nodes:
            is_half = self._is_half(node)
            inputs = [self.ranges.get(name, UNKNOWN) for name in node.input if name]
            result = bound(node, inputs, self.constants)
            if is_half:
                self.half |= set(node.output)
                if node.op_type not in _HALF_OPERATORS:
                    found.append(f"{node.op_type} {node.name} is computed in FP16")
                elif result.greatest > GREATEST and not self._is_saturated(node.output[0]):
                    found.append(f"{node.op_type} {node.output[0]} may overflow in FP16")
            for name in node.output:
                self.ranges[name] = self._held(result) if is_half else result
        found += [
            f"the output {o} is FP16" for o in self.users if o in self.half and not self.users[o]
        ]
        return found

    def _is_half(self, node: NodeProto) -> bool:
        if node.op_type == "Cast":
            target: int = helper.get_attribute_value(node.attribute[0])
            return target == TensorProto.FLOAT16
        return bool(self.half & set(node.input))

    def _held(self, result: Range) -> Range:
        """Bounds of an FP16 tensor: beyond its range lies infinity."""
        return result if result.greatest <= GREATEST else UNKNOWN

    def _is_saturated(self, name: str) -> bool:
        """Whether all that reads a tensor saturates it, adding a constant first at most."""
        return bool(self.users[name]) and all(self._saturates(user) for user in self.users[name])

    def _saturates(self, node: NodeProto) -> bool:
        if node.op_type == "Clip":
            return all(name in self.constants for name in node.input[1:3]) and len(node.input) == 3
        if node.op_type == "Relu":
            return self._is_saturated(node.output[0])
        biased = node.op_type == "Add" and any(name in self.constants for name in node.input)
        return biased and self._is_saturated(node.output[0])


Scores = NDArray[np.float32]

FOLD_PICTURES = 64
"""So many good pictures measure the graph's error where all of them calibrated out of fold."""

MOST_MOVED = 0.1
"""The threshold set from the graph's own scores lies at most this share from the trained one."""

_ENORMOUS = 1e9
"""No score of a model whose good pictures differ is as great."""


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
        folder: What `differnet train` or `differnet import` wrote.
        output: The `.onnx` file.
        precision: `fp16` for GPUs; CPUs run `fp32` faster. `int8` is for GPUs, too, and needs the
            good pictures that trained the model.
        pixel: What the graph reads.

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
    metadata = metadata.replaced(input=contract, precision=precision)
    graph = trace(model, pixel)
    ranging: list[frames.Frame] = []
    if precision == "int8":
        given, compared = int8.pictures_of(folder, metadata)
        ranging = list(frames.real(given, contract).values())
    else:
        compared = _good_pictures(folder, metadata)
    pictures = list(frames.real(compared, contract).values())
    exact = _score(graph, contract, pictures, "FP32 graph")
    made = [*frames.golden(contract).values(), *frames.extreme(contract).values()]
    difference = _checked(torch_scores(model, made), exact.made, folder)
    scored, half, quantised = exact, None, None
    if precision == "int8":
        quantised = int8.to_int8(graph, ranging, pictures)
        graph = quantised.graph
    if precision != "fp32":
        graph, weights = to_half(graph)
        _check_sound(graph)
        scored = _score(on_cpu(graph), contract, pictures, f"{precision.upper()} graph, emulated")
    if precision == "fp16":
        half = _half(exact, scored, weights)
    trained = metadata.calibration
    calibration = _recalibrated(trained, exact.real, scored.real, half, precision)
    _check_moved(trained, calibration)
    effect = None
    if quantised is not None:
        at = (trained.threshold, calibration.threshold) if trained and calibration else None
        int8.check_finite(scored.made)
        effect = int8.effect(quantised, exact.real, scored.real, at)
    metadata = metadata.replaced(
        calibration=calibration,
        verification=Verification(
            frames=len(scored.made) + len(scored.real),
            greatest_relative_difference=difference,
            golden_scores=tuple(float(score) for score in scored.golden),
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
    golden = list(frames.golden(contract).values())
    extreme = list(frames.extreme(contract).values())
    found = scores(graph, [*golden, *extreme, *pictures], what)
    return _Scored(*np.split(found, [len(golden), len(golden) + len(extreme)]))


def _good_pictures(folder: Path, metadata: ModelMetadata) -> list[Path]:
    """Returns the calibration pictures; with folds, some of those that trained and calibrated."""
    if metadata.calibration is None:
        return []
    if metadata.calibration.method == "split":
        return frames.recorded(folder, "calibration")
    return frames.recorded(folder, "train")[:FOLD_PICTURES]


def _checked(trained: Scores, exact: Scores, folder: Path) -> float:
    """Returns the greatest relative difference between torch and the FP32 graph."""
    difference = float(relative_difference(trained, exact).max())
    if not difference <= LIMIT:
        if trained.max() > _ENORMOUS:
            raise ExportError(
                f"the trained model scores frames up to {trained.max():.1e}, where rounding "
                "decides: its good pictures hardly differ. Nothing was written; train with "
                "pictures of different parts."
            )
        raise ExportError(
            f"the graph's scores differ from the trained model's by {difference:.2g} relative "
            f"(limit {LIMIT:g}); nothing was written. Please report this with the output of "
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
    finite = bool(np.isfinite(scored.made).all())
    if not (finite and errors.max() <= HALF_LIMIT):
        what = f"changes scores by up to {errors.max():.2g} relative (limit {HALF_LIMIT:g})"
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


def _recalibrated(
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
        half: Effects of FP16.
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
    return calibrate(
        scored.tolist() if own else [shift * score for score in trained.good_scores],
        trained.false_reject_rate,
        confidence=trained.confidence,
        scored_by=EMULATIONS.get(precision, "onnxruntime-cpu") if own else trained.scored_by,
        headroom=max(HEADROOM, error),
        method=trained.method,
        tail="rank" if own else trained.tail,
    )
