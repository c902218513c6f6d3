"""Reads and writes protobuf's wire format, as far as a model file needs it.

A message is a run of fields; each has a number, and either a number or a run of bytes as its value.
Fields are counted, so that a small file can't keep its reader busy for long.

The wire format: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

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


class Reader:
    """Goes through the fields of one file's messages.

    Args:
        data: The file's bytes.
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
