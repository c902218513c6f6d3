"""How large the tensors of a graph can become: bounds that hold for every frame.

Interval arithmetic, one walk over the nodes in their order. A convolution's output is bounded by
its weights and the bounds of its input. The output of an operator that is not known here has no
bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from .simplify import attribute, uses

Array = NDArray[np.float64]
Constants = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Range:
    """Bounds of a tensor, for all of it or for each channel.

    Args:
        low: `()` or `(C,)` float64.
        high: `()` or `(C,)` float64.

    Example:
        >>> Range(np.array([-3.0, 1.0]), np.array([2.0, 5.0])).greatest
        5.0
    """

    low: Array
    high: Array

    @property
    def greatest(self) -> float:
        """The greatest magnitude."""
        return float(max(np.abs(self.low).max(), np.abs(self.high).max()))

    def whole(self) -> Range:
        """Returns bounds for all channels together."""
        return Range(self.low.min(), self.high.max())

    def clipped(self, low: float, high: float) -> Range:
        """Returns the bounds after a clip."""
        return Range(np.clip(self.low, low, high), np.clip(self.high, low, high))

    def with_zero(self) -> Range:
        """Returns bounds that include 0, which padding adds."""
        return Range(np.minimum(self.low, 0.0), np.maximum(self.high, 0.0))


UNKNOWN = Range(np.array(-np.inf), np.array(np.inf))


class RangeAnalysis:
    """The walk: bounds of each tensor, from those of the graph's input and constants.

    Args:
        model: The graph; the bounds of its `uint8` input are 0 and 255.

    Attributes:
        constants: Arrays of the initializers by name.
        users: The nodes that read each tensor; see `uses`.
    """

    def __init__(self, model: ModelProto) -> None:
        graph = model.graph
        self.constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        self.users = uses(graph.node)
        self._ranges = {
            value.name: Range(np.array(0.0), np.array(255.0))
            for value in graph.input
            if value.type.tensor_type.elem_type == TensorProto.UINT8
        } | {
            name: _constant(array)
            for name, array in self.constants.items()
            if array.dtype.kind in "fiu" and array.size
        }

    def __getitem__(self, name: str) -> Range:
        """Returns the bounds of a tensor; `UNKNOWN` where there are none."""
        return self._ranges.get(name, UNKNOWN)

    def __setitem__(self, name: str, bounds: Range) -> None:
        """Sets the bounds of a tensor, where more is known than its operator tells."""
        self._ranges[name] = bounds

    def follow(self, node: NodeProto) -> Range:
        """Bounds the outputs of the next node, and returns the bounds."""
        bounds = _bound(node, [self[name] for name in node.input if name], self.constants)
        self._ranges |= dict.fromkeys(node.output, bounds)
        return bounds


def _constant(array: NDArray[np.generic]) -> Range:
    """Bounds a constant: per channel where its shape is `(1, C, 1, 1)`."""
    values = array.astype(np.float64)
    if values.ndim == 4 and values.shape == (1, values.shape[1], 1, 1):
        return Range(values.reshape(-1), values.reshape(-1))
    return Range(values.min(), values.max())


def _bound(node: NodeProto, inputs: list[Range], constants: Constants) -> Range:
    kind = node.op_type
    if kind in _OF_FIRST_INPUT:
        return _OF_FIRST_INPUT[kind](inputs[0])
    if kind in _OF_BOTH_INPUTS:
        return _corners(_OF_BOTH_INPUTS[kind], *inputs)
    rule = {"Clip": _clip, "Concat": _concat, "Conv": _conv}.get(kind)
    return UNKNOWN if rule is None else rule(node, inputs, constants)


_OF_FIRST_INPUT: dict[str, Callable[[Range], Range]] = {
    "AveragePool": Range.with_zero,
    "Cast": lambda values: values,
    "Gather": Range.whole,
    "MaxPool": lambda values: values,
    "Pad": Range.with_zero,
    "ReduceMean": Range.whole,
    "Relu": lambda values: values.clipped(0.0, np.inf),
    "Reshape": Range.whole,
    "Sigmoid": lambda _: Range(np.array(0.0), np.array(1.0)),
    "Slice": Range.whole,
    "Transpose": Range.whole,
}
_OF_BOTH_INPUTS = {"Add": np.add, "Div": np.divide, "Mul": np.multiply, "Sub": np.subtract}


def _corners(combine: np.ufunc, left: Range, right: Range) -> Range:
    """Bounds a monotone operation of two tensors by its values at the corners."""
    if {left.low.ndim, right.low.ndim} == {1} and left.low.shape != right.low.shape:
        left, right = left.whole(), right.whole()
    may_divide_by_zero = combine is np.divide and ((right.low <= 0.0) & (right.high >= 0.0)).any()
    if may_divide_by_zero or not np.isfinite([left.greatest, right.greatest]).all():
        return UNKNOWN
    with np.errstate(invalid="ignore"):
        values = [combine(a, b) for a in (left.low, left.high) for b in (right.low, right.high)]
    if not np.isfinite(values).all():
        return UNKNOWN
    return Range(np.minimum.reduce(values), np.maximum.reduce(values))


def _clip(node: NodeProto, inputs: list[Range], constants: Constants) -> Range:
    limits = [-np.inf, np.inf]
    for position, name in enumerate(node.input[1:]):
        if name in constants:
            limits[position] = float(constants[name])
    return inputs[0].clipped(*limits)


def _concat(node: NodeProto, inputs: list[Range], _constants: Constants) -> Range:
    if attribute(node, "axis", 0) != 0 or len({part.low.shape for part in inputs}) > 1:
        inputs = [part.whole() for part in inputs]
    return Range(
        np.minimum.reduce([part.low for part in inputs]),
        np.maximum.reduce([part.high for part in inputs]),
    )


def _conv(node: NodeProto, inputs: list[Range], constants: Constants) -> Range:
    weight = constants.get(node.input[1])
    if weight is None or not np.isfinite(inputs[0].greatest):
        return UNKNOWN
    weights = weight.astype(np.float64)  # (out, in / groups, h, w)
    outputs, per_group = weights.shape[:2]
    groups = int(str(attribute(node, "group", 1)))
    padded = inputs[0].with_zero()
    low, high = (
        np.broadcast_to(ends, per_group * groups).reshape(groups, 1, per_group)
        for ends in (padded.low, padded.high)
    )
    positive, negative = (
        part.sum(axis=(2, 3)).reshape(groups, outputs // groups, per_group)
        for part in (np.maximum(weights, 0.0), np.minimum(weights, 0.0))
    )
    least = (positive * low + negative * high).sum(axis=2).reshape(outputs)
    most = (positive * high + negative * low).sum(axis=2).reshape(outputs)
    bias = constants[node.input[2]].astype(np.float64) if len(node.input) > 2 else 0.0
    return Range(least + bias, most + bias)
