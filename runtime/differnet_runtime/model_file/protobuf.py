"""Protobuf's wire format, and the messages of ONNX that a model file consists of.

A message is a run of fields; each has a number, and either a number or a run of bytes as its value.
Fields are counted, so that a small file can't keep its reader busy for long.

The wire format: https://protobuf.dev/programming-guides/encoding/
The messages: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

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
