"""The kept pictures as a zip file, made while it is sent."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

from ..capture_record import CAPTURE_FILE
from .files import DatasetFiles, capture_record
from .records import Record


class _Sent:
    """The target of the zip file; holds the bytes that were not sent yet."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        pass

    def taken(self) -> bytes:
        """Returns the bytes written since the last call."""
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data


def zipped(record: Record, files: DatasetFiles) -> Iterator[bytes]:
    """Yields a zip file in pieces of one picture each: `NAME/good/*.png`, whole frames.

    `NAME/capture.json` holds the region, so `differnet train --data NAME` trains a model that takes
    whole frames, as the station gives them.
    """
    sent = _Sent()
    with zipfile.ZipFile(sent, "w", zipfile.ZIP_STORED) as archive:  # type: ignore[call-overload]
        text = capture_record(record).model_dump_json(indent=2, exclude={"groups"})
        archive.writestr(f"{record.name}/{CAPTURE_FILE}", text)
        for one in record.kept:
            data = _read(files.path(one.id))
            if data is not None:
                archive.writestr(f"{record.name}/good/{one.id}.png", data)
                yield sent.taken()
    yield sent.taken()


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:  # deleted meanwhile
        return None
