"""The record of a data set: one small file beside its pictures."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Annotated, Literal

from pydantic import Field

from ..config.models import Name
from ..metadata import Part, Region

VERSION: Literal[1] = 1
DATASET = r"^[a-z0-9][a-z0-9-]{0,39}$"
PICTURE = r"^[0-9]{6}$"
DatasetName = Annotated[str, Field(pattern=DATASET)]
PictureId = Annotated[str, Field(pattern=PICTURE)]
State = Literal["running", "done", "failed", "cancelled"]


class Picture(Part):
    """A picture that was taken.

    Args:
        id: Its number, six digits, which is also the name of its file.
        time: When it was taken, ISO 8601.
        kept: False if a person has thrown it out.
        looks: What is strange about it compared with the others; None if nothing is.
        learned: What the last training found strange about it; None if nothing.
    """

    id: PictureId
    time: str
    kept: bool = True
    looks: str | None = None
    learned: str | None = None

    @property
    def cause(self) -> str | None:
        """Why it is strange; None if it is not."""
        return self.learned or self.looks


class Training(Part):
    """The last training.

    Args:
        state: Whether it is running, or how it ended.
        started: When it started, ISO 8601.
        ended: When it ended, ISO 8601; None while it is running.
        error: Why it failed; None if it did not.
    """

    state: State
    started: str
    ended: str | None = None
    error: str | None = None


class AddedModel(Part):
    """A model of this data set that was added to the store, active or not.

    Args:
        id: Its content hash.
        name: Its own name, in the file.
        detection_limit: The size from which a defect is found, or why the model should not be used;
            None if that was not measured.
        threshold: Its threshold; None if it has none.
        parts: Number of pictures of good parts that it was trained on.
    """

    id: str
    name: str
    detection_limit: str | None = None
    threshold: float | None = None
    parts: int = 0


class Record(Part):
    """A data set.

    Args:
        version: Version of the record's format.
        name: Name of the data set and of its model.
        camera: The camera that the pictures come from.
        source: The camera's source, without passwords.
        region: The part of a frame that the model will see; None for the whole frame.
        created: When it was created, ISO 8601.
        collecting: Whether every frame that shows a different part is taken.
        frame_size: Width and height of the pictures; None before the first picture.
        pictures: All pictures, the earliest first.
        parts: Number of different parts that the kept pictures show.
        repeats: Number of frames that showed the same part again.
        next: Number of the next picture; no number is used twice.
        problem: Why collecting was switched off automatically; None if it was not.
        training: The last training; None before the first.
        model: The last model that was added to the store; None before the first.
    """

    version: Literal[1] = VERSION
    name: DatasetName
    camera: Name
    source: str
    region: Region | None = None
    created: str
    collecting: bool = False
    frame_size: tuple[int, int] | None = None
    pictures: tuple[Picture, ...] = ()
    parts: int = 0
    repeats: int = 0
    next: int = 1
    problem: str | None = None
    training: Training | None = None
    model: AddedModel | None = None

    @property
    def kept(self) -> list[Picture]:
        """The pictures to learn from."""
        return [one for one in self.pictures if one.kept]


def now() -> str:
    """Returns the current time, ISO 8601 with time zone."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
