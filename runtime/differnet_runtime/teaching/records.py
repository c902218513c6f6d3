"""The record of a data set as it is stored, and the views of it that the page gets."""

from __future__ import annotations

import hashlib
from datetime import datetime, timezone
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ..config.models import Name
from ..model_file.contract import Region, StrictModel
from ..telling import Telling

DatasetName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
PictureId = Annotated[str, Field(pattern=r"^[0-9]{6}$")]
State = Literal["running", "done", "failed", "cancelled"]


def now() -> str:
    """Returns the current time, ISO 8601 with time zone."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


class CollectedPicture(StrictModel):
    """A picture as it is stored.

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


class Training(StrictModel):
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


class AddedModel(StrictModel):
    """A model of this data set that was added to the store, active or not.

    Args:
        id: Content hash of the model.
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


class DatasetFields(StrictModel):
    """What the record of a data set and its view have in common.

    Args:
        name: Name of the data set and of its model.
        camera: The camera that the pictures come from.
        region: The part of a frame that the model will see; None for the whole frame.
        created: When it was created, ISO 8601.
        collecting: Whether every frame that shows a different part is taken.
        parts: Number of different parts that the kept pictures show.
        repeats: Number of frames that showed the same part again.
        problem: Why collecting was switched off automatically; None if it was not.
        model: The last model that was added to the store; None before the first.
    """

    name: DatasetName
    camera: Name
    region: Region | None = None
    created: str
    collecting: bool
    parts: int
    repeats: int
    problem: str | None = None
    model: AddedModel | None = None


class Record(DatasetFields):
    """A data set as it is stored.

    Args:
        version: Version of the record's format.
        source: The camera's source, without passwords.
        frame_size: Width and height of the pictures; None before the first picture.
        pictures: All pictures, the earliest first.
        next: Number of the next picture; no number is used twice.
        training: The last training; None before the first.

    Example:
        >>> Record(name="ring", camera="left", source="0", created=now())
    """

    version: Literal[1] = 1
    source: str
    collecting: bool = False
    frame_size: tuple[int, int] | None = None
    pictures: tuple[CollectedPicture, ...] = ()
    parts: int = 0
    repeats: int = 0
    next: int = 1
    training: Training | None = None

    @property
    def kept(self) -> list[CollectedPicture]:
        """The pictures to learn from."""
        return [one for one in self.pictures if one.kept]

    @property
    def revision(self) -> str:
        """Changes whenever anything that the page shows of the pictures changes."""
        seen = repr([(one.id, one.time, one.kept, one.cause) for one in self.pictures])
        return hashlib.sha256(seen.encode("utf-8", "backslashreplace")).hexdigest()[:16]


class PictureView(Telling):
    """A picture on the page.

    Args:
        id: Its number, six digits.
        time: When it was taken, ISO 8601.
        kept: False if a person has thrown it out.
        strange: Whether it differs from the others, or the last training found it strange.
        cause: What is strange about it; None if nothing is.
    """

    SENTENCES: ClassVar = ("cause",)

    id: str
    time: str
    kept: bool
    strange: bool
    cause: str | None = None


class TrainingView(Training, Telling):
    """The last training, with its progress.

    Args:
        step: What it does now.
        done: Share of the whole that is done, 0..1.
        seconds_left: Estimated time left; None before the first estimate and after the end.
    """

    SENTENCES: ClassVar = ("error",)

    step: str
    done: float
    seconds_left: float | None = None


class DatasetView(DatasetFields, Telling):
    """A data set on the page.

    Args:
        goal: Number of different parts to collect.
        thrown_out: Number of pictures that a person has thrown out.
        strange: Number of strange pictures, without those that were thrown out.
        pictures: All pictures, the earliest first; empty if they were not asked for.
        revision: Changes whenever anything in `pictures` changes.
        training: The last training; None before the first.
        report: Whether there is a report of the last training.
        obstacle: What must be configured before the model can judge the camera; None if nothing.
    """

    SENTENCES: ClassVar[tuple[str, ...]] = ("problem", "obstacle")

    goal: int
    thrown_out: int
    strange: int
    pictures: list[PictureView]
    revision: str
    training: TrainingView | None = None
    report: bool
    obstacle: str | None = None


class TakenView(DatasetView):
    """The data set after an attempt to take the current frame.

    Args:
        taken: Whether the frame was taken and is on disk.
        why: Why it was not taken; None if it was.
    """

    SENTENCES: ClassVar = (*DatasetView.SENTENCES, "why")

    taken: bool
    why: str | None = None


class TeachView(Telling):
    """All data sets, and whether models can be trained here.

    Args:
        datasets: All data sets, in the order of their names.
        trainable: Whether the machine could start a training now.
        reason: Why it could not; None if it could.
        needed_mib: MiB of memory that must be free for a training.
        free_mib: MiB of memory that are free; None if that is not known.
        goal: Number of different parts to collect for a model.
    """

    SENTENCES: ClassVar = ("reason",)

    datasets: list[DatasetView]
    trainable: bool
    reason: str | None = None
    needed_mib: int
    free_mib: int | None = None
    goal: int
