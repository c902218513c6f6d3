"""How each format of picture files is checked."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable

from ..records import too_large
from .missing import CUT, ends_in_zeros, rows_fault, several
from .tiff import tiff_fault

KINDS = "BMP, JPEG, JPEG 2000, PGM, PNG, PPM, TIFF, WebP"
_PNM_FIELD = rb"(?:\s|#[^\n]*\n)+(\d+)"
_PNM = re.compile(rb"P([2356])" + 3 * _PNM_FIELD + rb"\s")
_PLAIN_BMP = (0, 3, 6)
"""Compressions that leave the pixels as they are: none, and bit fields."""
_WEBP_PIXELS, _WEBP_SIDE = (b"VP8 ", b"VP8L"), 0x3FFF
_MOST_TILES = 65_535
_START_OF_TILE, _END_OF_CODE = b"\xff\x90", b"\xff\xd9"


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
        return f"{CUT} (its header is incomplete)"


def _png(data: bytes) -> str | None:
    width, height = struct.unpack_from(">II", data, 16)
    if (fault := too_large(width, height)) is not None:
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
            return several(f"{frames} frames") if frames > 1 else None
        at = end
    return f"{CUT} (the PNG has no end chunk)"


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
        return rows_fault(data, start, (width * bits + 31) // 32 * 4, abs(height))
    # Run lengths end with an end code.
    coded = data[start : start + size] if size else data[start:]
    whole = len(coded) >= size and coded.rstrip(b"\0").endswith(b"\0\1")
    return None if whole else f"{CUT} (the BMP's run lengths have no end)"


def _pnm(data: bytes) -> str | None:
    header = _PNM.match(data)
    if header is None:
        return f"{CUT} or damaged (its header is not that of a PGM or PPM)"
    kind, width, height, white = (int(field) for field in header.groups())
    if (fault := too_large(width, height)) is not None:
        return fault
    values = width * (3 if kind in (3, 6) else 1)
    if kind in (2, 3):
        there = len(data[header.end() :].split())
        whole = there >= values * height and data[-1:].isspace()
        return None if whole else f"{CUT} (it has {there} of {values * height} numbers)"
    row = values * (2 if white > 255 else 1)
    behind = data[header.end() + row * height :].lstrip()
    if _PNM.match(behind):
        return several("more than one picture")
    return rows_fault(data, header.end(), row, height)


def _webp(data: bytes) -> str | None:
    (size,) = struct.unpack_from("<I", data, 4)
    if size + 8 > len(data):
        return f"{CUT} (it has {len(data)} of {size + 8} bytes)"
    if data[8:12] != b"WEBP":
        return "a RIFF file that is not a WebP picture"
    at, frames = 12, 0
    while at + 8 <= size + 8:
        kind, length = struct.unpack_from("<4sI", data, at)
        end = at + 8 + length
        if end > size + 8 or not any(kind):
            return f"{CUT} (the WebP's chunk {kind.decode('latin-1')} is not whole)"
        frames += kind == b"ANMF"
        if kind in _WEBP_PIXELS and ends_in_zeros(data, at + 8, end, _zeros(data, at, kind)):
            return f"{CUT} (the WebP's data end in zeros)"
        at = end + length % 2
    return several(f"{frames} frames") if frames > 1 else None


def _zeros(data: bytes, at: int, kind: bytes) -> int:
    """Returns how many zeros may end a WebP's data where all pixels are of one colour."""
    width: int
    height: int
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, at + 14)
    else:
        (bits,) = struct.unpack_from("<I", data, at + 9)
        width, height = bits, bits >> 14
    return (width & _WEBP_SIDE) * (height & _WEBP_SIDE) // 8192


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
    return f"{CUT} (the JPEG 2000 file holds no picture)"


def _codestream(data: bytes) -> str | None:
    """Checks that every tile of a JPEG 2000 picture is there (ITU-T T.800, annex A)."""
    sizes = struct.unpack_from(">8I", data, 8)
    right, bottom, x, y, width, height, left, top = sizes
    if not width or not height:
        return "damaged (the JPEG 2000's tiles have no size)"
    if (fault := too_large(max(0, right - x), max(0, bottom - y))) is not None:
        return fault
    tiles = -((left - right) // width) * -((top - bottom) // height)
    if tiles > _MOST_TILES:
        return f"damaged (a JPEG 2000 of {tiles} tiles)"
    missing = set(range(tiles))
    at = 2
    while data[at : at + 2] not in (_START_OF_TILE, b""):
        at += 2 + max(2, *struct.unpack_from(">H", data, at + 2))
    while data[at : at + 2] == _START_OF_TILE:
        tile, length, part, parts = struct.unpack_from(">HIBB", data, at + 4)
        if part + 1 >= parts:
            missing.discard(tile)
        at = at + length if length >= 12 else len(data) - 2
    if missing or data[at : at + 2] != _END_OF_CODE:
        return f"{CUT} (the JPEG 2000 lacks tiles or its end)"
    return None


_FORMATS: dict[bytes, Callable[[bytes], str | None]] = {
    b"\x89PNG\r\n\x1a\n": _png,
    b"BM": _bmp,
    **dict.fromkeys((b"P2", b"P3", b"P5", b"P6"), _pnm),
    b"RIFF": _webp,
    **dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), tiff_fault),
    b"\0\0\0\x0cjP  \r\n\x87\n": _jp2,
    b"\xff\x4f\xff\x51": _codestream,
}
