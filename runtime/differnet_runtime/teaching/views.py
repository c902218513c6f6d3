"""The API's view of data sets."""

from __future__ import annotations

from collections.abc import Sequence

from ..metadata import Part, Region
from .job import Progress
from .records import AddedModel, Picture, Record, State


class PictureView(Part):
    """A picture.

    Args:
        id: Its number, six digits.
        time: When it was taken, ISO 8601.
        kept: False if a person has thrown it out.
        strange: Whether it differs from the others, or the last training found it strange.
        cause: What is strange about it; None if nothing is.
    """

    id: str
    time: str
    kept: bool
    strange: bool
    cause: str | None = None


class TrainingView(Part):
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

    state: State
    step: str
    done: float
    seconds_left: float | None = None
    error: str | None = None
    started: str
    ended: str | None = None


class DatasetView(Part):
    """A data set.

    Args:
        name: Of it, and of the model.
        camera: That its pictures are of.
        region: What the model will see of a frame; None for all of it.
        created: When, ISO 8601.
        collecting: Whether every frame that shows another part is taken.
        goal: Different parts that there should be.
        parts: Different parts that there are, without those that were thrown out.
        repeats: Frames that showed the same part again.
        thrown_out: Pictures that a person has thrown out.
        strange: Pictures with something odd about them, without those that were thrown out.
        problem: Why collecting has ended by itself.
        pictures: The earliest first.
        training: The last one; None before the first.
        report: Whether there is a report of it.
        model: The last one that was added to the store.
        obstacle: What must be set before such a model can judge the camera; None for nothing.
    """

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
    training: TrainingView | None = None
    report: bool
    model: AddedModel | None = None
    obstacle: str | None = None


class TeachView(Part):
    """All data sets, and whether models can be trained here.

    Args:
        datasets: All data sets, in the order of their names.
        trainable: Whether the machine could start a training now.
        reason: Why it could not; None if it could.
        needed_mib: MiB of memory that must be free for a training.
        free_mib: MiB of memory that are free; None if that is not known.
        goal: Number of different parts to collect for a model.
    """

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
) -> DatasetView:
    """Returns the view of a data set.

    Args:
        record: What is known of it.
        goal: Different parts that there should be.
        report: Whether there is one.
        progress: Of the training that goes on; None where none does.
        obstacle: What must be set before a model of it can judge the camera; None for nothing.
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
        pictures=_pictures(record.pictures),
        training=_training(record, progress),
        report=report,
        model=record.model,
        obstacle=obstacle,
    )


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
