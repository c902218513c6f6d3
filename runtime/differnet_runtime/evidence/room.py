"""Room for the next picture: older ones go when a cap is reached, or the disk is full.

The files of a kept picture: the input as it was, a small one, and the heatmap over it.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..config import EvidenceConfig
from ..database import FullError
from ..errors import OutputError
from ..files import write_bytes
from ..inspection.drawing import eight_bit_colour, jpeg, with_heatmap
from ..model_file.metadata import ModelMetadata
from ..records import Image
from ..sentences import sentence
from .index import Index, Kind, Sum

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
        if (drawn := with_heatmap(plain, heatmap, metadata)) is not None:
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


_AT_ONCE = 64
_DAY_S = 86400.0
_UNDECIDED = 0.2
"""Share of the pictures, and of the bytes, up to which those without a decision are like others."""
_BALLAST = 1 << 20
"""Bytes. On a full disk SQLite can't even delete: this file then gives it the room."""
_BALLAST_NAME = "ballast"

log = logging.getLogger(__name__)


def free_bytes(folder: Path) -> int | None:
    """Returns the bytes that a disk has left for this user; None if that can't be told."""
    with contextlib.suppress(OSError):
        return shutil.disk_usage(folder).free
    return None


def disk_is_full(error: Exception) -> bool:
    """Says whether room would have helped."""
    cause = error.__cause__
    return isinstance(error, FullError) or (
        isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
    )


def _giving_way(index: Index, count: int, bytes_: int) -> list[str]:
    """Returns the next pictures to go, some at a time, until so many and so many bytes are gone.

    Those without a decision go first as long as there are too many of them: a dark night of one
    camera must not push out a year of defects. Labelled ones go last, whatever their verdict.
    """
    kept, undecided = index.kept, index.undecided
    going: list[str] = []
    oldest = index.oldest(_AT_ONCE, undecided=True) if _too_many(undecided, kept) else []
    first = bool(oldest)
    for picture in oldest or index.oldest(_AT_ONCE):
        if (count <= 0 and bytes_ <= 0) or (first and not _too_many(undecided, kept)):
            break
        going.append(picture.id)
        count, bytes_ = count - 1, bytes_ - picture.bytes
        kept = kept.plus(-1, -picture.bytes)
        undecided = undecided.plus(-1, -picture.bytes)
    return going


def _too_many(undecided: Sum, kept: Sum) -> bool:
    return undecided.count > _UNDECIDED * kept.count or undecided.bytes > _UNDECIDED * kept.bytes


class RetentionPolicy:
    """Deletes pictures: first the files, then the row, so that no file is ever forgotten.

    Args:
        folder: Of the store.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._ballast = folder, folder / _BALLAST_NAME
        self.deleted = 0

    def make(self, index: Index, config: EvidenceConfig, need: int) -> None:
        """Deletes pictures until so many bytes fit within every cap.

        Raises:
            FullError: They don't fit even without any other picture.
            StoreError: The index can't be changed.
        """
        while aged := [
            picture.id
            for picture in index.oldest(_AT_ONCE)
            if picture.age_s > config.max_age_days * _DAY_S and not picture.labelled
        ]:
            self.delete(index, aged)
        while going := _giving_way(
            index,
            index.kept.count + (need > 0) - config.max_count,
            max(index.kept.bytes + need - config.max_bytes, self._lacking(config, need)),
        ):
            self.delete(index, going)
        if self._lacking(config, need) > 0:
            raise FullError(
                sentence(
                    "disk_reserve",
                    folder=self._folder,
                    free=free_bytes(self._folder),
                    reserve=config.min_free_bytes,
                )
            )

    def _lacking(self, config: EvidenceConfig, need: int) -> int:
        free = free_bytes(self._folder)
        return 0 if free is None else need + config.min_free_bytes - free

    def make_at_least(self, index: Index, need: int) -> None:
        """Deletes pictures of so many bytes together, for a disk that is full now."""
        end = index.kept.bytes - need
        while going := _giving_way(index, 0, index.kept.bytes - end):
            self.delete(index, going)

    def delete(self, index: Index, ids: Sequence[str]) -> None:
        """Deletes pictures.

        Raises:
            StoreError: Files are gone, but rows could not be deleted; the next start does it.
        """
        for id_ in ids:
            self.unlink(id_)
        try:
            index.delete(ids)
        except FullError:
            self.give_up_ballast()
            index.delete(ids)
        self.deleted += len(ids)

    def unlink(self, id_: str) -> None:
        """Deletes a picture's files, those that are there."""
        for name in file_names(id_):
            with contextlib.suppress(OSError):
                (self._folder / name).unlink()

    def give_up_ballast(self) -> None:
        """Deletes the ballast."""
        with contextlib.suppress(OSError):
            self._ballast.unlink()

    def restore_ballast(self, config: EvidenceConfig) -> None:
        """Lays the ballast down again once there is room enough."""
        if self._ballast.exists() or self._lacking(config, 3 * _BALLAST) > 0:
            return
        with contextlib.suppress(OutputError):
            write_bytes(self._ballast, b"\0" * _BALLAST)
