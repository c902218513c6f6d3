"""How large a tensor can become: bounds that hold for every picture, by interval arithmetic.

A convolution's output is bounded by its weights and the bounds of its input. Where the bound
stays below FP16's greatest number, no saturation is needed; where it does not, or where an
operator is not known here, it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from .simplify import attribute

Constants = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Range:
    """Bounds of a tensor, for all of it or for each channel.

    Args:
        low: `()` or `(C,)` float64.
        high: `()` or `(C,)` float64.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @property
    def greatest(self) -> float:
        """The greatest magnitude."""
        return float(max(np.abs(self.low).max(), np.abs(self.high).max()))

    def whole(self) -> Range:
        """Bounds for all channels together."""
        return Range(self.low.min(), self.high.max())

    def clipped(self, low: float, high: float) -> Range:
        """Bounds after a clip."""
        return Range(np.clip(self.low, low, high), np.clip(self.high, low, high))


UNKNOWN = Range(np.array(-np.inf), np.array(np.inf))


def bound(node: NodeProto, inputs: list[Range], constants: Constants) -> Range:
    """Bounds the output of a node.

    Args:
        node: The node.
        inputs: Bounds of its inputs, constant ones included.
        constants: Arrays by name.

    Returns:
        Bounds, `UNKNOWN` for an operator that is not known here.
    """
    rule = _RULES.get(node.op_type)
    return UNKNOWN if rule is None else rule(node, inputs, constants)


def constant_range(array: NDArray[np.generic]) -> Range:
    """Bounds of a constant: per channel where its shape is `(1, C, 1, 1)`."""
    values = array.astype(np.float64)
    if values.ndim == 4 and values.shape == (1, values.shape[1], 1, 1):
        return Range(values.reshape(-1), values.reshape(-1))
    return Range(values.min(), values.max()) if values.size else UNKNOWN


def _conv(node: NodeProto, inputs: list[Range], constants: Constants) -> Range:
    weight = constants.get(node.input[1])
    if weight is None or not np.isfinite(inputs[0].greatest):
        return UNKNOWN
    weights = weight.astype(np.float64)  # (out, in / groups, h, w)
    outputs, per_group = weights.shape[:2]
    groups = int(str(attribute(node, "group", 1)))
    channels = per_group * groups
    # Padding adds zeros.
    low = np.broadcast_to(np.minimum(inputs[0].low, 0.0), channels).reshape(groups, 1, per_group)
    high = np.broadcast_to(np.maximum(inputs[0].high, 0.0), channels).reshape(groups, 1, per_group)
    shape = (groups, outputs // groups, per_group)
    positive = np.maximum(weights, 0.0).sum(axis=(2, 3)).reshape(shape)
    negative = np.minimum(weights, 0.0).sum(axis=(2, 3)).reshape(shape)
    least = (positive * low + negative * high).sum(axis=2).reshape(outputs)
    most = (positive * high + negative * low).sum(axis=2).reshape(outputs)
    bias = constants[node.input[2]].astype(np.float64) if len(node.input) > 2 else 0.0
    return Range(least + bias, most + bias)


def _corners(
    combine: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]],
) -> Callable[[NodeProto, list[Range], Constants], Range]:
    """Bounds a monotone operation of two tensors by its values at the corners."""

    def rule(_node: NodeProto, inputs: list[Range], _constants: Constants) -> Range:
        left, right = inputs
        if {left.low.ndim, right.low.ndim} == {1} and left.low.shape != right.low.shape:
            left, right = left.whole(), right.whole()
        if not np.isfinite([left.greatest, right.greatest]).all():
            return UNKNOWN
        with np.errstate(divide="ignore", invalid="ignore"):
            values = [combine(a, b) for a in (left.low, left.high) for b in (right.low, right.high)]
        if not np.isfinite(values).all():
            return UNKNOWN
        return Range(np.minimum.reduce(values), np.maximum.reduce(values))

    return rule


def _divide(node: NodeProto, inputs: list[Range], constants: Constants) -> Range:
    divisor = inputs[1]
    if bool(((divisor.low <= 0.0) & (divisor.high >= 0.0)).any()):
        return UNKNOWN
    return _corners(np.divide)(node, inputs, constants)


def _clip(node: NodeProto, inputs: list[Range], constants: Constants) -> Range:
    limits = [-np.inf, np.inf]
    for position, name in enumerate(node.input[1:]):
        if name and name in constants:
            limits[position] = float(constants[name])
    return inputs[0].clipped(*limits)


def _same(_node: NodeProto, inputs: list[Range], _constants: Constants) -> Range:
    return inputs[0]


def _moved(_node: NodeProto, inputs: list[Range], _constants: Constants) -> Range:
    return inputs[0].whole()


def _concatenated(node: NodeProto, inputs: list[Range], _constants: Constants) -> Range:
    if attribute(node, "axis", 0) != 0 or len({r.low.shape for r in inputs}) > 1:
        inputs = [part.whole() for part in inputs]
    lows, highs = [part.low for part in inputs], [part.high for part in inputs]
    return Range(np.minimum.reduce(lows), np.maximum.reduce(highs))


def _padded(_node: NodeProto, inputs: list[Range], _constants: Constants) -> Range:
    return Range(np.minimum(inputs[0].low, 0.0), np.maximum(inputs[0].high, 0.0))


_RULES: dict[str, Callable[[NodeProto, list[Range], Constants], Range]] = {
    "Add": _corners(np.add),
    "AveragePool": _padded,
    "Cast": _same,
    "Clip": _clip,
    "Concat": _concatenated,
    "Conv": _conv,
    "Div": _divide,
    "Gather": _moved,
    "MaxPool": _same,
    "Mul": _corners(np.multiply),
    "Pad": _padded,
    "ReduceMean": _moved,
    "Relu": lambda _node, inputs, _constants: inputs[0].clipped(0.0, np.inf),
    "Reshape": _moved,
    "Sigmoid": lambda _node, _inputs, _constants: Range(np.array(0.0), np.array(1.0)),
    "Slice": _moved,
    "Sub": _corners(np.subtract),
    "Transpose": _moved,
}
