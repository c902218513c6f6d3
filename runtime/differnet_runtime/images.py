"""Reading and writing picture files: the one place, for training and for the camera."""

from __future__ import annotations

import logging
from collections import Counter
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from . import jpeg
from .endings import NOT_READ
from .endings import SUFFIXES as SUFFIXES
from .errors import ImageReadError, OutputError
from .files import write_bytes
from .picture_files import fault_of
from .records import Image

log = logging.getLogger(__name__)

NARROW_WHITES = (1023, 4095)
"""Greatest values of 10- and 12-bit cameras, whose pictures are stored with 16 bits."""


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
    found = Counter(ending for ending in endings if ending in NOT_READ)
    if found:
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


def decode_image(data: bytes, name: str) -> Image:
    """Decodes a picture file's bytes.

    Grey becomes three equal channels, a palette its colours, CMYK is converted, the EXIF
    rotation is applied and an alpha channel is dropped. The bit depth is kept.

    Args:
        data: The whole file.
        name: Named in errors.

    Returns:
        `(H, W, 3)` BGR, uint8 or uint16.

    Raises:
        ImageReadError: Not a picture, not whole, several in one file, or of a depth that is not
            supported.
    """
    if data.startswith(jpeg.START):
        return jpeg.decode_jpeg(data, name)
    fault = fault_of(data)
    if fault is not None:
        raise ImageReadError(name, fault)
    buffer = np.frombuffer(data, np.uint8)
    try:
        image = cv2.imdecode(buffer, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise ImageReadError(name, f"OpenCV can't decode it ({error.err})") from error
    if image is None:
        raise ImageReadError(name, "not a picture that OpenCV can decode, or cut short")
    if image.dtype == np.uint8:
        return image.astype(np.uint8, copy=False)
    if image.dtype == np.uint16:
        return image.astype(np.uint16, copy=False)
    raise ImageReadError(name, f"pixels are {image.dtype}; 8- and 16-bit integers are supported")


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
