"""Reading and writing picture files: the one place, for training and for the camera.

JPEG pictures must be whole: every scan there, and decoded to its last block. OpenCV fills what is
missing with grey, or with the picture before it, and says nothing. Here libjpeg-turbo's warnings
are errors, so data that end too early, leave bytes over or break the Huffman code are refused.
JPEG has no check sum: damage that decodes to another valid picture of the same length can't be seen
by anyone. `picture_files` checks all other formats.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from .errors import ImageReadError, OutputError
from .files import NOT_READ, SUFFIXES, write_bytes
from .picture_files import fault_of, too_large
from .records import Image

log = logging.getLogger(__name__)

NARROW_WHITES = (1023, 4095)
"""Greatest values of 10- and 12-bit cameras, whose pictures are stored with 16 bits."""

START = b"\xff\xd8"
"""The first bytes of every JPEG."""

_MARKER = re.compile(rb"\xff([\x02-\xcf\xd8-\xfe])")
"""Any but those inside a scan: stuffed zeros and restart markers."""
_SCAN, _END, _EXIF, _TABLES = 0xDA, 0xD9, 0xE1, 0xC4
_NO_COEFFICIENT = (0x00, 0xF0)
"""The end of a block, and sixteen zero coefficients."""
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_ZEROS = bytes(64)
"""No encoder writes 64 zero bytes in a scan whose Huffman tables read zeros as a coefficient."""


def list_images(folder: Path) -> list[Path]:
    """Returns the picture files directly in `folder`, by name.

    Pictures of a kind that is not read are passed over, and a warning says so once.
    """
    say_passed_over(folder)
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def say_passed_over(folder: Path) -> None:
    """Warns once of the files in a folder that seem to be pictures, but are of no kind we read."""
    endings = (path.suffix.lower() for path in folder.iterdir() if not path.name.startswith("."))
    if found := Counter(ending for ending in endings if ending in NOT_READ):
        kinds = ", ".join(f"{count} {ending}" for ending, count in sorted(found.items()))
        _warn_once(f"{folder}: files that are passed over, since they are not read: {kinds}")


@cache
def _warn_once(text: str) -> None:
    log.warning("%s. Save them as PNG to use them", text)


def read_bytes(path: Path) -> bytes:
    """Returns the file's bytes.

    Raises:
        ImageReadError: It can't be read, or is empty.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageReadError(str(path), error.strerror or str(error)) from error
    if not data:
        raise ImageReadError(str(path), "the file is empty")
    return data


def digest(path: Path) -> str | None:
    """Returns the SHA-256 of a picture file; None if it can't be read."""
    try:
        return hashlib.sha256(read_bytes(path)).hexdigest()
    except ImageReadError:
        return None


def decode_image(data: bytes, name: str) -> Image:
    """Decodes a picture file's bytes.

    Grey becomes three equal channels, a palette its colours, CMYK is converted, the EXIF
    rotation is applied and an alpha channel is dropped. The bit depth is kept.

    Args:
        data: All bytes of the file.
        name: Name of the picture in errors.

    Returns:
        `(H, W, 3)` BGR, uint8 or uint16.

    Raises:
        ImageReadError: Not a picture, not whole, several in one file, or of a depth that is not
            supported.
    """
    if data.startswith(START):
        return decode_jpeg(data, name)
    if (fault := fault_of(data)) is not None:
        raise ImageReadError(name, fault)
    return _decode_with_opencv(data, name)


def read_image(path: Path) -> Image:
    """Reads a picture file; see `decode_image`.

    Raises:
        ImageReadError: It can't be read or decoded.
    """
    return decode_image(read_bytes(path), str(path))


def likely_white_level(brightest: int) -> int | None:
    """Returns the white level of a 10- or 12-bit camera that 16-bit pictures seem to come from.

    Args:
        brightest: The greatest value of any of them; one picture alone may just be dark.
    """
    return next((white for white in NARROW_WHITES if brightest <= white), None)


def write_image(path: Path, image: Image) -> None:
    """Writes a picture atomically, in the format of the file name's ending.

    Raises:
        OutputError: The format is unknown, the disk is full, or the path can't be written.
    """
    try:
        encoded = cv2.imencode(path.suffix, image)[1].tobytes()
    except cv2.error as error:
        raise OutputError(f"{path}: OpenCV can't write this format ({error.err})") from error
    write_bytes(path, encoded)


def decode_jpeg(data: bytes, name: str = "JPEG") -> Image:
    """Decodes a JPEG, and refuses one that is not whole.

    Bytes behind its end marker are no fault. The EXIF rotation is applied, grey and CMYK are
    converted, and the pixels equal those of OpenCV.

    Args:
        data: The whole file, or one frame of a Motion JPEG stream.
        name: Name of the picture in errors.

    Returns:
        `(H, W, 3)` uint8 BGR.

    Raises:
        ImageReadError: It is damaged, cut short, lacks a scan, or is of an unsupported kind.
    """
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if (fault := too_large(width, height)) is not None:
            raise ImageReadError(name, fault)
        image: Image = simplejpeg.decode_jpeg(data, "BGR")
    except (ValueError, MemoryError) as error:
        cause = f"the JPEG is damaged, cut short or of an unsupported kind ({error})"
        raise ImageReadError(name, cause) from error
    segments = list(_segments(data))
    if not _has_all_scans(segments):
        raise ImageReadError(name, "the JPEG is cut short: a scan is missing")
    if _was_zeroed(data, segments):
        raise ImageReadError(name, "a part of the JPEG was overwritten with zeros")
    turned = any(marker == _EXIF and payload.startswith(b"Exif") for marker, payload in segments)
    return _decode_with_opencv(data, name) if turned or colours in ("CMYK", "YCCK") else image


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields the marker and the payload of each segment up to the end marker."""
    at = len(START)
    while (found := _MARKER.search(data, at)) is not None and found[1][0] != _END:
        at = found.end()
        end = at + max(2, int.from_bytes(data[at : at + 2], "big"))
        yield found[1][0], data[at + 2 : end]
        at = end


def _has_all_scans(segments: list[tuple[int, bytes]]) -> bool:
    """Whether every coefficient of every component was sent, to its last bit (ITU-T T.81, G.1)."""
    missing: dict[int, NDArray[np.uint8]] = {}
    progressive = False
    for marker, payload in segments:
        if marker in _FRAMES:
            progressive = marker in _PROGRESSIVE
            missing = {component: np.ones(64, np.uint8) for component in payload[6::3]}
        elif marker == _SCAN:
            components, (first, last, bits) = payload[1:-3:2], payload[-3:]
            for component in missing.keys() & set(components):
                sent = slice(first, last + 1) if progressive else slice(None)
                missing[component][sent] = bits & 0xF if progressive else 0
    return not any(left.any() for left in missing.values())


def _was_zeroed(data: bytes, segments: list[tuple[int, bytes]]) -> bool:
    """Whether zeros in the only scan stand for one coefficient of -1 after the other.

    The code of zeros is the first of a Huffman table. Where it ends a block, zeros are an even
    picture; where it is a coefficient, no picture has whole blocks of nothing else.
    """
    begin = data.find(b"\xff\xda")
    zeros = data.find(_ZEROS, begin)
    if begin < 0 or zeros < 0 or not zeros < data.find(b"\xff\xd9", begin) % (len(data) + 1):
        return False
    if sum(marker == _SCAN for marker, _ in segments) != 1:
        return False
    tables = b"".join(payload for marker, payload in segments if marker == _TABLES)
    firsts = list(_first_symbols(tables))
    return not firsts or any(symbol not in _NO_COEFFICIENT for symbol in firsts)


def _first_symbols(tables: bytes) -> Iterator[int]:
    """Yields what the first code of each table for coefficients means (ITU-T T.81, B.2.4.2)."""
    at = 0
    while at + 17 < len(tables):
        if tables[at] >> 4:
            yield tables[at + 17]
        at += 17 + sum(tables[at + 1 : at + 17])


def _decode_with_opencv(data: bytes, name: str) -> Image:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise ImageReadError(name, f"OpenCV can't decode it ({error.err})") from error
    if image is None:
        raise ImageReadError(name, "not a picture that OpenCV can decode, or cut short")
    if image.dtype not in (np.uint8, np.uint16):
        cause = f"pixels are {image.dtype}; 8- and 16-bit integers are supported"
        raise ImageReadError(name, cause)
    return image  # type: ignore[return-value]
