"""`capture.json`: how a folder of pictures was taken, so that training and camera agree."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from ..errors import DataError
from ..files import write_bytes
from ..model_file.contract import Fit, Region, StrictModel

CAPTURE_FILE = "capture.json"


class CaptureSettings(StrictModel):
    """Camera settings by name (`exposure`, `gain`, `white_balance`), in the driver's units."""

    requested: dict[str, float | None] = Field(default_factory=dict)
    actual: dict[str, float | None] = Field(default_factory=dict)


class View(StrictModel):
    """What a model sees of a camera's frame, in the words of `CaptureRecord`."""

    roi: Region | None = None
    fit: Fit = "stretch"


class CaptureRecord(StrictModel):
    """How the pictures in a folder were taken.

    Args:
        version: Version of the record's format, always 1.
        source: The camera, without passwords.
        roi: The region of interest; the pictures hold the whole frame.
        fit: How the region is to be brought to the model's height and width.
        settings: Settings that were requested from the camera, and those it reported.
        frame_size: Width and height of the pictures.
        created: Time of the first capture, ISO 8601 with time zone.
        groups: Pattern for a picture's path that names the part, as `train --groups` takes it;
            None where each picture shows another part.
    """

    version: Literal[1] = 1
    source: str
    roi: Region | None = None
    fit: Fit = "stretch"
    settings: CaptureSettings = CaptureSettings()
    frame_size: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
    created: str
    groups: str | None = None


def read_capture(folder: Path) -> CaptureRecord | None:
    """Returns the record in a folder of pictures, or None where there is none.

    Raises:
        DataError: It can't be read, is of a newer version, or a value is wrong; names the key.
    """
    path = folder / CAPTURE_FILE
    try:
        return CaptureRecord.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise DataError(
            f"{path}: {key}: {first['msg']}. This differnet-edge reads version 1 of the record; "
            "update it, correct the file, or capture into another folder."
        ) from error


def write_capture(folder: Path, record: CaptureRecord) -> None:
    """Writes the record atomically.

    Raises:
        OutputError: It can't be written.
    """
    left_out = {"groups"} if record.groups is None else set()  # older releases know no such key
    text = record.model_dump_json(indent=2, exclude=left_out)
    write_bytes(folder / CAPTURE_FILE, text.encode() + b"\n")
