"""One training at a time: checks whether it can start, runs it, and adds its model to the store."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..config import TeachConfig
from ..errors import TeachError
from ..files import write_bytes
from ..model_file.detection_limits import sentences, warning
from ..model_file.file import read_model_file
from ..model_file.metadata import ModelMetadata
from ..models.store import StoredModel
from ..sentences import sentence
from .dataset import Dataset
from .files import strange
from .job import MIB, CancelledError, Hindrance, TrainingProcess, TrainingProgress, free_bytes
from .records import AddedModel, Site, State, Training, now
from .steps import Step, environment, missing, steps, usable_threads

FEWEST_PARTS = 10
"""The smallest number of different parts for a training."""
_NEEDED_MIB = 2048
"""Measured trainings, with 40 and with 160 pictures, took at most 1.5 GiB."""
_MODEL, _FILE, _REPORT, _RECORD = "model", "model.onnx", "look.html", "training.json"
_CANCEL_S = 3.0
STOPPED = sentence("teach_stopped")

Programs = Callable[[Path, Path, int, bool], Sequence[Step]]
"""Takes the data, the folder, the threads, and whether a GPU will run the model."""
Told = Callable[[Training], None]


def _installed(data: Path, folder: Path, threads: int, gpu: bool) -> Sequence[Step]:
    return steps(data, folder, threads, gpu=gpu)


class Trainer:
    """Runs at most one training.

    Args:
        programs: Returns the programs of a training; see `Programs`.
        lacking: Returns what is not installed for them; None if nothing is missing.
    """

    def __init__(
        self, programs: Programs = _installed, lacking: Callable[[], str | None] = missing
    ) -> None:
        self._programs, self._lacking = programs, lacking
        self._lock = threading.Lock()
        self._job: TrainingProcess | None = None
        self._of = ""
        self._stopping = False

    def memory(self, config: TeachConfig) -> tuple[int, int | None]:
        """Returns the MiB that must be free, and the MiB that are."""
        free = free_bytes()
        return min(_NEEDED_MIB, config.memory_mib), None if free is None else free // MIB

    def refusal(self, config: TeachConfig) -> str | None:
        """Returns why no training can start now; None if one can."""
        with self._lock:  # not between the end of a training and its entry in the record
            if self._job is not None:
                return sentence("teach_one_at_a_time", name=self._of)
        if (lacking := self._lacking()) is not None:
            return lacking
        needed, free = self.memory(config)
        if free is not None and free < needed:
            return sentence("teach_no_memory", needed=needed, free=free)
        return None

    def progress(self, name: str) -> TrainingProgress | None:
        """Returns the progress of a data set's training; None if it is not being trained."""
        job = self._job
        return job.progress if job is not None and self._of == name else None

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
                raise TeachError(
                    sentence(
                        "teach_too_few",
                        parts=record.parts,
                        least=FEWEST_PARTS,
                        goal=site.config.teach.goal,
                    )
                )
            folder, threads = dataset.files.job, usable_threads()
            data = folder / "pictures" / record.name
            shutil.rmtree(folder, ignore_errors=True)  # left by a start that a full disk stopped
            dataset.files.lay_out(record, data)
            training = Training(state="running", started=now())
            dataset.change(training=training, collecting=False)
            job = TrainingProcess(
                self._programs(data, folder, threads, site.on_gpu(record.camera)),
                environment(folder, threads),
                folder,
                memory=site.config.teach.memory_mib * MIB,
                hindrance=hindrance,
                finish=lambda: _finish(dataset, site),
                ended=lambda why: self._end(training, why, told),
            )
            job.start()
            self._job, self._of = job, record.name

    def _end(self, training: Training, why: str | CancelledError | None, told: Told) -> None:
        state: State = "failed"
        if isinstance(why, CancelledError):
            state, why = ("failed", STOPPED) if self._stopping else ("cancelled", None)
        elif why is None:
            state = "done"
        with self._lock:
            told(training.model_copy(update={"state": state, "error": why, "ended": now()}))
            self._job = None

    def cancel(self, name: str) -> None:
        """Cancels the training of a data set, and waits a moment for its end.

        Raises:
            TeachError: It is not being trained.
        """
        job = self._job
        if job is None or self._of != name:
            raise TeachError(sentence("teach_not_training", name=name))
        job.cancel()
        job.join(_CANCEL_S)

    def stop(self, timeout_s: float) -> None:
        """Ends a running training, since the station stops."""
        self._stopping = True
        if (job := self._job) is not None:
            job.cancel()
            job.join(timeout_s)


def cut_off(training: Training) -> Training:
    """Returns the record of a training that was running when the station ended."""
    return training.model_copy(update={"state": "failed", "error": STOPPED, "ended": now()})


def _finish(dataset: Dataset, site: Site) -> None:
    """Adds the model to the store; keeps the report, and what the training found strange.

    Raises:
        DifferNetError: The model can't be added, or the disk is full.
    """
    record, folder = dataset.record, dataset.files.job
    file = folder / _FILE
    metadata = model_of(file)
    stored = site.add_model(record.camera, record.name, file)
    try:
        report = (folder / _MODEL / _REPORT).read_bytes()
        look = json.loads((folder / _MODEL / _RECORD).read_bytes()).get("look", {})
    except (OSError, ValueError) as error:
        raise TeachError(f"the training has written no report ({error})") from error
    write_bytes(dataset.files.report, report)
    with dataset.lock:
        dataset.change(
            model=added(stored, metadata),
            pictures=strange(dataset.record, _causes(look)),
        )


def _causes(look: dict[str, Any]) -> dict[str, str]:
    """Returns what a training found strange about pictures, by their ids."""
    return {
        Path(one["path"]).stem: _cause(one)
        for one in look.get("findings", [])
        if one["cause"] == "strange"
    }


def _cause(finding: dict[str, Any]) -> str:
    detail = str(finding["detail"])
    return sentence("look_left_out", what=detail) if finding["left_out"] else detail


def model_of(path: Path) -> ModelMetadata:
    """Returns a model file's metadata.

    Raises:
        ModelFileError: The file is not a valid model.
    """
    return read_model_file(path)[1]


def added(stored: StoredModel, metadata: ModelMetadata) -> AddedModel:
    """Returns what the record keeps about a model in the store."""
    limits, calibration = metadata.detection_limits, metadata.calibration
    text = None
    if limits is not None:
        text = warning(limits) or next(iter(sentences(limits).values()), None)
    return AddedModel(
        id=stored.hash,
        name=metadata.name,
        detection_limit=text,
        threshold=calibration.threshold if calibration else None,
        parts=metadata.provenance.images,
    )
