"""One training at a time: checks whether it can start, runs it, and adds its model to the store."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from ..config import Config, TeachConfig
from ..errors import TeachError
from ..files import write_bytes
from ..model_file.detection_limits import sentences, warning
from ..model_file.file import read_model_file
from ..model_file.metadata import ModelMetadata
from ..models.store import StoredModel
from ..records import Frame
from ..sentences import sentence
from .dataset import Dataset
from .job import (
    MIB,
    Hindrance,
    Step,
    TrainingProcess,
    TrainingProgress,
    environment,
    free_bytes,
    missing,
    steps,
    usable_threads,
)
from .records import AddedModel, State, Training, now

FEWEST_PARTS = 10
"""The smallest number of different parts for a training."""
_NEEDED_MIB = 2048
"""Measured trainings, with 40 and with 160 pictures, took at most 1.5 GiB."""
_CANCEL_S = 3.0
STOPPED = sentence("teach_stopped")

Programs = Callable[[Path, Path, int, str], Sequence[Step]]
"""Takes the data, the folder, the number of threads, and the precision; see `steps`."""
Told = Callable[[Training], None]


class Site(Protocol):
    """The interface of a station to teaching."""

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
        """Returns the frame of a camera that the page shows; None before the first."""

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


class Trainer:
    """Runs at most one training.

    Args:
        programs: Returns the programs of a training; see `Programs`.
        lacking: Returns what is not installed for them; None if nothing is missing.

    Example:
        >>> trainer = Trainer()
        >>> if trainer.refusal(config.teach) is None:
        ...     trainer.begin(dataset, site, told=print, hindrance=lambda: None)
    """

    def __init__(
        self, programs: Programs = steps, lacking: Callable[[], str | None] = missing
    ) -> None:
        self._programs, self._lacking = programs, lacking
        self._lock = threading.Lock()
        self._job: TrainingProcess | None = None
        self._name = ""
        self._stopping = False

    def memory(self, config: TeachConfig) -> tuple[int, int | None]:
        """Returns how many MiB must be free for a training, and how many are."""
        free = free_bytes()
        return min(_NEEDED_MIB, config.memory_mib), None if free is None else free // MIB

    def refusal(self, config: TeachConfig) -> str | None:
        """Returns why no training can start now; None if one can."""
        with self._lock:  # not between the end of a training and its entry in the record
            if self._job is not None:
                return sentence("teach_one_at_a_time", name=self._name)
        needed, free = self.memory(config)
        short = free is not None and free < needed
        no_memory = sentence("teach_no_memory", needed=needed, free=free) if short else None
        return self._lacking() or no_memory

    def progress(self, name: str) -> TrainingProgress | None:
        """Returns the progress of a data set's training; None if it is not being trained."""
        job = self._job
        return job.progress if job is not None and self._name == name else None

    def begin(self, dataset: Dataset, site: Site, told: Told, hindrance: Hindrance) -> None:
        """Starts a training.

        Args:
            dataset: The data set to train with.
            site: The station.
            told: Called with the training once it has ended.
            hindrance: See `Hindrance`.

        Raises:
            TeachError: There are too few different parts.
            OutputError: The disk is full.
        """
        with self._lock, dataset.lock:
            record = dataset.record
            if record.parts < FEWEST_PARTS:
                goal = site.config.teach.goal
                raise TeachError(
                    sentence("teach_too_few", parts=record.parts, least=FEWEST_PARTS, goal=goal)
                )
            folder, threads = dataset.files.job, usable_threads()
            data = folder / "pictures" / record.name
            shutil.rmtree(folder, ignore_errors=True)  # left by a start that a full disk stopped
            dataset.files.lay_out(record, data)
            precision = "fp16" if site.on_gpu(record.camera) else "fp32"
            training = Training(state="running", started=now())
            dataset.change(training=training, collecting=False)
            job = TrainingProcess(
                self._programs(data, folder, threads, precision),
                environment(folder, threads),
                folder,
                memory=site.config.teach.memory_mib * MIB,
                hindrance=hindrance,
                finish=lambda: _finish(dataset, site),
                ended=lambda state, why: self._end(training, state, why, told),
            )
            job.start()
            self._job, self._name = job, record.name

    def _end(self, training: Training, state: State, why: str | None, told: Told) -> None:
        if state == "cancelled" and self._stopping:
            state, why = "failed", STOPPED
        with self._lock:
            told(training.model_copy(update={"state": state, "error": why, "ended": now()}))
            self._job = None

    def cancel(self, name: str) -> None:
        """Cancels the training of a data set, and waits a moment for its end.

        Raises:
            TeachError: It is not being trained.
        """
        job = self._job
        if job is None or self._name != name:
            raise TeachError(sentence("teach_not_training", name=name))
        job.cancel(_CANCEL_S)

    def stop(self, timeout_s: float) -> None:
        """Ends a running training, since the station stops."""
        self._stopping = True
        if (job := self._job) is not None:
            job.cancel(timeout_s)


def cut_off(training: Training) -> Training:
    """Returns the record of a training that was running when the station ended."""
    return training.model_copy(update={"state": "failed", "error": STOPPED, "ended": now()})


def _finish(dataset: Dataset, site: Site) -> None:
    """Adds the model to the store; keeps the report, and what the training found strange.

    Raises:
        DifferNetError: The model can't be added, or the disk is full.
    """
    record, folder = dataset.record, dataset.files.job
    _, metadata = read_model_file(folder / "model.onnx")
    stored = site.add_model(record.camera, record.name, folder / "model.onnx")
    try:
        report = (folder / "model/look.html").read_bytes()
        look = json.loads((folder / "model/training.json").read_bytes()).get("look", {})
    except (OSError, ValueError) as error:
        raise TeachError(f"the training has written no report ({error})") from error
    write_bytes(dataset.files.report, report)
    causes = {
        Path(one["path"]).stem: _cause(one)
        for one in look.get("findings", [])
        if one["cause"] == "strange"
    }
    with dataset.lock:
        pictures = tuple(
            one.model_copy(update={"learned": causes.get(one.id)})
            for one in dataset.record.pictures
        )
        dataset.change(model=added(stored, metadata), pictures=pictures)


def _cause(finding: dict[str, Any]) -> str:
    detail = str(finding["detail"])
    return sentence("look_left_out", what=detail) if finding["left_out"] else detail


def added(stored: StoredModel, metadata: ModelMetadata) -> AddedModel:
    """Returns what the record keeps about a model in the store."""
    limits = metadata.detection_limits
    text = limits and (warning(limits) or next(iter(sentences(limits).values()), None))
    return AddedModel(
        id=stored.hash,
        name=metadata.name,
        detection_limit=text,
        threshold=metadata.threshold,
        parts=metadata.provenance.images,
    )
