"""FP16 in a graph: convolutions and fully connected layers in half precision, the rest in single.

TensorRT runs a strongly typed network exactly as its types say, so precision is decided here:

- Convolutions, and what lies between them, are FP16.
- A fully connected layer has FP16 weights and input, but multiplies in FP32: Cast, MatMul, Cast,
  then bias and saturation in FP16. TensorRT fuses that spelling into one kernel that reads
  half-size weights; with the bias in FP32 it would store the weights in FP32.
- Pooling sums, the flow's latents, exp and atan, the clamp and the score are FP32: FP16 ends at
  65504, so a latent above 255 already overflows when it is squared.
- Where a value could leave FP16's range (`RangeAnalysis` can't prove that it does not), it
  saturates, so that every frame gives a finite score. A NaN would compare as "not above the
  threshold".

`to_half` writes such a graph, `unsound` proves that a written one gives a finite score for every
frame.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from differnet_runtime.errors import ExportError

from .graph import attribute, copied, uses, with_nodes

Array = NDArray[np.float64]
Constants = Mapping[str, NDArray[np.generic]]

GREATEST = 65504.0
"""The greatest finite FP16 number."""

_SMALLEST_NORMAL = 2.0**-14
_ELEMENTWISE = frozenset(
    ("Add", "AveragePool", "Clip", "Concat", "HardSigmoid", "HardSwish", "LeakyRelu", "MaxPool",
     "Mul", "Pad", "Relu", "Sigmoid")
)  # fmt: skip
_MOVES = frozenset(("Concat", "Flatten", "Gather", "Pad", "Reshape", "Slice", "Split", "Transpose"))
_HALF_OPERATORS = _ELEMENTWISE | _MOVES | {"Conv", "Cast"}


@dataclass(frozen=True)
class HalfWeights:
    """What became of the weights.

    Args:
        count: How many are stored in FP16.
        subnormal_share: Share of them, zeros apart, below FP16's normal range: they lose digits.
    """

    count: int
    subnormal_share: float


def to_half(model: ModelProto) -> tuple[ModelProto, HalfWeights]:
    """Writes FP16 into a simplified FP32 graph.

    Args:
        model: An FP32 graph from `simplify`.

    Returns:
        The strongly typed graph, and what became of its weights.

    Raises:
        ExportError: A weight is not finite, or is greater than FP16 can hold.
    """
    writer = _Writer(model)
    for node in model.graph.node:
        writer.write(node)
    initializers = {t.name: t for t in model.graph.initializer} | writer.added
    return with_nodes(model, writer.nodes, initializers.values()), writer.weights()


def unsound(model: ModelProto) -> list[str]:
    """Lists what could make a score of an FP16 graph infinite, NaN or imprecise.

    Every FP16 tensor must stay within FP16's range, except where the very next thing done to it is
    a saturation; what FP16 spoils must be FP32.

    Args:
        model: A graph that `to_half` wrote.

    Returns:
        A sentence each; none for a sound graph.
    """
    ranges = RangeAnalysis(model)
    half = {t.name for t in model.graph.initializer if t.data_type == TensorProto.FLOAT16}
    found = []
    for node in model.graph.node:
        bounds = ranges.follow(node)
        if not _gives_half(node, half):
            continue
        half |= set(node.output)
        overflows = not bounds.greatest <= GREATEST
        if node.op_type not in _HALF_OPERATORS:
            found.append(f"{node.op_type} {node.name} is computed in FP16")
        elif overflows and not _is_saturated(node.output[0], ranges):
            found.append(f"{node.op_type} {node.output[0]} may overflow in FP16")
        for name in node.output if overflows else ():
            ranges[name] = UNKNOWN  # beyond FP16's range lies infinity
    unread = (name for name, users in ranges.users.items() if name in half and not users)
    return found + [f"the output {name} is FP16" for name in unread]


def _gives_half(node: NodeProto, half: Collection[str]) -> bool:
    if node.op_type == "Cast":
        return bool(attribute(node, "to", None) == TensorProto.FLOAT16)
    return any(name in half for name in node.input)


def _is_saturated(name: str, ranges: RangeAnalysis) -> bool:
    """Whether all that reads a tensor saturates it, adding a constant first at most."""
    users = ranges.users[name]
    return bool(users) and all(_saturates(user, ranges) for user in users)


def _saturates(node: NodeProto, ranges: RangeAnalysis) -> bool:
    if node.op_type == "Clip":
        return len(node.input) == 3 and all(n in ranges.constants for n in node.input[1:])
    biased = node.op_type == "Add" and any(name in ranges.constants for name in node.input)
    return (biased or node.op_type == "Relu") and _is_saturated(node.output[0], ranges)


def _half_outputs(nodes: Iterable[NodeProto], ranges: RangeAnalysis) -> set[str]:
    """Names the outputs of convolutions, and of what lies between and before them.

    An average, or what only moves numbers, stays in FP32 if nothing in FP16 reads it.
    """
    nodes, constants, half = list(nodes), ranges.constants, set[str]()
    for node in nodes:
        between = node.op_type in _ELEMENTWISE and all(
            name in half for name in node.input if name and name not in constants
        )
        if between or (node.op_type == "Conv" and node.input[1] in constants):
            half |= set(node.output)
    for node in reversed(nodes):
        followers = [user for name in node.output for user in ranges.users[name]]
        read_in_half = [user.output[0] in half for user in followers]
        if node.op_type in _MOVES and followers and all(read_in_half):
            half |= set(node.output)
        elif node.op_type in _MOVES | {"AveragePool"} and not any(read_in_half):
            half -= set(node.output)
    return half


class _Writer:
    """Goes through the graph once, in order; tensors keep their names."""

    def __init__(self, model: ModelProto) -> None:
        self.nodes: list[NodeProto] = []
        self.added: dict[str, TensorProto] = {}
        self._ranges = RangeAnalysis(model)
        self._half = _half_outputs(model.graph.node, self._ranges)
        self._cast_names: set[str] = set()
        self._absorbed: set[str] = set()
        self._half_weights: list[NDArray[np.generic]] = []

    def write(self, node: NodeProto) -> None:
        """Writes one node, with the casts that its inputs need."""
        if node.output[0] in self._absorbed:
            return
        if self._is_fully_connected(node):
            self._write_fully_connected(node)
            return
        self._ranges.follow(node)
        if node.output[0] in self._half:
            self._write_half(node)
        else:
            self.nodes.append(copied(node, inputs=[self._single(name) for name in node.input]))

    def weights(self) -> HalfWeights:
        """Returns what became of the weights."""
        count = sum(array.size for array in self._half_weights)
        low = sum(
            int(((array != 0) & (np.abs(array) < _SMALLEST_NORMAL)).sum())
            for array in self._half_weights
        )
        return HalfWeights(count, low / max(count, 1))

    def _write_half(self, node: NodeProto) -> None:
        copy = copied(node, inputs=[self._halved(name) for name in node.input])
        output, bounds = node.output[0], self._ranges[node.output[0]]
        if bounds.greatest <= GREATEST or self._is_clipped_next(output):
            self.nodes.append(copy)
            return
        if node.op_type == "Relu":
            low, source = 0.0, copy.input[0]
        else:
            low, source = -GREATEST, f"{output}_unsaturated"
            copy.output[0] = source
            self.nodes.append(copy)
        self.nodes.append(self._clip(source, output, low))
        self._ranges[output] = bounds.clipped(low, GREATEST)

    def _is_clipped_next(self, name: str) -> bool:
        """Whether all that reads a tensor saturates it (infinity is no harm to a Clip or ReLU)."""
        return all(
            user.op_type in ("Clip", "Relu") and user.output[0] in self._half
            for user in self._ranges.users[name]
        )

    def _is_fully_connected(self, node: NodeProto) -> bool:
        """Whether it is a fully connected layer with constant weights, or one for each window."""
        if node.op_type not in ("Gemm", "MatMul"):
            return False
        weight = self._ranges.constants.get(node.input[1])
        return (
            weight is not None
            and weight.ndim in (2, 3)
            and all(attribute(node, name, 1.0) == 1.0 for name in ("alpha", "beta"))
            and not attribute(node, "transA", 0)
        )

    def _write_fully_connected(self, node: NodeProto) -> None:
        output, low = node.output[0], -GREATEST
        users = self._ranges.users[output]
        if len(users) == 1 and users[0].op_type == "Relu":
            low, output = 0.0, users[0].output[0]
            self._absorbed.add(output)
        weight = self._ranges.constants[node.input[1]]
        transposed = weight.T if attribute(node, "transB", 0) else weight
        stored = self._stored_half(f"{node.input[1]}_half", np.ascontiguousarray(transposed))
        single = self._cast(stored, f"{stored}_single", TensorProto.FLOAT)
        # Cast back and forth: FP16 input, FP32 products and sums.
        widened = self._cast(self._halved(node.input[0]), f"{output}_input", TensorProto.FLOAT)
        product, summed = f"{output}_product", f"{output}_half_product"
        self.nodes.append(helper.make_node("MatMul", [widened, single], [product], name=node.name))
        self._cast(product, summed, TensorProto.FLOAT16)
        if len(node.input) > 2 and node.input[2]:
            inputs, summed = [summed, self._halved(node.input[2])], f"{output}_sum"
            self.nodes.append(helper.make_node("Add", inputs, [summed]))
        self.nodes.append(self._clip(summed, output, low))
        self._half.add(output)
        self._ranges[output] = Range(np.array(low), np.array(GREATEST))

    def _clip(self, name: str, output: str, low: float, kind: type = np.float16) -> NodeProto:
        limits = {f"limit_{value:g}_{np.dtype(kind).name}": value for value in (low, GREATEST)}
        for limit, value in limits.items():
            self.added[limit] = numpy_helper.from_array(np.array(value, kind), limit)
        return helper.make_node("Clip", [name, *limits], [output], name=f"{output}_saturated")

    def _halved(self, name: str) -> str:
        """Returns the FP16 form of a tensor that a half node reads."""
        if name in self._ranges.constants:
            array = self._ranges.constants[name]
            return self._stored_half(f"{name}_half", array) if array.dtype == np.float32 else name
        if not name or name in self._half:
            return name
        cast = source = f"{name}_to_half"
        if cast not in self._cast_names:
            source = name
            if self._ranges[name].greatest > GREATEST:
                source = f"{name}_saturated"
                self.nodes.append(self._clip(name, source, -GREATEST, np.float32))
        return self._cast(source, cast, TensorProto.FLOAT16)

    def _single(self, name: str) -> str:
        """Returns the FP32 form of a tensor that another node reads."""
        if name not in self._half:
            return name
        return self._cast(name, f"{name}_to_single", TensorProto.FLOAT)

    def _cast(self, name: str, output: str, kind: int) -> str:
        """Writes a cast, once for each output, and returns the output."""
        if output not in self._cast_names:
            self._cast_names.add(output)
            label = f"{output}_cast"
            self.nodes.append(helper.make_node("Cast", [name], [output], name=label, to=kind))
        return output

    def _stored_half(self, name: str, array: NDArray[np.generic]) -> str:
        if name not in self.added:
            greatest = float(np.abs(array).max(initial=0.0))
            if not greatest <= GREATEST:
                raise ExportError(
                    f"the weights {name.removesuffix('_half')} reach {greatest:g}; FP16 holds at "
                    f"most {GREATEST:g}. Export with --precision fp32, or train again with more "
                    "weight decay."
                )
            self.added[name] = numpy_helper.from_array(array.astype(np.float16), name)
            if array.ndim > 1:
                self._half_weights.append(array)
        return name


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
    """Bounds the tensors of a graph for every frame, by interval arithmetic.

    One walk over the nodes in their order, from the bounds of the graph's input and constants. A
    convolution's output is bounded by its weights and the bounds of its input; the output of an
    operator that is not known here has no bounds.

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
