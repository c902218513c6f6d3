"""TIFF: every strip within the file, and one page (TIFF 6.0, and BigTIFF)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from .missing import CUT, ends_in_zeros, rows_fault, several

_SIZES = {1: (1, "B"), 3: (2, "H"), 4: (4, "I"), 16: (8, "Q")}
"""Bytes and code of the types that the tags below have."""
_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _COLOURS, _SAMPLES = (
    254,
    256,
    257,
    258,
    259,
    262,
    277,
)
_PLACES, _LENGTHS = (273, 324), (279, 325)
"""Of strips, and of tiles."""
_WANTED = {_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _COLOURS, _SAMPLES, *_PLACES, *_LENGTHS}
_PLAIN, _YCBCR = 1, 6
_PREVIEW_OR_MASK = 0b101
_MOST_PAGES = 10_000

_Page = dict[int, tuple[int, ...]]


@dataclass(frozen=True)
class _Layout:
    """How numbers are written: byte order, and sizes of the classic or the big format."""

    order: str
    big: bool

    @property
    def offset(self) -> str:
        return self.order + ("Q" if self.big else "I")

    @property
    def entry_size(self) -> int:
        return 20 if self.big else 12


def tiff_fault(data: bytes) -> str | None:
    """Says why a TIFF must not be used; None if nothing is missing.

    Raises:
        struct.error: It is cut within a list of its tags.
    """
    order = "<" if data[:1] == b"I" else ">"
    layout = _Layout(order, big=struct.unpack_from(order + "H", data, 2) == (43,))
    pages = _pages(data, layout)
    if not pages:
        return f"{CUT} (the TIFF holds no page)"
    pictures = [page for page in pages if not page.get(_SUBFILE, (0,))[0] & _PREVIEW_OR_MASK]
    return several(f"{len(pictures)} pages") if len(pictures) > 1 else _page_fault(data, pages[0])


def _pages(data: bytes, layout: _Layout) -> list[_Page]:
    pages: list[_Page] = []
    (at,) = struct.unpack_from(layout.offset, data, 8 if layout.big else 4)
    seen: set[int] = set()
    while at and at not in seen and len(seen) < _MOST_PAGES:
        seen.add(at)
        code = layout.order + ("Q" if layout.big else "H")
        (count,) = struct.unpack_from(code, data, at)
        first = at + struct.calcsize(code)
        next_at = first + count * layout.entry_size
        (following,) = struct.unpack_from(layout.offset, data, next_at)
        starts = range(first, next_at, layout.entry_size)
        pages.append(dict(filter(None, (_tag(data, start, layout) for start in starts))))
        at = following
    return pages


def _tag(data: bytes, at: int, layout: _Layout) -> tuple[int, tuple[int, ...]] | None:
    """Reads a tag and its values; None for one that is not wanted here."""
    head = layout.order + ("HHQ" if layout.big else "HHI")
    tag, kind, count = struct.unpack_from(head, data, at)
    if tag == 0:  # no tag: the list was allocated, but not written
        raise struct.error("tag 0")
    if tag not in _WANTED or kind not in _SIZES:
        return None
    size, code = _SIZES[kind]
    values_at = at + struct.calcsize(head)
    if size * count > struct.calcsize(layout.offset):
        (values_at,) = struct.unpack_from(layout.offset, data, values_at)
    if values_at + size * count > len(data):
        raise struct.error(f"tag {tag}")
    return tag, struct.unpack_from(f"{layout.order}{count}{code}", data, values_at)


def _page_fault(data: bytes, page: _Page) -> str | None:
    places, lengths = (
        next((page[tag] for tag in tags if tag in page), ()) for tags in (_PLACES, _LENGTHS)
    )
    if not places or len(lengths) != len(places) or not all(lengths):
        return f"{CUT} (the TIFF has pixels without a place)"
    ends = [place + length for place, length in zip(places, lengths, strict=True)]
    if max(ends) > len(data):
        return f"{CUT} (the TIFF's pixels end at byte {max(ends)}, the file at {len(data)})"
    last = ends.index(max(ends))
    if page.get(_COMPRESSION, (_PLAIN,))[0] != _PLAIN:
        zeros = ends_in_zeros(data, places[last], ends[last])
        return f"{CUT} (the TIFF's data end in zeros)" if zeros else None
    if page.get(_COLOURS, (0,))[0] == _YCBCR:
        return None
    row, height = _row(page), page[_HEIGHT][0]
    if sum(lengths) < row * height:
        return f"{CUT} (the TIFF has {sum(lengths)} of {row * height} bytes of pixels)"
    one_block = sum(lengths) == ends[last] - places[0] == row * height
    return rows_fault(data, places[0], row, height) if one_block else None


def _row(page: _Page) -> int:
    """Returns the bytes of a row."""
    return -(-page[_WIDTH][0] * page.get(_SAMPLES, (1,))[0] * page.get(_BITS, (1,))[0] // 8)
