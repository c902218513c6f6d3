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
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from .graph import FEATURES
from .scoring import Frame, outputs_of
from .simplify import with_nodes

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
