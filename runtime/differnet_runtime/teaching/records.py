"""The API's view of data sets.

The interface through which teaching uses its station.

The record of a data set: one small file beside its pictures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Protocol

from pydantic import Field

from ..config import Config
from ..config.models import Name
from ..model_file.contract import Region, StrictModel
from ..models.store import StoredModel
from ..records import Frame
from ..telling import Telling
from .job import TrainingProgress


class Site(Protocol):
    """The station."""

    @property
    def config(self) -> Config:
        """The current configuration; a reload replaces it."""

    def live(self, camera: str) -> bool:
        """Returns whether a camera is live; a folder's pictures can wait."""

    def obstacle(self, camera: str, name: str) -> str | None:
        """Returns what to configure before an added model can judge a camera; None if nothing.

        Args:
            camera: Name of the camera.
            name: Name in the store, as in `add_model`.
        """

    def frame(self, camera: str) -> Frame | None:
        """Returns the frame of a camera that the page shows now; None before the first."""

    def on_gpu(self, camera: str) -> bool:
        """Returns whether a GPU judges the frames of a camera."""

    def add_model(self, camera: str, name: str, path: Path) -> StoredModel:
        """Adds a model to the camera's store, without activating it.

        Args:
            camera: Name of the camera.
            name: Name in the store, if the camera has no `store` but a `path`.
            path: The model file.

        Raises:
            DifferNetError: The model can't be added.
        """


VERSION: Literal[1] = 1
DATASET = r"^[a-z0-9][a-z0-9-]{0,39}$"
PICTURE = r"^[0-9]{6}$"
DatasetName = Annotated[str, Field(pattern=DATASET)]
PictureId = Annotated[str, Field(pattern=PICTURE)]
State = Literal["running", "done", "failed", "cancelled"]


class CollectedPicture(StrictModel):
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


class Record(StrictModel):
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
    pictures: tuple[CollectedPicture, ...] = ()
    parts: int = 0
    repeats: int = 0
    next: int = 1
    problem: str | None = None
    training: Training | None = None
    model: AddedModel | None = None

    @property
    def kept(self) -> list[CollectedPicture]:
        """The pictures to learn from."""
        return [one for one in self.pictures if one.kept]


def now() -> str:
    """Returns the current time, ISO 8601 with time zone."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


class PictureView(Telling):
    """A picture.

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


class TrainingView(Telling):
    """The last training.

    Args:
        state: Whether it is running, or how it ended.
        step: What it does now.
        done: Share of the whole that is done, 0..1.
        seconds_left: Estimated time left; None before the first estimate and after the end.
        error: Why it failed; None if it did not.
        started: When it started, ISO 8601.
        ended: When it ended, ISO 8601; None while it is running.
    """

    SENTENCES: ClassVar = ("error",)

    state: State
    step: str
    done: float
    seconds_left: float | None = None
    error: str | None = None
    started: str
    ended: str | None = None


class DatasetView(Telling):
    """A data set.

    Args:
        name: Name of the data set and of its model.
        camera: The camera that the pictures come from.
        region: The part of a frame that the model will see; None for the whole frame.
        created: When it was created, ISO 8601.
        collecting: Whether every frame that shows a different part is taken.
        goal: Number of different parts to collect.
        parts: Number of different parts collected, without pictures that were thrown out.
        repeats: Number of frames that showed the same part again.
        thrown_out: Number of pictures that a person has thrown out.
        strange: Number of strange pictures, without those that were thrown out.
        problem: Why collecting was switched off automatically; None if it was not.
        pictures: All pictures, the earliest first; empty where they were not asked for.
        revision: Of the pictures: another one whenever anything in `pictures` has changed.
        training: The last training; None before the first.
        report: Whether there is a report of the last training.
        model: The last model that was added to the store; None before the first.
        obstacle: What must be configured before the model can judge the camera; None if nothing.
    """

    SENTENCES: ClassVar[tuple[str, ...]] = ("problem", "obstacle")

    name: str
    camera: str
    region: Region | None = None
    created: str
    collecting: bool
    goal: int
    parts: int
    repeats: int
    thrown_out: int
    strange: int
    problem: str | None = None
    pictures: list[PictureView]
    revision: str
    training: TrainingView | None = None
    report: bool
    model: AddedModel | None = None
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


def dataset_view(
    record: Record,
    goal: int,
    *,
    report: bool,
    progress: TrainingProgress | None,
    obstacle: str | None = None,
    pictures: bool = True,
) -> DatasetView:
    """Returns the view of a data set.

    Args:
        record: The data set's record.
        goal: Number of different parts to collect.
        report: Whether there is a report of the last training.
        progress: Progress of its training; None if none is running.
        obstacle: What must be configured before the model can judge the camera; None if nothing.
        pictures: Whether to list the pictures.
    """
    kept = record.kept
    return DatasetView(
        name=record.name,
        camera=record.camera,
        region=record.region,
        created=record.created,
        collecting=record.collecting,
        goal=goal,
        parts=record.parts,
        repeats=record.repeats,
        thrown_out=len(record.pictures) - len(kept),
        strange=sum(one.cause is not None for one in kept),
        problem=record.problem,
        pictures=_pictures(record.pictures) if pictures else [],
        revision=_revision(record.pictures),
        training=_training(record, progress),
        report=report,
        model=record.model,
        obstacle=obstacle,
    )


def _revision(pictures: Sequence[CollectedPicture]) -> str:
    """Returns what tells these pictures from all others, after a restart too."""
    seen = repr([(one.id, one.time, one.kept, one.cause) for one in pictures])
    return hashlib.sha256(seen.encode("utf-8", "backslashreplace")).hexdigest()[:16]


def _pictures(pictures: Sequence[CollectedPicture]) -> list[PictureView]:
    return [
        PictureView(
            id=one.id, time=one.time, kept=one.kept, strange=one.cause is not None, cause=one.cause
        )
        for one in pictures
    ]


def _training(record: Record, progress: TrainingProgress | None) -> TrainingView | None:
    last = record.training
    if last is None:
        return None
    done, step, left_s = (1.0 if last.state == "done" else 0.0), str(last.state), None
    if last.state == "running" and progress is not None:
        done, step, left_s = progress.done, progress.step, progress.seconds_left
    return TrainingView(
        state=last.state,
        step=step,
        done=round(done, 3),
        seconds_left=None if left_s is None else round(left_s, 1),
        error=last.error,
        started=last.started,
        ended=last.ended,
    )
