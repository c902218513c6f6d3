"""The files of a kept picture: the input as it was, a small one, and the heatmap over it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import OutputError
from ..heatmap import blended, on_frame
from ..metadata import ModelMetadata
from ..overlay import eight_bit_colour, jpeg
from ..records import Image
from .records import Kind

_THUMBNAIL = 320
"""Longer side, in pixels."""
_THUMBNAIL_QUALITY = 80
_NAMES: dict[Kind, str] = {"input": "", "heatmap": ".heat", "thumbnail": ".small"}
_ENDINGS = ("jpg", "png")

Files = dict[str, bytes]
"""By name below the store's folder."""


def encode(
    id_: str,
    image: Image,
    heatmap: NDArray[np.float32] | None,
    metadata: ModelMetadata | None,
    quality: int,
) -> Files:
    """Makes the files of a picture.

    Args:
        id_: Of the event.
        image: As the camera gave it. 16 bits are kept, as PNG.
        heatmap: `(rows, columns) float32`, or None.
        metadata: Of the model that judged: its region and its scale of colours.
        quality: Of JPEG; 0 for PNG.

    Raises:
        OutputError: OpenCV can't write such a picture.
    """
    lossless = quality == 0 or image.dtype != np.uint8
    ending = "png" if lossless else "jpg"
    try:
        plain = eight_bit_colour(image)
        small = _THUMBNAIL / max(plain.shape[:2])
        files = {
            file_name(id_, "input", ending): _encoded(image, ending, quality),
            file_name(id_, "thumbnail", "jpg"): jpeg(plain, _THUMBNAIL_QUALITY, small),
        }
        if heatmap is not None and metadata is not None and metadata.windows is not None:
            heat = on_frame(heatmap, plain.shape[0], plain.shape[1], metadata.input)
            drawn = blended(plain, heat, metadata.windows)
            files[file_name(id_, "heatmap", "jpg")] = _encoded(drawn, "jpg", quality or 92)
    except cv2.error as error:
        raise OutputError(
            f"a picture of shape {image.shape} and type {image.dtype} can't be kept ({error.err})"
        ) from error
    return files


def _encoded(image: Image, ending: str, quality: int) -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if ending == "jpg" else []
    return cv2.imencode(f".{ending}", image, options)[1].tobytes()


def file_name(id_: str, kind: Kind, ending: str) -> str:
    """Returns a file's name below the store's folder; 256 folders share the load."""
    return f"{id_[:2]}/{id_}{_NAMES[kind]}.{ending}"


def id_of(path: Path) -> str:
    """Returns whose file it is."""
    return path.name.partition(".")[0]


def file_names(id_: str) -> list[str]:
    """Returns the names of all files that a picture may have."""
    return [file_name(id_, kind, ending) for kind in _NAMES for ending in _ENDINGS]


def find(folder: Path, id_: str, kind: Kind) -> Path | None:
    """Returns the file of a picture, or None if there is none."""
    paths = (folder / file_name(id_, kind, ending) for ending in _ENDINGS)
    return next((path for path in paths if path.is_file()), None)
