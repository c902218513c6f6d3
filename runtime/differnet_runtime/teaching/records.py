"""What is kept of a data set: one small file beside its pictures."""

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
        id: Its number, six digits; the file is named by it.
        time: When, ISO 8601.
        kept: False once a person has thrown it out.
        looks: What is odd about it beside the others; None for nothing.
        learned: What the last training found odd about it; None for nothing.
    """

    id: PictureId
    time: str
    kept: bool = True
    looks: str | None = None
    learned: str | None = None

    @property
    def cause(self) -> str | None:
        """Why it is strange; None where it is not."""
        return self.learned or self.looks


class Training(Part):
    """The last training.

    Args:
        state: How it stands.
        started: When, ISO 8601.
        ended: Likewise; None while it goes on.
        error: Why it failed.
    """

    state: State
    started: str
    ended: str | None = None
    error: str | None = None


class AddedModel(Part):
    """A model of this data set that was added to the store; it need not judge.

    Args:
        id: Its content hash.
        name: Of the part, in the model itself.
        detection_limit: From which size on a defect is found, or why the model should not be used;
            None where that was not measured.
        threshold: Its own; None where it has none.
        parts: Pictures of good parts that it was trained on.
    """

    id: str
    name: str
    detection_limit: str | None = None
    threshold: float | None = None
    parts: int = 0


class Record(Part):
    """A data set.

    Args:
        version: Of this record's form.
        name: Of the data set, and of the model.
        camera: That the pictures are of.
        source: The camera's source, without passwords.
        region: What the model will see of a frame; None for all of it.
        created: When, ISO 8601.
        collecting: Every whole frame that shows another part is taken.
        frame_size: Width and height of the pictures; None before the first.
        pictures: The earliest first.
        parts: How many different parts those that are kept show.
        repeats: Frames that showed the same part again.
        next: Number of the next picture; never used twice.
        problem: Why collecting has ended by itself.
        training: The last one.
        model: The last one that was added to the store.
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
    """Returns the time, ISO 8601 with time zone."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
