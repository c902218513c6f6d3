"""The API's view of data sets."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import ClassVar

from ..metadata import Region
from ..telling import Telling
from .job import Progress
from .records import AddedModel, Picture, Record, State


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
    progress: Progress | None,
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


def _revision(pictures: Sequence[Picture]) -> str:
    """Returns what tells these pictures from all others, after a restart too."""
    seen = repr([(one.id, one.time, one.kept, one.cause) for one in pictures])
    return hashlib.sha256(seen.encode("utf-8", "backslashreplace")).hexdigest()[:16]


def _pictures(pictures: Sequence[Picture]) -> list[PictureView]:
    return [
        PictureView(
            id=one.id, time=one.time, kept=one.kept, strange=one.cause is not None, cause=one.cause
        )
        for one in pictures
    ]


def _training(record: Record, progress: Progress | None) -> TrainingView | None:
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
