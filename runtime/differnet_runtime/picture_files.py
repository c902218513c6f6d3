"""Whether a picture file is all there, by its format's own structure.

Decoders give what they have: of a file that is still written, was cut by a lost connection or
was allocated before it was filled, OpenCV decodes some formats half empty and says nothing. JPEG
is in `images`, where the decoder itself is strict.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .records import MOST_PIXELS

KINDS = "BMP, JPEG, JPEG 2000, PGM, PNG, PPM, TIFF, WebP"
_PNM_FIELD = rb"(?:\s|#[^\n]*\n)+(\d+)"
_PNM = re.compile(rb"P([2356])" + 3 * _PNM_FIELD + rb"\s")
_PLAIN_BMP = (0, 3, 6)
"""Compressions that leave the pixels as they are: none, and bit fields."""
_WEBP_PIXELS, _WEBP_SIDE = (b"VP8 ", b"VP8L"), 0x3FFF
_MOST_TILES = 65_535
_START_OF_TILE, _END_OF_CODE = b"\xff\x90", b"\xff\xd9"

_CUT = "cut short"
_ZEROS = 32
"""Compressed data do not end in this many zeros, unless a large picture is of one colour."""
_BRIGHT = 16
"""Bytes below it may be the black level of a sensor, or the blurred edge of a part."""
_COMMON = 0.25
_EDGE = 8
"""Bytes at a row's end that may be black by chance."""
_SIZES = {1: (1, "B"), 3: (2, "H"), 4: (4, "I"), 16: (8, "Q")}
"""Bytes and code of the types that the tags below have."""
_SUBFILE, _WIDTH, _HEIGHT, _BITS = 254, 256, 257, 258
_COMPRESSION, _COLOURS, _SAMPLES = 259, 262, 277
_PLACES, _LENGTHS = (273, 324), (279, 325)
"""Tags of positions and of lengths, of strips and of tiles."""
_WANTED = {_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _COLOURS, _SAMPLES, *_PLACES, *_LENGTHS}
_PLAIN, _YCBCR = 1, 6
_PREVIEW_OR_MASK = 0b101
_MOST_PAGES = 10_000

_Page = dict[int, tuple[int, ...]]


class _Layout(NamedTuple):
    """How a TIFF writes its lists of tags, as codes of `struct`: the classic or the big format."""

    number: str
    tag: str
    offset: str
    first: int
    entry_size: int


def too_large(width: int, height: int) -> str | None:
    """Says why a picture must not be decoded; None if it is small enough.

    Args:
        width: Width in pixels that the header of the file or stream announces.
        height: Height in pixels that it announces.
    """
    if width * height <= MOST_PIXELS:
        return None
    return f"it has {width} x {height} pixels; at most {MOST_PIXELS:,} are read"


def fault_of(data: bytes) -> str | None:
    """Says why a picture file must not be used: it is cut short, damaged or holds several.

    Args:
        data: The whole file, of any format but JPEG.

    Returns:
        The cause, for a message; None if nothing is missing.
    """
    check = next((check for start, check in _FORMATS.items() if data.startswith(start)), None)
    if check is None:
        return f"not a picture of a kind that is read ({KINDS})"
    try:
        return check(data)
    except (struct.error, LookupError, OverflowError):
        return f"{_CUT} (its header is incomplete)"


def _png(data: bytes) -> str | None:
    if (fault := too_large(*struct.unpack_from(">II", data, 16))) is not None:
        return fault
    at, frames = 8, 1
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            break
        if kind[:1].isupper():  # such chunks are needed for the pixels
            (told,) = struct.unpack_from(">I", data, end - 4)
            if zlib.crc32(memoryview(data)[at + 4 : end - 4]) != told:
                return f"damaged: the check sum of the PNG's chunk {kind.decode('latin-1')} differs"
        if kind == b"acTL":
            (frames,) = struct.unpack_from(">I", data, at + 8)
        if kind == b"IEND":
            return _several(f"{frames} frames") if frames > 1 else None
        at = end
    return f"{_CUT} (the PNG has no end chunk)"


def _bmp(data: bytes) -> str | None:
    start, header = struct.unpack_from("<II", data, 10)
    if header == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        compression = size = 0
    else:
        width, height, _, bits, compression, size = struct.unpack_from("<iiHHII", data, 18)
    if (fault := too_large(abs(width), abs(height))) is not None:
        return fault
    if compression in _PLAIN_BMP:
        return _rows_fault(data, start, (width * bits + 31) // 32 * 4, abs(height))
    # Run lengths end with an end code.
    coded = data[start : start + size] if size else data[start:]
    whole = len(coded) >= size and coded.rstrip(b"\0").endswith(b"\0\1")
    return None if whole else f"{_CUT} (the BMP's run lengths have no end)"


def _pnm(data: bytes) -> str | None:
    header = _PNM.match(data)
    if header is None:
        return f"{_CUT} or damaged (its header is not that of a PGM or PPM)"
    kind, width, height, white = (int(field) for field in header.groups())
    if (fault := too_large(width, height)) is not None:
        return fault
    values = width * (3 if kind in (3, 6) else 1)
    if kind in (2, 3):
        there = len(data[header.end() :].split())
        whole = there >= values * height and data[-1:].isspace()
        return None if whole else f"{_CUT} (it has {there} of {values * height} numbers)"
    row = values * (2 if white > 255 else 1)
    if _PNM.match(data[header.end() + row * height :].lstrip()):
        return _several("more than one picture")
    return _rows_fault(data, header.end(), row, height)


def _webp(data: bytes) -> str | None:
    (size,) = struct.unpack_from("<I", data, 4)
    if size + 8 > len(data):
        return f"{_CUT} (it has {len(data)} of {size + 8} bytes)"
    if data[8:12] != b"WEBP":
        return "a RIFF file that is not a WebP picture"
    at, frames = 12, 0
    while at + 8 <= size + 8:
        kind, length = struct.unpack_from("<4sI", data, at)
        end = at + 8 + length
        if end > size + 8 or not any(kind):
            return f"{_CUT} (the WebP's chunk {kind.decode('latin-1')} is not whole)"
        frames += kind == b"ANMF"
        if kind in _WEBP_PIXELS and _ends_in_zeros(data, at + 8, end, _zeros(data, at, kind)):
            return f"{_CUT} (the WebP's data end in zeros)"
        at = end + length % 2
    return _several(f"{frames} frames") if frames > 1 else None


def _zeros(data: bytes, at: int, kind: bytes) -> int:
    """Returns how many zeros may end a WebP's data where all pixels are of one colour."""
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, at + 14)
    else:
        (width,) = struct.unpack_from("<I", data, at + 9)
        height = width >> 14
    return int((width & _WEBP_SIDE) * (height & _WEBP_SIDE) // 8192)


def _jp2(data: bytes) -> str | None:
    at = 0
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        start = at + 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, start)
            start += 8
        if kind == b"jp2c":
            return _codestream(data[start : at + length] if length else data[start:])
        if length < 8:
            break
        at += length
    return f"{_CUT} (the JPEG 2000 file holds no picture)"


def _codestream(data: bytes) -> str | None:
    """Checks that every tile of a JPEG 2000 picture is there (ITU-T T.800, annex A)."""
    right, bottom, x, y, width, height, left, top = struct.unpack_from(">8I", data, 8)
    if not width or not height:
        return "damaged (the JPEG 2000's tiles have no size)"
    if (fault := too_large(max(0, right - x), max(0, bottom - y))) is not None:
        return fault
    tiles = -((left - right) // width) * -((top - bottom) // height)
    if tiles > _MOST_TILES:
        return f"damaged (a JPEG 2000 of {tiles} tiles)"
    missing, at = set(range(tiles)), 2
    while data[at : at + 2] not in (_START_OF_TILE, b""):
        at += 2 + max(2, *struct.unpack_from(">H", data, at + 2))
    while data[at : at + 2] == _START_OF_TILE:
        tile, length, part, parts = struct.unpack_from(">HIBB", data, at + 4)
        if part + 1 >= parts:
            missing.discard(tile)
        at = at + length if length >= 12 else len(data) - 2
    if missing or data[at : at + 2] != _END_OF_CODE:
        return f"{_CUT} (the JPEG 2000 lacks tiles or its end)"
    return None


def _tiff(data: bytes) -> str | None:
    """Says why a TIFF must not be used; None if nothing is missing.

    Raises:
        struct.error: It is cut within a list of its tags.
    """
    order = "<" if data[:1] == b"I" else ">"
    if struct.unpack_from(order + "H", data, 2) == (43,):
        layout = _Layout(order + "Q", order + "HHQ", order + "Q", 8, 20)
    else:
        layout = _Layout(order + "H", order + "HHI", order + "I", 4, 12)
    pages = _pages(data, layout)
    if not pages:
        return f"{_CUT} (the TIFF holds no page)"
    pictures = [page for page in pages if not page.get(_SUBFILE, (0,))[0] & _PREVIEW_OR_MASK]
    return _several(f"{len(pictures)} pages") if len(pictures) > 1 else _page_fault(data, pages[0])


def _pages(data: bytes, layout: _Layout) -> list[_Page]:
    pages: list[_Page] = []
    (at,) = struct.unpack_from(layout.offset, data, layout.first)
    seen: set[int] = set()
    while at and at not in seen and len(seen) < _MOST_PAGES:
        seen.add(at)
        (count,) = struct.unpack_from(layout.number, data, at)
        first = at + struct.calcsize(layout.number)
        next_at = first + count * layout.entry_size
        (at,) = struct.unpack_from(layout.offset, data, next_at)
        starts = range(first, next_at, layout.entry_size)
        pages.append(dict(filter(None, (_tag(data, start, layout) for start in starts))))
    return pages


def _tag(data: bytes, at: int, layout: _Layout) -> tuple[int, tuple[int, ...]] | None:
    """Reads a tag and its values; None for one that is not wanted here."""
    tag, kind, count = struct.unpack_from(layout.tag, data, at)
    if tag == 0:  # no tag: the list was allocated, but not written
        raise struct.error("tag 0")
    if tag not in _WANTED or kind not in _SIZES:
        return None
    size, code = _SIZES[kind]
    values_at = at + struct.calcsize(layout.tag)
    if size * count > struct.calcsize(layout.offset):
        (values_at,) = struct.unpack_from(layout.offset, data, values_at)
    if values_at + size * count > len(data):
        raise struct.error(f"tag {tag}")
    return tag, struct.unpack_from(f"{layout.tag[0]}{count}{code}", data, values_at)


def _page_fault(data: bytes, page: _Page) -> str | None:
    if (fault := too_large(page[_WIDTH][0], page[_HEIGHT][0])) is not None:
        return fault
    places, lengths = (
        next((page[tag] for tag in tags if tag in page), ()) for tags in (_PLACES, _LENGTHS)
    )
    if not places or len(lengths) != len(places) or not all(lengths):
        return f"{_CUT} (the TIFF has pixels without a place)"
    ends = [place + length for place, length in zip(places, lengths, strict=True)]
    if max(ends) > len(data):
        return f"{_CUT} (the TIFF's pixels end at byte {max(ends)}, the file at {len(data)})"
    last = ends.index(max(ends))
    if page.get(_COMPRESSION, (_PLAIN,))[0] != _PLAIN:
        zeros = _ends_in_zeros(data, places[last], ends[last])
        return f"{_CUT} (the TIFF's data end in zeros)" if zeros else None
    if page.get(_COLOURS, (0,))[0] == _YCBCR:
        return None
    bits = page[_WIDTH][0] * page.get(_SAMPLES, (1,))[0] * page.get(_BITS, (1,))[0]
    row, height = -(-bits // 8), page[_HEIGHT][0]
    if sum(lengths) < row * height:
        return f"{_CUT} (the TIFF has {sum(lengths)} of {row * height} bytes of pixels)"
    one_block = sum(lengths) == ends[last] - places[0] == row * height
    return _rows_fault(data, places[0], row, height) if one_block else None


def _rows_fault(data: bytes, start: int, row: int, count: int) -> str | None:
    """Says what is missing of rows that are stored as they are, without compression.

    Args:
        data: All bytes of the file.
        start: Position of the first row, in bytes.
        row: Length of a row in bytes.
        count: Number of rows of pixels.
    """
    if row <= 0 or count <= 0:
        return "damaged (by its header it has no pixels)"
    need = start + row * count
    if need > len(data):
        return f"{_CUT} (it has {len(data)} of {need} bytes)"
    if _torn(data, start, row, count):
        return f"{_CUT} (it breaks off within a row, and has zeros from there on)"
    return None


def _ends_in_zeros(data: bytes, start: int, end: int, allowed: int = 0) -> bool:
    """Whether compressed data were allocated but not written to their end.

    Args:
        data: All bytes of the file.
        start: Position of their first byte.
        end: Position after their last byte.
        allowed: Number of zeros at the end that are allowed beyond the usual ones.
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


def _several(what: str) -> str:
    """Says that a file holds several pictures."""
    return f"it holds {what}, but a file must hold one picture: save each as its own file"


_FORMATS: dict[bytes, Callable[[bytes], str | None]] = {
    b"\x89PNG\r\n\x1a\n": _png,
    b"BM": _bmp,
    **dict.fromkeys((b"P2", b"P3", b"P5", b"P6"), _pnm),
    b"RIFF": _webp,
    **dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), _tiff),
    b"\0\0\0\x0cjP  \r\n\x87\n": _jp2,
    b"\xff\x4f\xff\x51": _codestream,
}
