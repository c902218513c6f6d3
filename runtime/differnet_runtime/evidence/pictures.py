"""The image files of kept inspections: the frame, a thumbnail, and the heatmap over the frame."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from ..database import open_or_replace
from ..errors import OutputError, StoreError
from ..inspection.drawing import eight_bit_colour, jpeg, with_heatmap
from ..model_file.metadata import ModelMetadata
from ..records import Image
from .index import EvidenceItem, Index

Kind = Literal["input", "heatmap", "thumbnail"]
Files = dict[str, bytes]
"""Content by file name below the store's folder."""

UNKNOWN = "UNKNOWN"
"""Verdict of a picture whose row is lost."""

_THUMBNAIL = 320
"""Longer side, in pixels."""
_THUMBNAIL_QUALITY, _HEATMAP_QUALITY = 80, 92
_INFIXES: dict[Kind, str] = {"input": "", "heatmap": ".heat", "thumbnail": ".small"}
_SUFFIXES = ("jpg", "png")

log = logging.getLogger(__name__)


def encode(
    id_: str,
    image: Image,
    heatmap: NDArray[np.float32] | None,
    metadata: ModelMetadata | None,
    quality: int,
) -> Files:
    """Encodes the files of an inspection.

    Args:
        id_: Id of its event.
        image: The frame as the camera gave it; 16 bits are kept, as PNG.
        heatmap: `(rows, columns) float32`; None if there is none.
        metadata: Metadata of the model that judged, with its region and colour scale.
        quality: JPEG quality, 1 to 100; 0 for PNG.

    Raises:
        OutputError: OpenCV can't encode the frame.
    """
    suffix = "png" if quality == 0 or image.dtype != np.uint8 else "jpg"
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix == "jpg" else []
    try:
        plain = eight_bit_colour(image)
        small = _THUMBNAIL / max(plain.shape[:2])
        frame = cv2.imencode(f".{suffix}", image, options)[1].tobytes()
        files = {
            file_name(id_, "input", suffix): frame,
            file_name(id_, "thumbnail", "jpg"): jpeg(plain, _THUMBNAIL_QUALITY, small),
        }
        if (drawn := with_heatmap(plain, heatmap, metadata)) is not None:
            files[file_name(id_, "heatmap", "jpg")] = jpeg(drawn, quality or _HEATMAP_QUALITY)
    except cv2.error as error:
        raise OutputError(
            f"a picture of shape {image.shape} and type {image.dtype} can't be kept ({error.err})"
        ) from error
    return files


def file_name(id_: str, kind: Kind, suffix: str) -> str:
    """Returns a file's name below the store's folder; 256 subfolders keep each one small."""
    return f"{id_[:2]}/{id_}{_INFIXES[kind]}.{suffix}"


def file_names(id_: str) -> list[str]:
    """Returns the names of all files that a picture may have."""
    return [file_name(id_, kind, suffix) for kind in _INFIXES for suffix in _SUFFIXES]


def find(folder: Path, id_: str, kind: Kind) -> Path | None:
    """Returns the file of a picture, or None if there is none."""
    paths = (folder / file_name(id_, kind, suffix) for suffix in _SUFFIXES)
    return next((path for path in paths if path.is_file()), None)


def open_index(folder: Path, *, damaged: bool = False) -> Index:
    """Opens a store's index, and brings files and rows together after a crash.

    Args:
        folder: Folder of the store; created if it does not exist.
        damaged: Whether the index is known to be damaged; it is then replaced.

    Raises:
        StoreError: It can't be opened, or the files can't be read.
    """
    path = folder / "index.sqlite"
    index = open_or_replace(path, partial(Index, path), damaged=damaged)
    with contextlib.ExitStack() as undo:
        undo.callback(index.close)
        try:
            if index.kept.count == 0:
                _adopt(folder, index)
            _sweep(folder, index)
        except OSError as error:
            raise StoreError(f"{folder}: {error.strerror or error}") from error
        undo.pop_all()
    return index


def _sweep(folder: Path, index: Index) -> None:
    """Deletes files without a row and rows without files, which a crash has left."""
    known, seen, files = index.ids(), set(), 0
    for path in _paths(folder):
        id_ = _id_of(path)
        if id_ not in known:
            path.unlink(missing_ok=True)
            files += 1
        elif ".heat." not in path.name and ".small." not in path.name:
            seen.add(id_)
    lost = sorted(known - seen)
    for id_ in lost:
        for name in file_names(id_):
            (folder / name).unlink(missing_ok=True)
    if lost:
        index.delete(lost)
    if files or lost:
        log.warning("%s: %d files without a row, %d rows without files", folder, files, len(lost))


def _adopt(folder: Path, index: Index) -> None:
    """Adds rows for pictures whose index was lost; their verdict is UNKNOWN."""
    items = []
    for id_ in {_id_of(path) for path in _paths(folder)} - {""}:
        if (image := find(folder, id_, "input")) is None:
            continue
        paths = [folder / name for name in file_names(id_) if (folder / name).exists()]
        size = sum(path.stat().st_size for path in paths)
        heatmap, at_s = find(folder, id_, "heatmap") is not None, image.stat().st_mtime
        items.append(EvidenceItem(id_, at_s, "", None, UNKNOWN, None, None, None, heatmap, size))
    if items:
        index.add(sorted(items, key=lambda item: item.at_s))
        log.warning("%s: %d pictures without an index have one again", folder, len(items))


def _paths(folder: Path) -> Iterator[Path]:
    for shard in folder.glob("[0-9a-f][0-9a-f]"):
        yield from shard.iterdir()


def _id_of(path: Path) -> str:
    return path.name.partition(".")[0]
