"""Writing FP16 into a graph: convolutions and fully connected layers in half, the rest in single.

TensorRT runs a strongly typed network exactly as its types say, so precision is decided here:

- Convolutions, and what lies between them, are FP16.
- A fully connected layer has FP16 weights and input, but multiplies in FP32: Cast, MatMul, Cast,
  then bias and saturation in FP16. TensorRT fuses that spelling into one kernel that reads
  half-size weights; with the bias in FP32 it would store the weights in FP32.
- Pooling sums, the flow's latents, exp and atan, the clamp and the score are FP32: FP16 ends at
  65504, so a latent above 255 already overflows when it is squared.
- Where a value could leave FP16's range (`ranges` can't prove that it does not), it saturates, so
  that every frame gives a finite score. A NaN would compare as "not above the threshold".

How large a tensor can become: bounds that hold for every picture, by interval arithmetic.

A convolution's output is bounded by its weights and the bounds of its input. Where the bound
stays below FP16's greatest number, no saturation is needed; where it does not, or where an
operator is not known here, it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from differnet_runtime.errors import ExportError

from .simplify import attribute, uses, with_nodes

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


GREATEST = 65504.0
"""The greatest finite FP16 number."""

_SMALLEST_NORMAL = 2.0**-14
ELEMENTWISE = frozenset(
    ("Add", "AveragePool", "Clip", "Concat", "HardSigmoid", "HardSwish", "LeakyRelu", "MaxPool",
     "Mul", "Pad", "Relu", "Sigmoid")
)  # fmt: skip
MOVES = frozenset(("Concat", "Flatten", "Gather", "Pad", "Reshape", "Slice", "Split", "Transpose"))


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
        model: FP32, simplified.

    Returns:
        The strongly typed graph, and what became of its weights.

    Raises:
        ExportError: A weight is not finite, or is greater than FP16 can hold.
    """
    writer = _Writer(model)
    for node in model.graph.node:
        writer.write(node)
    nodes, initializers = writer.finished()
    return with_nodes(model, nodes, initializers), writer.weights()


def _half_nodes(nodes: list[NodeProto], constants: dict[str, NDArray[np.generic]]) -> set[str]:
    """Names the outputs of convolutions, and of what lies between and before them."""
    half: set[str] = set()
    for node in nodes:
        given = [name for name in node.input if name and name not in constants]
        between = node.op_type in ELEMENTWISE and all(name in half for name in given)
        if (node.op_type == "Conv" and node.input[1] in constants) or between:
            half |= set(node.output)
    users = uses(nodes)
    for node in reversed(nodes):
        followers = [user for name in node.output for user in users[name]]
        if node.op_type in MOVES and followers and all(_in(user, half) for user in followers):
            half |= set(node.output)
    return half


def _in(node: NodeProto, half: set[str]) -> bool:
    return node.output[0] in half


@dataclass
class _Writer:
    """Goes through the graph once, in order; tensors keep their names."""

    model: ModelProto
    nodes: list[NodeProto] = field(default_factory=list)
    added: dict[str, TensorProto] = field(default_factory=dict)

    def __post_init__(self) -> None:
        graph = self.model.graph
        self.tensors = {tensor.name: tensor for tensor in graph.initializer}
        self.constants = {n: numpy_helper.to_array(t) for n, t in self.tensors.items()}
        self.half = _half_nodes(list(graph.node), self.constants)
        self.users = uses(graph.node)
        self.ranges = {value.name: input_range(value) for value in graph.input}
        self.ranges |= {
            name: constant_range(array)
            for name, array in self.constants.items()
            if array.dtype.kind in "fiu"
        }
        self.casts: dict[tuple[str, int], str] = {}
        self.absorbed: set[str] = set()
        self.half_weights: list[NDArray[np.generic]] = []

    def write(self, node: NodeProto) -> None:
        """Writes one node, with the casts that its inputs need."""
        if node.output[0] in self.absorbed:
            return
        if self._is_connected(node):
            self._write_connected(node)
            return
        self._propagate(node)
        if _in(node, self.half):
            self._write_half(node)
        else:
            copy = NodeProto()
            copy.CopyFrom(node)
            copy.input[:] = [self._single(name) for name in node.input]
            self.nodes.append(copy)

    def finished(self) -> tuple[list[NodeProto], Iterable[TensorProto]]:
        """Returns all nodes and all constants that they may use."""
        return self.nodes, {**self.tensors, **self.added}.values()

    def weights(self) -> HalfWeights:
        """Returns what became of the weights."""
        count = sum(array.size for array in self.half_weights)
        low = sum(
            int(((array != 0) & (np.abs(array) < _SMALLEST_NORMAL)).sum())
            for array in self.half_weights
        )
        return HalfWeights(count, low / max(count, 1))

    def _propagate(self, node: NodeProto) -> None:
        inputs = [self.ranges.get(name, UNKNOWN) for name in node.input if name]
        result = bound(node, inputs, self.constants)
        for name in node.output:
            self.ranges[name] = result

    def _write_half(self, node: NodeProto) -> None:
        copy = NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [self._halved(name) for name in node.input]
        output = node.output[0]
        if self.ranges[output].greatest <= GREATEST or self._is_clipped_next(output):
            self.nodes.append(copy)
            return
        low = 0.0 if node.op_type == "Relu" else -GREATEST
        if node.op_type != "Relu":
            copy.output[0] = f"{output}_unsaturated"
            self.nodes.append(copy)
        self.nodes.append(self._clip(copy.input[0] if low == 0.0 else copy.output[0], output, low))
        self.ranges[output] = self.ranges[output].clipped(low, GREATEST)

    def _is_clipped_next(self, name: str) -> bool:
        """Whether all that reads a tensor saturates it (infinity is no harm to a Clip or ReLU)."""
        return all(user.op_type in ("Clip", "Relu") for user in self.users[name]) and all(
            _in(user, self.half) for user in self.users[name]
        )

    def _is_connected(self, node: NodeProto) -> bool:
        """Whether it is a fully connected layer with constant weights, or one for each window."""
        if node.op_type not in ("Gemm", "MatMul") or len(node.input) < 2:
            return False
        weight = self.constants.get(node.input[1])
        plain = all(attribute(node, name, 1.0) == 1.0 for name in ("alpha", "beta"))
        return (
            weight is not None
            and weight.ndim in (2, 3)
            and plain
            and not attribute(node, "transA", 0)
        )

    def _write_connected(self, node: NodeProto) -> None:
        output = node.output[0]
        users = self.users[output]
        low = -GREATEST
        if len(users) == 1 and users[0].op_type == "Relu":
            low, output = 0.0, users[0].output[0]
            self.absorbed.add(output)
        weight = self.constants[node.input[1]]
        transposed = weight.T if attribute(node, "transB", 0) else weight
        stored = self._stored_half(f"{node.input[1]}_half", np.ascontiguousarray(transposed))
        single = f"{stored}_single"
        if single not in self.casts.values():
            self.nodes.append(_cast(stored, single, TensorProto.FLOAT))
            self.casts[stored, TensorProto.FLOAT] = single
        given = self._halved(node.input[0])
        # Cast back and forth: FP16 input, FP32 products and sums.
        widened = f"{output}_input"
        self.nodes += [
            _cast(given, widened, TensorProto.FLOAT),
            helper.make_node("MatMul", [widened, single], [f"{output}_product"], name=node.name),
            _cast(f"{output}_product", f"{output}_half_product", TensorProto.FLOAT16),
        ]
        summed = f"{output}_half_product"
        if len(node.input) > 2 and node.input[2]:
            bias = self._halved(node.input[2])
            self.nodes.append(helper.make_node("Add", [summed, bias], [f"{output}_sum"]))
            summed = f"{output}_sum"
        self.nodes.append(self._clip(summed, output, low))
        self.half.add(output)
        self.ranges[output] = Range(np.array(low), np.array(GREATEST))

    def _clip(self, name: str, output: str, low: float, kind: type = np.float16) -> NodeProto:
        label = np.dtype(kind).name
        limits = []
        for value in (low, GREATEST):
            limit = f"limit_{value:g}_{label}"
            self.added[limit] = numpy_helper.from_array(np.array(value, kind), limit)
            limits.append(limit)
        return helper.make_node("Clip", [name, *limits], [output], name=f"{output}_saturated")

    def _halved(self, name: str) -> str:
        """Returns the FP16 form of a tensor that a half node reads."""
        if name in self.constants:
            array = self.constants[name]
            return self._stored_half(f"{name}_half", array) if array.dtype == np.float32 else name
        if not name or name in self.half:
            return name
        cast = self.casts.get((name, TensorProto.FLOAT16))
        if cast is None:
            cast = self.casts[name, TensorProto.FLOAT16] = f"{name}_to_half"
            source = name
            if self.ranges.get(name, UNKNOWN).greatest > GREATEST:
                source = f"{name}_saturated"
                self.nodes.append(self._clip(name, source, -GREATEST, np.float32))
            self.nodes.append(_cast(source, cast, TensorProto.FLOAT16))
        return cast

    def _single(self, name: str) -> str:
        """Returns the FP32 form of a tensor that another node reads."""
        if name not in self.half:
            return name
        cast = self.casts.get((name, TensorProto.FLOAT))
        if cast is None:
            cast = self.casts[name, TensorProto.FLOAT] = f"{name}_to_single"
            self.nodes.append(_cast(name, cast, TensorProto.FLOAT))
        return cast

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
                self.half_weights.append(array)
        return name


def input_range(value: ValueInfoProto) -> Range:
    """Bounds a graph's input by its type."""
    if value.type.tensor_type.elem_type == TensorProto.UINT8:
        return Range(np.array(0.0), np.array(255.0))
    return UNKNOWN


def _cast(name: str, output: str, kind: int) -> NodeProto:
    return helper.make_node("Cast", [name], [output], name=f"{output}_cast", to=kind)
