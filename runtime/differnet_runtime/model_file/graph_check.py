"""Checks a model file's graph before any runtime reads it, without the onnx package.

A runtime trusts the graph: it opens the files that external data names, takes the memory that
shapes ask for, and runs whatever operators it knows. So only what `differnet export` writes passes:
one graph without subgraphs, functions or external data; operators of ONNX's standard domain that
compute their outputs from their inputs alone (none loops, branches, draws random numbers, or reads
a file); weights that lie in the file, are as many as their shapes say, and are finite.

The messages and their fields: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

import math
import struct

import numpy as np

from ..errors import ModelFileError
from .contract import InputContract
from .protobuf import (
    ATTRIBUTE,
    DIMENSION,
    EXTERNAL,
    FLOAT,
    GRAPH,
    LENGTH,
    MODEL,
    NODE,
    NUMBERS,
    OPSET,
    RAW,
    SHAPE,
    TENSOR,
    TENSOR_TYPE,
    TYPE,
    TYPES,
    UINT8,
    VALUE,
    VARINT,
    Message,
    ProtobufReader,
)

OF_RECIPES = frozenset(
    ("Add", "Atan", "AveragePool", "Cast", "Clip", "Concat", "Conv",
     "DequantizeLinear", "Div", "Elu", "Exp",
     "Flatten", "Gather", "Gemm", "Log", "MatMul", "MaxPool", "Mul",
     "QuantizeLinear", "ReduceMax", "ReduceMean",
     "ReduceSum", "Relu", "Reshape", "Shape", "Slice", "Split", "Sqrt", "Sub", "Transpose",
     "Unsqueeze")
)  # fmt: skip
"""What `export` writes for its own recipes and for imported models."""

OF_NETWORKS = frozenset(
    ("Abs", "BatchNormalization", "Ceil", "ConstantOfShape", "Cos", "CumSum", "DepthToSpace",
     "Einsum", "Equal", "Erf", "Expand", "Floor", "GlobalAveragePool", "GlobalMaxPool",
     "HardSigmoid", "HardSwish", "Identity", "InstanceNormalization", "LayerNormalization",
     "LeakyRelu", "Max", "Min", "Mod", "Neg", "Not", "PRelu", "Pad", "Pow", "Range", "Reciprocal",
     "ReduceL2", "ReduceMin", "Resize", "Sigmoid", "Sin", "Softmax", "Softplus", "SpaceToDepth",
     "Squeeze", "Tanh", "Tile", "Where")
)  # fmt: skip
"""What the networks of timm use besides."""

ALLOWED = OF_RECIPES | OF_NETWORKS
OPSETS = range(13, 18)
"""Versions of the standard domain; `export` writes 17, the last that TensorRT 8.6 reads."""

_STANDARD = ("", "ai.onnx")
_OUTPUTS = ("score", "heatmap", "heads")
_MOST_AXES = 8
_MOST_TEXT = 1000
_CHUNK = 1 << 20

_Span = tuple[int, int]


def check_graph(data: bytes, contract: InputContract, source: str) -> None:
    """Refuses a graph that a runtime must not be given; see `graph_problem`.

    Args:
        data: An ONNX file's bytes.
        contract: Input that the metadata promises.
        source: Name of the file, for messages.

    Raises:
        ModelFileError: There is such a problem; says which.
    """
    if problem := graph_problem(data, contract):
        raise ModelFileError(
            f"{source}: the graph {problem}. `differnet export` writes no such file: take the "
            "model from whoever trained it, or export it again."
        )


def graph_problem(data: bytes, contract: InputContract) -> str | None:
    """Says what a runtime must not be given in a graph; None for a sound one. Takes milliseconds.

    Args:
        data: An ONNX file's bytes.
        contract: Input that the metadata promises.

    Returns:
        What `differnet export` never writes, weights that are not finite or not as many as their
        shapes say, or another input; as the end of a sentence that begins with "the graph".
    """
    try:
        _Check(data).run(contract)
    except _RefusedError as refused:
        return str(refused)
    except (IndexError, UnicodeDecodeError) as error:
        return f"can't be read ({error})"
    return None


class _RefusedError(Exception):
    """Says what is wrong with the graph."""


class _Check:
    """One file's check.

    Args:
        data: All bytes of the file.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._reader = ProtobufReader(data)

    def run(self, contract: InputContract) -> None:
        """Checks all of it."""
        model = self._read(MODEL, (0, len(self._data)))
        if model.span(7) is None:
            raise _RefusedError("holds no graph")
        self._opsets(model)
        parts = self._read(GRAPH, model.span(7))
        for initializer in parts.spans(5):
            self._tensor(initializer)
        for node in parts.spans(1):
            self._node(node)
        self._input(parts, contract)
        self._outputs(parts)

    def _opsets(self, model: _Values) -> None:
        opsets = [self._read(OPSET, span) for span in model.spans(8)]
        for opset in opsets:
            domain, version = self._text(opset.span(1)), opset.number(2)
            if domain not in _STANDARD:
                raise _RefusedError(f"uses operators that are not ONNX's own (domain {domain!r})")
            if version not in OPSETS:
                raise _RefusedError(
                    f"uses opset {version}; {OPSETS.start} to {OPSETS.stop - 1} can be read"
                )
        if len(opsets) != 1:
            raise _RefusedError(f"names {len(opsets)} opsets, where one is expected")

    def _node(self, span: _Span) -> None:
        node = self._read(NODE, span)
        operator, domain = self._text(node.span(4)), self._text(node.span(7))
        if domain not in _STANDARD:
            raise _RefusedError(
                f"uses {operator!r}, an operator that is not ONNX's own (domain {domain!r})"
            )
        if operator not in ALLOWED:
            raise _RefusedError(f"uses the operator {operator!r}, which is not allowed")
        for attribute in node.spans(5):
            self._attribute(attribute, operator)

    def _attribute(self, span: _Span, operator: str) -> None:
        attribute = self._read(ATTRIBUTE, span)
        floats = [
            struct.unpack_from("<f", self._data, start)[0]
            for start, _ in (*attribute.spans(2), *attribute.spans(7))
        ]
        if not all(map(math.isfinite, floats)):
            raise _RefusedError(
                f"has an attribute {self._text(attribute.span(1))!r} of {operator} that is not a "
                "finite number"
            )
        tensor = attribute.span(5)
        if tensor is not None:
            self._tensor(tensor)

    def _tensor(self, span: _Span) -> None:
        tensor = self._read(TENSOR, span)
        name = repr(self._text(tensor.span(8)))
        if tensor.number(14):
            raise _RefusedError(f"has {EXTERNAL}: {name}")
        kind, field = TYPES.get(tensor.number(2), (None, None))
        if kind is None:
            raise _RefusedError(f"has weights {name} of an unknown type ({tensor.number(2)})")
        shape = tensor.numbers(1)
        if len(shape) > _MOST_AXES or any(size >> 31 for size in shape):
            raise _RefusedError(f"has weights {name} of an impossible shape")
        raw, listed = tensor.span(RAW), tensor.span(field) if field else None
        fields = sum(tensor.span(number) is not None for number in NUMBERS)
        if self._count(kind, raw, listed) != math.prod(shape) or fields > 1:
            raise _RefusedError(f"has weights {name} whose number is not what their shape says")
        if kind.kind == "f" and not self._finite(kind, raw or listed or (0, 0)):
            raise _RefusedError(f"has weights {name} that are not all finite numbers")

    def _count(self, kind: np.dtype[np.generic], raw: _Span | None, listed: _Span | None) -> float:
        """Returns how many numbers a tensor holds; those of whole numbers that are listed vary."""
        start, end = raw or listed or (0, 0)
        if raw is not None or kind.kind == "f":
            return (end - start) / kind.itemsize
        stored = np.frombuffer(self._data, np.uint8, end - start, start)
        return int(np.count_nonzero(stored < 0x80))

    def _finite(self, kind: np.dtype[np.generic], span: _Span) -> bool:
        start, end = span
        values = np.frombuffer(self._data, kind, (end - start) // kind.itemsize, start)
        chunks = (values[first : first + _CHUNK] for first in range(0, len(values), _CHUNK))
        return all(bool(np.isfinite(chunk).all()) for chunk in chunks)

    def _input(self, graph: _Values, contract: InputContract) -> None:
        inputs = [self._value(span) for span in graph.spans(11)]
        expected = ("image", UINT8, list(contract.shape))
        if len(inputs) != 1 or (*inputs[0][:2], inputs[0][2][1:]) != expected:
            raise _RefusedError(
                "does not take what the metadata says: one input `image` of "
                f"(N, {', '.join(map(str, contract.shape))}) uint8"
            )

    def _outputs(self, graph: _Values) -> None:
        outputs = {name: kind for name, kind, _ in map(self._value, graph.spans(12))}
        wrong = [name for name, kind in outputs.items() if kind != FLOAT or name not in _OUTPUTS]
        if wrong or "score" not in outputs or len(outputs) != len(graph.spans(12)):
            raise _RefusedError(
                f"gives {', '.join(map(repr, outputs)) or 'nothing'}; float32 outputs `score` and, "
                "where a model has them, `heatmap` and `heads` are expected"
            )

    def _value(self, span: _Span) -> tuple[str, int, list[int]]:
        """Returns a value's name, its type's number, and its sizes; 0 for one that is free."""
        value = self._read(VALUE, span)
        tensor = self._read(TENSOR_TYPE, self._read(TYPE, value.span(2)).span(1))
        sizes = self._read(SHAPE, tensor.span(2)).spans(1)
        found = [self._read(DIMENSION, size).number(1) for size in sizes]
        return self._text(value.span(1)), tensor.number(1), found

    def _read(self, message: Message, span: _Span | None) -> _Values:
        """Returns a message's fields, none where it is missing; refuses any it must not have."""
        found: dict[int, list[int | _Span]] = {}
        for field in self._reader.fields(*(span or (0, 0))):
            number = field.number
            if number in message.refused:
                raise _RefusedError(f"has {message.refused[number]}")
            kind = message.one.get(number, message.many.get(number))
            packed = number in message.many and kind != LENGTH and field.kind == LENGTH
            if kind != field.kind and not packed:
                raise _RefusedError(f"has an unknown field in a {message.name} ({number})")
            values = found.setdefault(number, [])
            if values and number in message.one:
                raise _RefusedError(f"has a field twice in a {message.name} ({number})")
            if packed:
                values += self._packed(kind, field.value, field.end)
            else:
                values.append(field.value if kind == VARINT else (field.value, field.end))
        return _Values(found)

    def _packed(self, kind: int | None, start: int, end: int) -> list[int | _Span]:
        if kind == VARINT:
            return list(self._reader.varints(start, end))
        if (end - start) % 4:
            raise _RefusedError("has a list of numbers that is cut short")
        return [(position, position + 4) for position in range(start, end, 4)]

    def _text(self, span: _Span | None) -> str:
        start, end = span or (0, 0)
        if end - start > _MOST_TEXT:
            raise _RefusedError(f"has a name of {end - start} bytes")
        return self._data[start:end].decode()


class _Values:
    """What a message holds: numbers of varints, positions of all else, by the field's number."""

    def __init__(self, found: dict[int, list[int | _Span]]) -> None:
        self._found = found

    def number(self, field: int, default: int = 0) -> int:
        """Returns the number in a field that occurs once."""
        value = self._found.get(field, [default])[-1]
        assert isinstance(value, int)
        return value

    def numbers(self, field: int) -> list[int]:
        """Returns the numbers of a field."""
        return [value for value in self._found.get(field, []) if isinstance(value, int)]

    def span(self, field: int) -> _Span | None:
        """Returns where a field's bytes lie."""
        return next(iter(self.spans(field)), None)

    def spans(self, field: int) -> list[_Span]:
        """Returns where each of a field's runs of bytes lies."""
        return [value for value in self._found.get(field, []) if not isinstance(value, int)]
