"""The folder of a data set: a picture has a file and an entry in the record, or neither."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import cv2
from pydantic import ValidationError

from ..errors import OutputError, StoreError
from ..files import os_errors, sync_folder, write_bytes
from ..images import read_image
from ..inspection.capture_record import CAPTURE_FILE, CaptureRecord, write_capture
from ..inspection.drawing import eight_bit_colour, jpeg
from ..records import Image
from .records import Record

FOLDER = "teach"
"""Name of the folder below the station's state folder."""
_DELETED = ".deleted-"
_QUALITY = 85
_SHOWING = threading.Lock()
"""One picture is decoded at a time, however many a page asks for: the cores are for inspection."""

log = logging.getLogger(__name__)


class DatasetFiles:
    """The files of one data set.

    Args:
        folder: The data set's folder; its name is the data set's.

    Example:
        >>> files = DatasetFiles(Path("state/teach/ring"))
        >>> files.make(Record(name="ring", camera="left", source="0", created=now()))
        >>> files.write_picture("000001", encoded(image))
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._record, self.pictures = folder / "record.json", folder / "pictures"
        self.report, self.job = folder / "report.html", folder / "job"

    def read(self) -> Record | None:
        """Returns the record, and deletes what a crash has left; None if there is no record.

        Raises:
            StoreError: The record can't be read, or has a later version.
        """
        try:
            record = Record.model_validate_json(self._record.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            why = error.strerror if isinstance(error, OSError) else error.errors()[0]["msg"]
            raise StoreError(f"{self._record}: {why}. It was left as it is") from error
        shutil.rmtree(self.job, ignore_errors=True)
        files = {path.stem: path for path in self.pictures.glob("*.png")}
        unknown = [files[stem] for stem in files.keys() - {one.id for one in record.pictures}]
        partial = [*self.folder.glob(".*.partial"), *self.pictures.glob(".*.partial")]
        for path in partial + unknown:
            with contextlib.suppress(OSError):  # a read-only disk must not prevent the start
                path.unlink()
        there = tuple(one for one in record.pictures if one.id in files)
        return record.model_copy(update={"pictures": there})

    @property
    def used(self) -> bool:
        """Whether there is a record or a picture: a folder without them is a leftover."""
        return self._record.exists() or next(self.pictures.glob("*.png"), None) is not None

    def make(self, record: Record) -> None:
        """Creates the folder with its record; both survive a power cut.

        Raises:
            OutputError: It can't be created.
        """
        self.write(record)
        for folder in (self.folder.parent, self.folder.parent.parent):
            sync_folder(folder)

    def write(self, record: Record) -> None:
        """Replaces the record; the new one is on disk when this returns.

        Raises:
            OutputError: It can't be written.
        """
        write_bytes(self._record, record.model_dump_json().encode(), durable=True)

    def path(self, picture: str) -> Path:
        """Returns the file of a picture."""
        return self.pictures / f"{picture}.png"

    def write_picture(self, picture: str, data: bytes) -> None:
        """Writes a picture's file; it is on disk when this returns.

        Raises:
            OutputError: It can't be written.
        """
        write_bytes(self.path(picture), data, durable=True)

    def bytes(self) -> int:
        """Returns the size of all pictures."""
        with contextlib.suppress(OSError), os.scandir(self.pictures) as entries:
            return sum(entry.stat().st_size for entry in entries)
        return 0

    def delete(self) -> None:
        """Deletes the folder; the next start deletes what a crash in between leaves.

        Raises:
            StoreError: It can't be deleted.
            OutputError: The disk does not confirm it.
        """
        away = self.folder.with_name(f"{_DELETED}{secrets.token_hex(6)}")
        with os_errors(StoreError, self.folder):
            self.folder.rename(away)
        sync_folder(away.parent)
        shutil.rmtree(away, ignore_errors=True)

    def lay_out(self, record: Record, folder: Path) -> None:
        """Creates a folder with the kept pictures, in the layout of `differnet train`.

        Args:
            record: The data set's record.
            folder: The folder to create; its files are links to the pictures.

        Raises:
            OutputError: It can't be created.
        """
        good = folder / "good"
        with os_errors(OutputError, folder):
            good.mkdir(parents=True)
            for one in record.kept:
                _link(self.path(one.id), good / f"{one.id}.png")
        write_capture(folder, capture_record(record))


def _link(path: Path, to: Path) -> None:
    try:
        to.hardlink_to(path)
    except OSError:  # not every file system has links
        shutil.copyfile(path, to)


def capture_record(record: Record) -> CaptureRecord:
    """Returns the record that `differnet train` reads beside pictures; it holds their region."""
    return CaptureRecord(
        source=record.source,
        roi=record.region,
        frame_size=record.frame_size or (1, 1),
        created=record.created,
    )


def encoded(image: Image) -> bytes:
    """Returns a frame as a PNG file's content.

    Raises:
        OutputError: OpenCV can't encode it.
    """
    try:
        return bytes(cv2.imencode(".png", image)[1])
    except cv2.error as error:
        raise OutputError(f"the picture can't be written as PNG ({error.err})") from error


def shown(path: Path, side: int | None) -> bytes:
    """Returns a picture as a JPEG file's content, for the page.

    Args:
        path: The picture's file.
        side: Longest side in pixels; None keeps the size.

    Raises:
        ImageReadError: It can't be read.
        OutputError: It can't be encoded.
    """
    with _SHOWING:
        picture = eight_bit_colour(read_image(path))
        factor = 1.0 if side is None else side / max(picture.shape[:2])
        try:
            return jpeg(picture, _QUALITY, factor)
        except cv2.error as error:
            raise OutputError(f"{path}: the picture can't be shown ({error.err})") from error


def read_all(root: Path) -> list[tuple[DatasetFiles, Record]]:
    """Returns the data sets of a station, and deletes what a crash has left.

    A data set that can't be read is left as it is, logged, and not returned.
    """
    for path in root.glob(f"{_DELETED}*"):
        shutil.rmtree(path, ignore_errors=True)
    found = []
    for folder in sorted(path for path in root.glob("[a-z0-9]*") if path.is_dir()):
        files = DatasetFiles(folder)
        try:
            record = files.read()
        except StoreError as error:
            log.warning("%s", error)
        else:
            if record is not None and record.name == folder.name:
                found.append((files, record))
    return found


def zipped(record: Record, files: DatasetFiles) -> Iterator[bytes]:
    """Yields a zip file in pieces of one picture each: `NAME/good/*.png`, whole frames.

    `NAME/capture.json` holds the region, so `differnet train --data NAME` trains a model that
    takes whole frames, as the station gives them.
    """
    sent = _Pieces()
    with zipfile.ZipFile(sent, "w", zipfile.ZIP_STORED) as archive:  # type: ignore[call-overload]
        text = capture_record(record).model_dump_json(indent=2, exclude={"groups"})
        archive.writestr(f"{record.name}/{CAPTURE_FILE}", text)
        for one in record.kept:
            with contextlib.suppress(OSError):  # deleted meanwhile
                data = files.path(one.id).read_bytes()
                archive.writestr(f"{record.name}/good/{one.id}.png", data)
                yield sent.taken()
    yield sent.taken()


class _Pieces(list[bytes]):
    """A file for `ZipFile` that keeps what was written since the last `taken`."""

    def write(self, data: bytes) -> int:
        self.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        pass

    def taken(self) -> bytes:
        data = b"".join(self)
        self.clear()
        return data
