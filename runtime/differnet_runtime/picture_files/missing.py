"""What all formats share: zeros where a file was allocated but not filled, and the words for it."""

from __future__ import annotations

import numpy as np

CUT = "cut short"
_ZEROS = 32
"""So many zeros in a row do not end compressed data, unless a large picture is of one colour."""
_BRIGHT = 16
"""Bytes below it may be the black level of a sensor, or the blurred edge of a part."""
_COMMON = 0.25
_EDGE = 8
"""Bytes at a row's end that may be black by chance."""


def several(what: str) -> str:
    """Says that a file holds several pictures."""
    return f"it holds {what}, but a file must hold one picture: save each as its own file"


def rows_fault(data: bytes, start: int, row: int, count: int) -> str | None:
    """Says what is missing of rows that are stored as they are, without compression.

    Args:
        data: The whole file.
        start: Where the first row is.
        row: Bytes of a row.
        count: Rows.
    """
    if row <= 0 or count <= 0:
        return "damaged (by its header it has no pixels)"
    need = start + row * count
    if need > len(data):
        return f"{CUT} (it has {len(data)} of {need} bytes)"
    if _torn(data, start, row, count):
        return f"{CUT} (it breaks off within a row, and has zeros from there on)"
    return None


def ends_in_zeros(data: bytes, start: int, end: int, allowed: int = 0) -> bool:
    """Whether compressed data were allocated but not written to their end.

    Args:
        data: The whole file.
        start: Where the compressed data start.
        end: And end.
        allowed: So many zeros more than usual may end them.
    """
    zeros = _ZEROS + allowed
    return end - start > zeros and not any(data[end - zeros : end])


def _torn(data: bytes, start: int, row: int, count: int) -> bool:
    """Whether a file was allocated, but not filled to its end.

    Black rows are no proof of that. A bright row that breaks off below a bright row, with
    nothing but zeros from there on, is: no edge of a part or of a light looks like that.
    """
    end = start + row * count
    if count < 3 or any(data[end - row : end]):
        return False
    written = len(data[start:end].rstrip(b"\0"))
    last, column = divmod(written, row)
    if last == 0 or not 0 < column <= row - _EDGE:
        return False
    above = np.frombuffer(data, np.uint8, 2 * row, start + row * (last - 1)).reshape(2, row)
    bright = above >= _BRIGHT
    return bool(min(bright[0, column:].mean(), bright[1, :column].mean()) > _COMMON)
