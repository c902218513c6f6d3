"""Checks a model file's graph before any runtime reads it, without the onnx package.

A runtime trusts the graph: it opens the files that external data names, takes the memory that
shapes ask for, and runs whatever operators it knows. So only what `differnet export` writes passes:
one graph without subgraphs, functions or external data; operators of ONNX's standard domain that
compute their outputs from their inputs alone (none loops, branches, draws random numbers, or reads
a file); weights that lie in the file, are as many as their shapes say, and are finite.

A message of protobuf is a run of fields; each has a number, and a number or a run of bytes as its
value. Fields are counted, so that a small file can't keep its reader busy for long.

The wire format: https://protobuf.dev/programming-guides/encoding/
The messages and their fields: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ..errors import ModelFileError
from .contract import InputContract

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
MOST_FIELDS = 1_000_000
"""Of one file; a network of 2,000 operators has about 40,000."""


class Field(NamedTuple):
    """One field of a message.

    Args:
        number: Which field it is.
        kind: `VARINT`, `FIXED64`, `LENGTH` or `FIXED32`.
        value: The number of a `VARINT`; of the others, where the value begins.
        start: Where the field begins.
        end: Where it and its value end.
    """

    number: int
    kind: int
    value: int
    start: int
    end: int


class ProtobufReader:
    """Goes through the fields of one file's messages.

    Args:
        data: All bytes of the file.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._left = MOST_FIELDS

    def fields(self, position: int, stop: int) -> Iterator[Field]:
        """Yields the fields of the message between two positions.

        Raises:
            IndexError: It is no message, is cut short, or the file has too many fields.
        """
        while position < stop:
            self._left -= 1
            if self._left < 0:
                raise IndexError(f"more than {MOST_FIELDS} fields")
            start = position
            tag, position = self._varint(position)
            kind, value = tag & 7, position
            if kind == VARINT:
                value, position = self._varint(position)
            elif kind == LENGTH:
                length, value = self._varint(position)
                position = value + length
            elif kind in (FIXED64, FIXED32):
                position += 8 if kind == FIXED64 else 4
            else:
                raise IndexError(f"wire type {kind}")
            if position > stop:
                raise IndexError("a field ends after its message")
            yield Field(tag >> 3, kind, value, start, position)

    def varints(self, position: int, stop: int) -> Iterator[int]:
        """Yields the numbers of a packed field.

        Raises:
            IndexError: The last one is cut short, or the file has too many.
        """
        while position < stop:
            self._left -= 1
            if self._left < 0:
                raise IndexError(f"more than {MOST_FIELDS} numbers")
            value, position = self._varint(position)
            yield value

    def _varint(self, position: int) -> tuple[int, int]:
        data = self.data
        value = shift = 0
        while True:
            byte = data[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, position
            shift += 7
            if shift > 63:
                raise IndexError("a number of more than 64 bits")


def text_field(number: int, text: str) -> bytes:
    """Returns a field that holds text."""
    return bytes_field(number, text.encode())


def bytes_field(number: int, value: bytes) -> bytes:
    """Returns a field that holds bytes, or a message."""
    return _encode_varint(number << 3 | LENGTH) + _encode_varint(len(value)) + value


def _encode_varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


EXTERNAL = "weights outside the file (external data)"
UINT8, FLOAT = 2, 1
RAW = 9
"""The field of a tensor that holds its numbers as bytes."""
NUMBERS = (4, 5, 7, RAW, 10)
"""The fields of a tensor that hold numbers: FP32, narrow whole ones, int64, bytes, FP64."""


@dataclass(frozen=True)
class Message:
    """Which fields a message may have.

    Args:
        name: Name in error messages.
        one: Wire type of the fields that occur at most once, by their number. (A reader would take
            the last of several, or join them.)
        many: Wire type of the fields that may repeat, by their number.
        refused: Fields that carry what no model of ours has, in words.
    """

    name: str
    one: dict[int, int]
    many: dict[int, int] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)


MODEL = Message(
    "model",
    {1: VARINT, 2: LENGTH, 3: LENGTH, 4: LENGTH, 5: VARINT, 6: LENGTH, 7: LENGTH},
    {8: LENGTH, 14: LENGTH},
    {20: "a graph for training", 25: "functions of its own", 26: "settings for several devices"},
)
OPSET = Message("opset", {1: LENGTH, 2: VARINT})
GRAPH = Message(
    "graph",
    {2: LENGTH, 10: LENGTH},
    {1: LENGTH, 5: LENGTH, 11: LENGTH, 12: LENGTH, 13: LENGTH, 16: LENGTH},
    {14: "quantization annotations", 15: "sparse weights"},
)
NODE = Message(
    "operator",
    {3: LENGTH, 4: LENGTH, 6: LENGTH, 7: LENGTH},
    {1: LENGTH, 2: LENGTH, 5: LENGTH, 9: LENGTH},
    {8: "an overloaded function", 10: "settings for several devices"},
)
ATTRIBUTE = Message(
    "attribute",
    {1: LENGTH, 2: FIXED32, 3: VARINT, 4: LENGTH, 5: LENGTH, 13: LENGTH, 20: VARINT},
    {7: FIXED32, 8: VARINT, 9: LENGTH},
    {
        6: "a graph inside an operator",
        10: "a list of tensors",
        11: "graphs inside an operator",
        14: "a type",
        15: "types",
        21: "a reference to a function's attribute",
        22: "sparse weights",
        23: "sparse weights",
    },
)
TENSOR = Message(
    "tensor",
    {2: VARINT, 4: LENGTH, 5: LENGTH, 7: LENGTH, 8: LENGTH, 9: LENGTH, 10: LENGTH, 12: LENGTH,
     14: VARINT},
    {1: VARINT, 16: LENGTH},
    {3: "a tensor in segments", 6: "texts", 11: "weights as uint64", 13: EXTERNAL},
)  # fmt: skip
VALUE = Message("value", {1: LENGTH, 2: LENGTH, 3: LENGTH}, {4: LENGTH})
TYPE = Message(
    "type",
    {1: LENGTH, 6: LENGTH},
    refused={4: "a sequence", 5: "a map", 8: "a sparse tensor", 9: "an optional value"},
)
TENSOR_TYPE = Message("tensor type", {1: VARINT, 2: LENGTH})
SHAPE = Message("shape", {}, {1: LENGTH})
DIMENSION = Message("dimension", {1: VARINT, 2: LENGTH, 3: LENGTH})

TYPES: dict[int, tuple[np.dtype[np.generic], int | None]] = {
    FLOAT: (np.dtype("<f4"), 4),
    UINT8: (np.dtype("u1"), 5),
    3: (np.dtype("i1"), 5),
    5: (np.dtype("<i2"), 5),
    6: (np.dtype("<i4"), 5),
    7: (np.dtype("<i8"), 7),
    9: (np.dtype("u1"), 5),
    10: (np.dtype("<f2"), None),
    11: (np.dtype("<f8"), 10),
}
"""Types of tensors by ONNX's number, and the field that may hold the numbers in place of `RAW`."""


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
        for part in self._reader.fields(*(span or (0, 0))):
            number = part.number
            if number in message.refused:
                raise _RefusedError(f"has {message.refused[number]}")
            kind = message.one.get(number, message.many.get(number))
            packed = number in message.many and kind != LENGTH and part.kind == LENGTH
            if kind != part.kind and not packed:
                raise _RefusedError(f"has an unknown field in a {message.name} ({number})")
            values = found.setdefault(number, [])
            if values and number in message.one:
                raise _RefusedError(f"has a field twice in a {message.name} ({number})")
            if packed:
                values += self._packed(kind, part.value, part.end)
            else:
                values.append(part.value if kind == VARINT else (part.value, part.end))
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
