"""INT8 in a graph: Q/DQ pairs around the extractor's convolutions.

As TensorRT takes it (Wu et al. 2020, arXiv:2004.09602): symmetric, weights per output channel,
activations per tensor, with the greatest magnitude that good pictures give. Accumulators, biases
and sums of two branches are not INT8. Three things make up for what rounding does:

- Depthwise convolutions stay in float: their channels differ most in range, they are a tenth of
  the multiplications, and NVIDIA's compiler pads each of their channels to four for INT8.
- So do the first convolutions, as many as good pictures need for scores that hardly change: every
  later layer sees their error.
- What quantisation adds to each feature on average is subtracted again (bias correction, as Nagel
  et al. 2019, arXiv:1906.04721, do it for each layer).

`to_int8` writes the graph, `effect` measures what that did to the scores of good pictures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from differnet_runtime.errors import ExportError
from differnet_runtime.model_file.metadata import Int8, ModelMetadata

from . import frames
from .frames import Frame
from .graph import FEATURES, copied, outputs_of, scores, with_changed_features, with_nodes
from .verify import LIMITS, Scores, relative_difference

LEFT = (0, 1, 2, 3, 4, 6, 8, 12)
"""How many of the first convolutions, depthwise ones not counted, are tried in float."""

MOST_SPREAD = 0.03
"""Greatest standard deviation of good pictures' relative errors: scatter changes the order of
scores."""

MOST_SHIFT = 0.05
"""Greatest common rise or fall of their scores. The threshold follows it, but a model that knows
these pictures by heart may shift more on them than on new ones."""

MOST_ERROR = LIMITS["int8"]
"""Greatest relative error of a good picture's score, apart from the common shift."""

PICTURES = 64
"""Most good pictures that give ranges, and most others that are compared."""

FEWEST = 4
"""Fewest pictures of either kind."""

Array = NDArray[np.floating]
T = TypeVar("T")
_LEVELS = 127
"""Symmetric INT8 reaches from -127 to 127, and 0 is exact."""

_SMALLEST = 1e-12
"""Least range, so that a channel of zeros has a scale."""


@dataclass(frozen=True)
class Quantised:
    """A graph in INT8 as good pictures need it.

    Args:
        graph: Its extractor's convolutions are in INT8, all else is FP32.
        convolutions: Number of the extractor's convolutions in INT8.
        left: How many of the first ones stayed in float, depthwise ones not counted.
        share: Share of the extractor's multiplications that are in INT8.
    """

    graph: ModelProto
    convolutions: int
    left: int
    share: float


def to_int8(graph: ModelProto, pictures: Sequence[Frame], others: Sequence[Frame]) -> Quantised:
    """Writes INT8 into a simplified FP32 graph.

    Args:
        graph: An FP32 graph from `simplify`.
        pictures: Good pictures that give ranges and the features' shift.
        others: Good pictures that tell how many convolutions have to stay in float; at most
            `PICTURES` of them are used.

    Raises:
        ExportError: The graph has no convolutions, or INT8 spoils its scores however many of the
            first convolutions stay in float.
    """
    material, others = measure(graph, pictures), _spread_out(others)
    count = len(material.layers)
    exact = scores(graph, others, "FP32 graph")
    if not count:
        raise ExportError(
            "the extractor has no convolution with constant weights that could be INT8. Export "
            "with --precision fp16."
        )
    for left in (left for left in LEFT if left < count):
        found = quantise(material, left)
        shift, spread = score_change(exact, scores(found, others, f"INT8, {left} left in float"))
        if abs(shift) <= MOST_SHIFT and spread <= MOST_SPREAD:
            work = multiplications(graph, others[0])
            share = sum(work[name] for name in inside(material, left)) / sum(work.values())
            return Quantised(found, count - left, left, share)
    raise ExportError(
        f"INT8 shifts the scores of good pictures by {shift:+.1%} (limit {MOST_SHIFT:.0%}) and "
        f"scatters them by {spread:.1%} (limit {MOST_SPREAD:.0%}), even with {left} convolutions "
        "left in float; nothing was written. Export with --precision fp16."
    )


def score_change(exact: Scores, other: Scores) -> tuple[float, float]:
    """Returns median and standard deviation of log(other / exact); infinite if any is."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(other.astype(np.float64) / exact)
    finite = bool(np.isfinite(logs).all())
    return (float(np.median(logs)), float(np.std(logs))) if finite else (np.inf, np.inf)


def pictures_of(folder: Path, metadata: ModelMetadata) -> tuple[Sequence[Path], Sequence[Path]]:
    """Returns good pictures that give ranges, and others that are compared.

    The others are those that calibrated; with folds, where all pictures trained and calibrated,
    half of them.

    Args:
        folder: The trained model's folder.
        metadata: That model's metadata; says how its pictures were shared out.

    Raises:
        ExportError: They are not where they were, or have changed, or are too few.
    """
    trained = frames.recorded(folder, "train")
    split = metadata.calibration is not None and metadata.calibration.method == "split"
    given = _spread_out(trained if split else trained[1::2])
    others = frames.recorded(folder, "calibration") if split else _spread_out(trained[::2])
    if len(given) < FEWEST or len(others) < FEWEST:
        raise ExportError(
            "--precision int8 needs the good pictures that trained the model, and they are not "
            f"where {folder} says, have changed, or are too few (found {len(given)} to measure "
            f"ranges on and {len(others)} to compare, expected {FEWEST} of each at least). Put "
            "them back, or export with --precision fp16."
        )
    return given, others


def _spread_out(pictures: Sequence[T]) -> Sequence[T]:
    """Takes at most `PICTURES`, from all parts of the list."""
    return pictures[:: -(-len(pictures) // PICTURES) or 1]


def check_finite(made: Scores) -> None:
    """Refuses a graph that does not score every frame made by a formula finitely.

    Raises:
        ExportError: A score is infinite or NaN.
    """
    if not np.isfinite(made).all():
        raise ExportError(
            "INT8 gives scores that are not finite; nothing was written. Export with --precision "
            "fp16."
        )


def effect(
    found: Quantised, exact: Scores, scored: Scores, thresholds: tuple[float, float] | None
) -> Int8:
    """Measures what INT8 did to the scores of good pictures.

    Args:
        found: The INT8 graph that `to_int8` wrote.
        exact: Scores of the FP32 graph, `(N,) float32`.
        scored: Scores of the INT8 graph, `(N,) float32`.
        thresholds: Thresholds of the FP32 and the INT8 graph; None without a calibration.

    Raises:
        ExportError: A score is not finite, or differs too much.
    """
    shift = shift_of(exact, scored)
    errors = relative_difference(np.float32(shift) * exact, scored)
    if not errors.max() <= MOST_ERROR:
        raise ExportError(
            f"INT8 changes the score of a good picture by {errors.max():.2g} relative, apart "
            f"from the common shift (limit {MOST_ERROR:g}); nothing was written. Export with "
            "--precision fp16."
        )
    defects = [] if thresholds is None else [exact > thresholds[0], scored > thresholds[1]]
    return Int8(
        convolutions=found.convolutions,
        left_in_float=found.left,
        share=found.share,
        pictures=len(exact),
        shift=shift,
        median_relative_error=float(np.median(errors)),
        greatest_relative_error=float(errors.max()),
        flips=int((defects[0] != defects[1]).sum()) if defects else None,
    )


def shift_of(exact: Scores, scored: Scores) -> float:
    """Returns the median of `scored` / `exact`."""
    return float(np.median(scored.astype(np.float64) / exact))


@dataclass(frozen=True)
class Material:
    """What quantisation needs to know of an FP32 graph.

    Args:
        graph: An FP32 graph from `simplify`.
        layers: Names of the convolutions that may be in INT8, by the name of their weights, in
            order; an extractor that reads several scales has several to each.
        ranges: Greatest magnitude of each convolution's input, by the tensor's name.
        features: Means of the features over the pictures, `(D,) float32`.
        pictures: Good pictures, as the graph's input.
    """

    graph: ModelProto
    layers: Mapping[str, Sequence[str]]
    ranges: Mapping[str, float]
    features: NDArray[np.float32]
    pictures: Sequence[Frame]


def measure(graph: ModelProto, pictures: Sequence[Frame]) -> Material:
    """Measures ranges and features of good pictures.

    Args:
        graph: An FP32 graph from `simplify`.
        pictures: Good pictures, as the graph's input.
    """
    layers: dict[str, list[str]] = {}
    inputs = set()
    for node, shape in _extractor_convolutions(graph):
        if shape[1] > 1:  # a depthwise one has weights of (C, 1, h, w)
            layers.setdefault(node.input[1], []).append(node.name)
            inputs.add(node.input[0])
    ranges = _ranges(graph, sorted(inputs), pictures)
    return Material(graph, layers, ranges, _mean_features(graph, pictures), pictures)


def quantise(material: Material, left: int) -> ModelProto:
    """Returns the graph with INT8 convolutions.

    Args:
        material: Ranges and features that `measure` found.
        left: How many of the first layers stay in float, besides the depthwise ones.
    """
    graph = _with_pairs(material, inside(material, left))
    shift = _mean_features(graph, material.pictures) - material.features
    names = [f"{FEATURES}_uncentred", "feature_shift"]
    change = helper.make_node("Sub", names, [FEATURES], name="recentre_features")
    # As one long row: the engine's audit takes a two-axis constant for a layer's weights.
    return with_changed_features(graph, change, shift.reshape(-1))


def inside(material: Material, left: int) -> list[str]:
    """Returns the names of the convolutions in INT8; the first `left` layers stay in float."""
    return [name for names in list(material.layers.values())[left:] for name in names]


def multiplications(graph: ModelProto, picture: Frame) -> dict[str, int]:
    """Counts the multiplications of each of the extractor's convolutions for one picture."""
    convolutions = _extractor_convolutions(graph)
    (outputs,) = outputs_of(graph, [node.output[0] for node, _ in convolutions], [picture])
    return {
        node.name: outputs[node.output[0]].size * math.prod(shape[1:])
        for node, shape in convolutions
    }


def _extractor_convolutions(graph: ModelProto) -> list[tuple[NodeProto, Sequence[int]]]:
    """Returns the convolutions with constant weights that the features come from, in order.

    Each comes with the shape of its weights, `(out, in / groups, height, width)`.
    """
    shapes = {tensor.name: tensor.dims for tensor in graph.graph.initializer}
    wanted, found = {FEATURES}, []
    for node in reversed(graph.graph.node):
        if wanted & set(node.output):
            wanted |= set(node.input)
            if node.op_type == "Conv" and node.input[1] in shapes:
                found.append((node, shapes[node.input[1]]))
    return found[::-1]


def _with_pairs(material: Material, chosen: Sequence[str]) -> ModelProto:
    """Returns the graph with a Q/DQ pair before each chosen convolution, and INT8 weights."""
    constants = {tensor.name: tensor for tensor in material.graph.graph.initializer}
    added: dict[str, NDArray[np.generic]] = {}
    nodes: list[NodeProto] = []
    for node in material.graph.graph.node:
        if node.name not in chosen:
            nodes.append(node)
            continue
        given, weight, *bias = node.input
        if f"{given}_scale" not in added:
            added |= _quantisation(given, np.array(_scale(material.ranges[given])))
            nodes += [_q_or_dq("Quantize", given), _q_or_dq("Dequantize", given)]
        if f"{weight}_scale" not in added:
            array = numpy_helper.to_array(constants[weight]).astype(np.float32)
            scales = _scale(np.abs(array).reshape(len(array), -1).max(axis=1))
            added |= _quantisation(weight, scales)
            levels = array / scales.reshape(-1, *[1] * (array.ndim - 1))
            added[f"{weight}_int8"] = np.rint(levels).astype(np.int8)
            nodes.append(_q_or_dq("Dequantize", weight, axis=0))
        inputs = [f"{given}_dequantized", f"{weight}_dequantized", *bias]
        nodes.append(copied(node, inputs=inputs))
    stored = [numpy_helper.from_array(array, name) for name, array in added.items()]
    return with_nodes(material.graph, nodes, [*constants.values(), *stored])


def _scale(greatest: float | Array) -> NDArray[np.float32]:
    return np.asarray(np.maximum(greatest, _SMALLEST) / _LEVELS, np.float32)


def _quantisation(name: str, scale: Array) -> dict[str, NDArray[np.generic]]:
    return {f"{name}_scale": scale, f"{name}_zero": np.zeros(scale.shape, np.int8)}


def _q_or_dq(which: str, name: str, axis: int | None = None) -> NodeProto:
    quantises = which == "Quantize"
    source, target = (
        (name, f"{name}_int8") if quantises else (f"{name}_int8", f"{name}_dequantized")
    )
    return helper.make_node(
        f"{which}Linear",
        [source, f"{name}_scale", f"{name}_zero"],
        [target],
        name=f"{name}_{which.lower()}",
        axis=axis,
    )


def _mean_features(graph: ModelProto, pictures: Sequence[Frame]) -> NDArray[np.float32]:
    total = np.zeros(1)
    for found in outputs_of(graph, [FEATURES], pictures, "features"):
        total = total + found[FEATURES].astype(np.float64).mean(axis=0)
    mean: NDArray[np.float32] = (total / len(pictures)).astype(np.float32)
    return mean


def _ranges(graph: ModelProto, names: list[str], pictures: Sequence[Frame]) -> dict[str, float]:
    """Returns the greatest magnitude of each tensor over the pictures."""
    observed = ModelProto()
    observed.CopyFrom(graph)
    for name in names:
        observed.graph.node.extend(
            [
                helper.make_node("Abs", [name], [f"{name}_abs"]),
                helper.make_node("ReduceMax", [f"{name}_abs"], [f"{name}_greatest"], keepdims=0),
            ]
        )
    found = list(outputs_of(observed, [f"{name}_greatest" for name in names], pictures, "ranges"))
    return {
        name: max((float(one[f"{name}_greatest"]) for one in found), default=0.0) for name in names
    }
