"""Writing INT8 into a graph: Q/DQ pairs around the extractor's convolutions.

As TensorRT takes it (Wu et al. 2020, arXiv:2004.09602): symmetric, weights per output channel,
activations per tensor, with the greatest magnitude that good pictures give. Accumulators, biases
and sums of two branches are not INT8. Three things make up for what rounding does:

- Depthwise convolutions stay in float: their channels differ most in range, they are a tenth of
  the multiplications, and NVIDIA's compiler pads each of their channels to four for INT8.
- So do the first convolutions, as many as good pictures need for scores that hardly change: every
  later layer sees their error.
- What quantisation adds to each feature on average is subtracted again (bias correction, as Nagel
  et al. 2019, arXiv:1906.04721, do it for each layer).

A graph in INT8 as good pictures need it, and what that did to their scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from differnet_runtime.errors import ExportError
from differnet_runtime.model_file.metadata import Int8, ModelMetadata

from . import frames
from .scoring import FEATURES, Frame, outputs_of, scores
from .simplify import with_nodes
from .verify import INT8_LIMIT, relative_difference

Array = NDArray[np.floating]
_LEVELS = 127
"""Symmetric INT8 reaches from -127 to 127, and 0 is exact."""

_SMALLEST = 1e-12
"""Least range, so that a channel of zeros has a scale."""


@dataclass(frozen=True)
class Material:
    """What quantisation needs to know of an FP32 graph.

    Args:
        graph: FP32, simplified.
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


def measured(graph: ModelProto, pictures: Sequence[Frame]) -> Material:
    """Measures ranges and features of good pictures.

    Args:
        graph: FP32, simplified.
        pictures: Good pictures, as the graph's input.
    """
    weights = {tensor.name: tensor.dims for tensor in graph.graph.initializer}
    convolutions = [
        node for node in extractor_convolutions(graph) if weights[node.input[1]][1] > 1
    ]  # a depthwise one has weights of (C, 1, h, w)
    ranges = _ranges(graph, sorted({node.input[0] for node in convolutions}), pictures)
    layers: dict[str, list[str]] = {}
    for node in convolutions:
        layers.setdefault(node.input[1], []).append(node.name)
    return Material(graph, layers, ranges, _mean_features(graph, pictures), pictures)


def quantised(material: Material, left: int) -> ModelProto:
    """Returns the graph with INT8 convolutions.

    Args:
        material: What `measured` found.
        left: So many of the first layers stay in float, besides the depthwise ones.
    """
    graph = _with_pairs(material, set(inside(material, left)))
    shift = _mean_features(graph, material.pictures) - material.features
    return _recentred(graph, shift)


def inside(material: Material, left: int) -> list[str]:
    """Returns the names of the convolutions in INT8, where so many of the first layers are not."""
    return [name for names in list(material.layers.values())[left:] for name in names]


def extractor_convolutions(graph: ModelProto) -> list[NodeProto]:
    """Returns the convolutions with constant weights that the features come from, in order."""
    constants = {tensor.name for tensor in graph.graph.initializer}
    wanted, found = {FEATURES}, []
    for node in reversed(graph.graph.node):
        if wanted & set(node.output):
            wanted |= set(node.input)
            if node.op_type == "Conv" and node.input[1] in constants:
                found.append(node)
    return found[::-1]


def multiplications(graph: ModelProto, picture: Frame) -> dict[str, int]:
    """Counts the multiplications of each of the extractor's convolutions for one picture."""
    convolutions = extractor_convolutions(graph)
    weights = {tensor.name: tensor.dims for tensor in graph.graph.initializer}
    outputs = outputs_of(graph, [node.output[0] for node in convolutions], [picture])
    (sizes,) = ({name: array.size for name, array in one.items()} for one in outputs)
    return {
        node.name: sizes[node.output[0]] * int(np.prod(weights[node.input[1]][1:]))
        for node in convolutions
    }


def _with_pairs(material: Material, chosen: set[str]) -> ModelProto:
    graph = material.graph
    constants = {tensor.name: tensor for tensor in graph.graph.initializer}
    added: dict[str, TensorProto] = {}
    nodes: list[NodeProto] = []
    done: set[str] = set()
    for node in graph.graph.node:
        if node.name not in chosen:
            nodes.append(node)
            continue
        copy = NodeProto()
        copy.CopyFrom(node)
        given, weight = node.input[0], node.input[1]
        copy.input[:2] = [f"{given}_dequantized", f"{weight}_dequantized"]
        if given not in done:
            done.add(given)
            added |= _constants(given, np.array(_scale(material.ranges[given])))
            nodes += _pair(given)
        if weight not in done:
            done.add(weight)
            array = numpy_helper.to_array(constants[weight]).astype(np.float32)
            scales = _scale(np.abs(array).reshape(len(array), -1).max(axis=1))
            added |= _constants(weight, scales)
            added[f"{weight}_int8"] = _stored(array, scales, f"{weight}_int8")
            nodes.append(_dequantize(weight, axis=0))
        nodes.append(copy)
    return with_nodes(graph, nodes, [*constants.values(), *added.values()])


def _scale(greatest: float | NDArray[np.floating]) -> NDArray[np.float32]:
    return np.asarray(np.maximum(greatest, _SMALLEST) / _LEVELS, np.float32)


def _constants(name: str, scale: Array) -> dict[str, TensorProto]:
    values = {f"{name}_scale": scale, f"{name}_zero": np.zeros(scale.shape, np.int8)}
    return {key: numpy_helper.from_array(value, key) for key, value in values.items()}


def _stored(weights: Array, scales: Array, name: str) -> TensorProto:
    levels = weights / scales.reshape(-1, *[1] * (weights.ndim - 1))
    return numpy_helper.from_array(np.rint(levels).astype(np.int8), name)


def _pair(name: str) -> list[NodeProto]:
    inputs = [name, f"{name}_scale", f"{name}_zero"]
    output = f"{name}_int8"
    first = helper.make_node("QuantizeLinear", inputs, [output], name=f"{name}_quantize")
    return [first, _dequantize(name)]


def _dequantize(name: str, axis: int | None = None) -> NodeProto:
    inputs = [f"{name}_int8", f"{name}_scale", f"{name}_zero"]
    outputs = [f"{name}_dequantized"]
    label = f"{name}_dequantize"
    node = helper.make_node("DequantizeLinear", inputs, outputs, name=label)
    if axis is not None:
        node.attribute.append(helper.make_attribute("axis", axis))
    return node


def _recentred(graph: ModelProto, shift: NDArray[np.float32]) -> ModelProto:
    """Subtracts a constant from the features."""
    nodes = []
    for node in graph.graph.node:
        copy = NodeProto()
        copy.CopyFrom(node)
        nodes.append(copy)
        if FEATURES in node.output:
            uncentred = f"{FEATURES}_uncentred"
            copy.output[:] = [uncentred if name == FEATURES else name for name in node.output]
            nodes.append(
                helper.make_node(
                    "Sub", [uncentred, "feature_shift"], [FEATURES], name="recentre_features"
                )
            )
    # As one long row: the engine's audit takes a two-axis constant for a layer's weights.
    constant = numpy_helper.from_array(shift.reshape(-1).astype(np.float32), "feature_shift")
    return with_nodes(graph, nodes, [*graph.graph.initializer, constant])


def _mean_features(graph: ModelProto, pictures: Sequence[Frame]) -> NDArray[np.float32]:
    total = np.zeros(1)
    for found in outputs_of(graph, [FEATURES], pictures, "features"):
        total = total + found[FEATURES].astype(np.float64).mean(axis=0)
    mean: NDArray[np.float32] = (total / len(pictures)).astype(np.float32)
    return mean


def _ranges(graph: ModelProto, names: list[str], pictures: Sequence[Frame]) -> dict[str, float]:
    """Returns the greatest magnitude of each tensor over the pictures."""
    nodes = list(graph.graph.node)
    for name in names:
        nodes += [
            helper.make_node("Abs", [name], [f"{name}_magnitude"]),
            helper.make_node("ReduceMax", [f"{name}_magnitude"], [f"{name}_greatest"], keepdims=0),
        ]
    observed = ModelProto()
    observed.CopyFrom(graph)
    del observed.graph.node[:]
    observed.graph.node.extend(nodes)
    greatest = dict.fromkeys(names, 0.0)
    wanted = [f"{name}_greatest" for name in names]
    for found in outputs_of(observed, wanted, pictures, "ranges"):
        for name in names:
            greatest[name] = max(greatest[name], float(found[f"{name}_greatest"]))
    return greatest


LEFT = (0, 1, 2, 3, 4, 6, 8, 12)
"""How many of the first convolutions, depthwise ones not counted, are tried in float."""

MOST_SPREAD = 0.03
"""Good pictures' relative errors scatter by no more: that changes the order of scores."""

MOST_SHIFT = 0.05
"""All their scores together rise or fall by no more: the threshold follows, but a model that knows
these pictures by heart may shift more on them than on new ones."""

PICTURES = 64
"""At most so many good pictures give ranges, and as many others are compared."""

FEWEST = 4
"""At least so many of each."""

Scores = NDArray[np.float32]
T = TypeVar("T")


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
        graph: FP32, simplified.
        pictures: Good pictures that give ranges and the features' shift.
        others: Good pictures that tell how many convolutions have to stay in float; at most
            `PICTURES` of them are used.

    Raises:
        ExportError: The graph has no convolutions, or INT8 spoils its scores however many of the
            first convolutions stay in float.
    """
    material = measured(graph, pictures)
    count = len(material.layers)
    others = _spread_out(others)
    exact = scores(graph, others, "FP32 graph")
    if not count:
        raise ExportError(
            "the extractor has no convolution with constant weights that could be INT8. Export "
            "with --precision fp16."
        )
    for left in (left for left in LEFT if left < count):
        found = quantised(material, left)
        shift, spread = _change(exact, scores(found, others, f"INT8, {left} left in float"))
        if abs(shift) <= MOST_SHIFT and spread <= MOST_SPREAD:
            work = multiplications(graph, others[0])
            share = sum(work[name] for name in inside(material, left)) / sum(work.values())
            return Quantised(found, count - left, left, share)
    raise ExportError(
        f"INT8 shifts the scores of good pictures by {shift:+.1%} (limit {MOST_SHIFT:.0%}) and "
        f"scatters them by {spread:.1%} (limit {MOST_SPREAD:.0%}), even with {left} convolutions "
        "left in float; nothing was written. Export with --precision fp16."
    )


def _change(exact: Scores, other: Scores) -> tuple[float, float]:
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
    given: Sequence[Path] = frames.recorded(folder, "train")
    others = given
    if metadata.calibration is not None and metadata.calibration.method == "split":
        others = frames.recorded(folder, "calibration")
    else:
        given, others = _spread_out(given[1::2]), _spread_out(others[::2])
    given = _spread_out(given)
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
    """Refuses a graph that gives no finite score for some frame made by a formula.

    Raises:
        ExportError: It is so.
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
        found: The graph.
        exact: Scores of the FP32 graph.
        scored: Those of the INT8 graph.
        thresholds: Thresholds of the two graphs; None without a calibration.

    Raises:
        ExportError: A score is not finite, or differs too much.
    """
    shift = shift_of(exact, scored)
    errors = relative_difference(np.float32(shift) * exact, scored)
    if not errors.max() <= INT8_LIMIT:
        raise ExportError(
            f"INT8 changes the score of a good picture by {errors.max():.2g} relative, apart "
            f"from the common shift (limit {INT8_LIMIT:g}); nothing was written. Export with "
            "--precision fp16."
        )
    flips = None
    if thresholds is not None:
        flips = int(((exact > thresholds[0]) != (scored > thresholds[1])).sum())
    return Int8(
        convolutions=found.convolutions,
        left_in_float=found.left,
        share=found.share,
        pictures=len(exact),
        shift=shift,
        median_relative_error=float(np.median(errors)),
        greatest_relative_error=float(errors.max()),
        flips=flips,
    )


def shift_of(exact: Scores, scored: Scores) -> float:
    """Returns the median of `scored` / `exact`."""
    return float(np.median(scored.astype(np.float64) / exact))
