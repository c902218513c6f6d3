"""Teaching for the page: creates data sets, collects pictures for them, and trains models."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from ..config import CameraConfig
from ..config.grammar import redact
from ..errors import DifferNetError, ModelFileError, OutputError, TeachError
from ..evidence.store import free_bytes
from ..inspection.image_checks import IntegrityGate
from ..model_file.contract import Region
from ..model_file.file import read_model_file
from ..model_file.metadata import ModelMetadata
from ..sentences import sentence
from ..text import printable
from .dataset import Collector, Dataset, FrameOutcome, Stream, outside, size_of
from .files import FOLDER, DatasetFiles, read_all, zipped
from .records import (
    DatasetFields,
    DatasetView,
    PictureView,
    Record,
    TakenView,
    TeachView,
    Training,
    TrainingView,
    now,
)
from .training import Site, Trainer, added, cut_off

SWITCHED_OFF = sentence("teach_off")
_OLD_S = 5.0
"""An older frame of a live camera may not show the part that is there now."""
_LOOK_S = 0.2
"""Frames wait no longer than this, and one more picture, for a look at the pictures."""

log = logging.getLogger(__name__)


class UnknownError(TeachError):
    """There is no such data set or picture."""


class Teaching:
    """Answers the page's requests, and takes frames from the cameras. Thread-safe.

    Args:
        site: The station that it belongs to.
        trainer: Runs the trainings; None runs the installed commands.

    Example:
        >>> teaching = Teaching(site)
        >>> teaching.start()
        >>> teaching.create("ring", "left", region=None)
        >>> teaching.collect("ring", on=True)
        >>> teaching.train("ring")  # once `teaching.dataset("ring").parts` is large enough
        >>> teaching.stop()
    """

    def __init__(self, site: Site, trainer: Trainer | None = None) -> None:
        self._site, self._trainer = site, trainer or Trainer()
        self.root = site.config.station.state / FOLDER
        self._changing = threading.RLock()
        self._datasets = {
            record.name: Dataset(files, record, self._no_room)
            for files, record in read_all(self.root)  # the page may ask before the start
        }
        self.collecting: frozenset[str] = frozenset()
        """The cameras whose frames it collects."""
        self._collector = Collector(self._look, self._end_collecting, self._leave)
        self.offer = self._collector.offer
        """Takes a frame after its verdict; see `Collector.offer`."""

    def start(self) -> None:
        """Marks trainings that a crash has ended as failed, and resumes collecting."""
        with self._changing:
            for dataset in self._datasets.values():
                training = dataset.record.training
                if training is not None and training.state == "running":
                    _or_warn(partial(dataset.remember, training=cut_off(training)))
            self.renew()
        self._collector.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        """Ends a running training and the collecting; all pictures are on disk already."""
        self._trainer.stop(timeout_s / 2)
        self._collector.stop(timeout_s / 2)

    def renew(self) -> None:
        """Adapts the collecting to a change of the configuration or the data sets."""
        with self._changing:
            cameras = self._site.config.camera
            streams = {}
            for one in self._datasets.values():
                camera = one.record.camera
                if one.record.collecting and camera not in cameras:
                    why = sentence("camera_gone", camera=camera)
                    _or_warn(partial(one.change, collecting=False, problem=why))
                elif one.record.collecting and self._site.config.teach.enabled:
                    live = self._site.live(camera)
                    streams[camera] = Stream(one, cameras[camera].integrity, live=live)
            self._collector.use(streams)
            self.collecting = frozenset(streams)

    def view(self, *, pictures: bool = True) -> TeachView:
        """Returns all data sets, and whether a training can start now.

        Args:
            pictures: Whether to list the pictures of the data sets.
        """
        reason = self._refusal() if self._site.config.teach.enabled else SWITCHED_OFF
        needed, free = self._trainer.memory(self._site.config.teach)
        return TeachView(
            datasets=self.datasets(pictures=pictures),
            trainable=reason is None,
            reason=reason,
            needed_mib=needed,
            free_mib=free,
            goal=self._site.config.teach.goal,
        )

    def datasets(self, *, pictures: bool = True) -> list[DatasetView]:
        """Returns all data sets, by name.

        Args:
            pictures: Whether to list their pictures.
        """
        return [self._view(one, pictures=pictures) for _, one in sorted(self._datasets.items())]

    def dataset(self, name: str) -> DatasetView:
        """Returns a data set.

        Raises:
            UnknownError: There is none of that name.
        """
        return self._view(self.find(name))

    def _view(self, dataset: Dataset, *, pictures: bool = True) -> DatasetView:
        record, kept = dataset.record, dataset.record.kept
        shown = record.pictures if pictures else ()
        return DatasetView(
            **{key: getattr(record, key) for key in DatasetFields.model_fields},
            goal=self._site.config.teach.goal,
            thrown_out=len(record.pictures) - len(kept),
            strange=sum(one.cause is not None for one in kept),
            pictures=[
                PictureView(
                    id=one.id,
                    time=one.time,
                    kept=one.kept,
                    strange=one.cause is not None,
                    cause=one.cause,
                )
                for one in shown
            ],
            revision=record.revision,
            training=self._training_view(record),
            report=dataset.files.report.is_file(),
            obstacle=self._site.obstacle(record.camera, record.name),
        )

    def _training_view(self, record: Record) -> TrainingView | None:
        last, progress = record.training, self._trainer.progress(record.name)
        if last is None:
            return None
        if last.state != "running" or progress is None:
            done = 1.0 if last.state == "done" else 0.0
            return TrainingView(**dict(last), step=last.state, done=done)
        left_s = progress.seconds_left
        return TrainingView(
            **dict(last),
            step=progress.step,
            done=round(progress.done, 3),
            seconds_left=None if left_s is None else round(left_s, 1),
        )

    def find(self, name: str) -> Dataset:
        """Returns a data set.

        Raises:
            UnknownError: There is none of that name.
        """
        found = self._datasets.get(name)
        if found is None:
            raise UnknownError(sentence("teach_unknown", name=printable(name)))
        return found

    def _changeable(self, name: str) -> Dataset:
        self._require_enabled()
        return self.find(name)

    def _require_enabled(self) -> None:
        if not self._site.config.teach.enabled:
            raise TeachError(SWITCHED_OFF)

    def _camera_of(self, record: Record) -> CameraConfig:
        found = self._site.config.camera.get(record.camera)
        if found is None:
            raise TeachError(sentence("camera_gone", camera=record.camera))
        return found

    def create(self, name: str, camera: str, region: Region | None) -> DatasetView:
        """Creates a data set; collecting is still off.

        Raises:
            TeachError: The name is taken, there is no such camera, or the region does not fit.
            OutputError: The data set can't be written.
        """
        with self._changing:
            self._require_enabled()
            files = DatasetFiles(self.root / name)
            if name in self._datasets:
                raise TeachError(sentence("teach_exists", name=name))
            if files.used:
                raise TeachError(sentence("teach_folder_used", folder=files.folder))
            config = self._site.config.camera.get(camera)
            if config is None:
                raise TeachError(sentence("camera_unknown", camera=camera))
            frame = self._site.frame(camera)
            if frame and (misfit := outside(region, size_of(frame.image))) is not None:
                raise TeachError(misfit)
            source = redact(config.source)
            record = Record(name=name, camera=camera, source=source, region=region, created=now())
            files.make(record)
            self._datasets[name] = Dataset(files, record, self._no_room)
            return self.dataset(name)

    def delete(self, name: str) -> None:
        """Deletes a data set with all of its pictures; a model in the store stays.

        Raises:
            TeachError: Its training is running.
            StoreError: It can't be deleted.
        """
        with self._changing:
            dataset = self._changeable(name)
            if self._trainer.progress(name) is not None:
                raise TeachError(sentence("teach_busy", name=name))
            with dataset.lock:
                dataset.files.delete()
                del self._datasets[name]
                dataset.gone = True
            self.renew()

    def collect(self, name: str, *, on: bool) -> DatasetView:
        """Switches collecting on or off.

        Raises:
            TeachError: The camera is gone, or another data set collects from it.
            OutputError: The record can't be written.
        """
        with self._changing:
            dataset = self._changeable(name)
            record = dataset.record
            if on:
                self._camera_of(record)
                for one in (other.record for other in self._datasets.values()):
                    if one.collecting and one.camera == record.camera and one.name != name:
                        raise TeachError(
                            sentence("teach_collects", name=one.name, camera=one.camera)
                        )
            dataset.change(collecting=on, problem=None if on else record.problem)
            self.renew()
            return self.dataset(name)

    def take(self, name: str) -> TakenView:
        """Takes the frame that the page shows now; it is on disk when this returns.

        Raises:
            TeachError: The camera is gone.
        """
        dataset = self._changeable(name)
        camera, config = dataset.record.camera, self._camera_of(dataset.record)
        frame, live = self._site.frame(camera), self._site.live(camera)
        if frame is None:
            seen = FrameOutcome(False, sentence("teach_no_frame", camera=camera))
        elif live and (age_s := (time.monotonic_ns() - frame.captured_ns) / 1e9) > _OLD_S:
            seen = FrameOutcome(False, sentence("teach_old_frame", camera=camera, age_s=age_s))
        else:
            seen = dataset.consider(frame, IntegrityGate(config.integrity, None, live=live))
        return TakenView(**dict(self.dataset(name)), taken=seen.taken, why=seen.why)

    def keep(self, name: str, picture: str, *, kept: bool) -> DatasetView:
        """Throws a picture out, or puts it back.

        Raises:
            UnknownError: There is no such picture.
            OutputError: The record can't be written.
        """
        if not self._changeable(name).keep(picture, kept=kept):
            raise UnknownError(sentence("teach_no_picture", name=name, picture=printable(picture)))
        return self.dataset(name)

    def picture(self, name: str, picture: str) -> Path:
        """Returns the file of a picture.

        Raises:
            UnknownError: There is no such picture.
        """
        dataset = self.find(name)
        if not any(one.id == picture for one in dataset.record.pictures):
            raise UnknownError(sentence("teach_no_picture", name=name, picture=printable(picture)))
        return dataset.files.path(picture)

    def report(self, name: str) -> Path:
        """Returns the report of the last training.

        Raises:
            UnknownError: There is none.
        """
        path = self.find(name).files.report
        if not path.is_file():
            raise UnknownError(sentence("teach_no_report", name=name))
        return path

    def pictures(self, name: str) -> Iterator[bytes]:
        """Returns the pieces of a zip file of the kept pictures; see `zipped`.

        Raises:
            TeachError: There are no kept pictures.
        """
        dataset = self.find(name)
        if not dataset.record.kept:
            raise TeachError(sentence("teach_no_pictures", name=name))
        return zipped(dataset.record, dataset.files)

    def train(self, name: str) -> DatasetView:
        """Starts a training with the kept pictures.

        Raises:
            TeachError: It can't start; says why.
            OutputError: The disk is full.
        """
        with self._changing:
            dataset = self._changeable(name)
            if (refused := self._refusal()) is not None:
                raise TeachError(refused)
            self._camera_of(dataset.record)
            dataset.look()
            ended = partial(self._end_training, dataset)
            self._trainer.begin(dataset, self._site, ended, self._disk_full)
            self.renew()
            return self.dataset(name)

    def _refusal(self) -> str | None:
        return self._trainer.refusal(self._site.config.teach) or self._disk_full()

    def _end_training(self, dataset: Dataset, training: Training) -> None:
        _or_warn(partial(dataset.remember, training=training))
        log.info("training of %s: %s", dataset.record.name, training.state)

    def cancel(self, name: str) -> DatasetView:
        """Cancels the training of a data set, even if teaching has been switched off since.

        Raises:
            TeachError: It is not being trained.
        """
        self.find(name)
        self._trainer.cancel(name)
        return self.dataset(name)

    def folder(self, name: str) -> Path:
        """Returns the folder for a file that is being uploaded for a data set.

        Raises:
            UnknownError: There is no such data set.
        """
        return self._changeable(name).files.folder

    def add_model(self, name: str, path: Path) -> DatasetView:
        """Adds a model that was trained elsewhere to the camera's store.

        Raises:
            ModelFileError: The file is not a valid model.
            ModelStoreError: The store can't take it.
            TeachError: It can't judge the camera's frames.
            OutputError: The disk is full.
        """
        with self._changing:
            dataset = self._changeable(name)
            camera = self._camera_of(dataset.record)
            try:
                _, metadata = read_model_file(path)
                self._require_fit(dataset.record, camera, metadata)
                self.require_room(path.stat().st_size)  # the store takes a copy
                stored = self._site.add_model(dataset.record.camera, name, path)
            except ModelFileError as error:
                raise ModelFileError(str(error).replace(str(path), "the uploaded file")) from error
            dataset.change(model=added(stored, metadata))
            return self.dataset(name)

    def _require_fit(self, record: Record, camera: CameraConfig, metadata: ModelMetadata) -> None:
        """Checks that a model can judge the camera's frames, if their size is known."""
        frame = self._site.frame(record.camera)
        size = record.frame_size if frame is None else size_of(frame.image)
        if size is None:
            return
        sizes = metadata.picture_sizes if camera.integrity.size != "any" else None
        why = outside(metadata.input.region, size)
        if why is None and sizes is not None and not sizes.accepts(*size):
            why = sentence("teach_wrong_size", sizes=sizes, size=f"{size[0]} x {size[1]}")
        if why is not None:
            raise TeachError(sentence("teach_wrong_model", why=why))

    def require_room(self, need: int) -> None:
        """Checks that `need` more bytes can be written.

        Raises:
            OutputError: Too little of the disk would stay free.
        """
        if (why := self._disk_full(need)) is not None:
            raise OutputError(why)

    def _disk_full(self, need: int = 0) -> str | None:
        reserve, free = self._site.config.evidence.min_free_bytes, free_bytes(self.root)
        if free is None or free - need >= reserve:
            return None
        return sentence("teach_disk_full", free=free >> 20, reserve=reserve >> 20)

    def _no_room(self, need: int) -> str | None:
        """Returns why `need` more bytes of pictures can't be stored; None if they can."""
        most = self._site.config.teach.max_bytes
        if sum(one.bytes for one in list(self._datasets.values())) + need > most:
            return sentence("teach_all_full", most=most >> 20)
        return self._disk_full(need)

    def _look(self) -> None:
        """Examines data sets that have changed, for a short time, in the collector's thread."""
        datasets = list(self._datasets.values())
        for dataset in datasets:
            if dataset.due:
                dataset.look(_LOOK_S)
                for other in datasets:
                    if not (other is dataset or other.due or other.record.collecting):
                        other.forget()
            dataset.flush()

    def _leave(self) -> None:
        for dataset in list(self._datasets.values()):
            _or_warn(dataset.flush)

    def _end_collecting(self, dataset: Dataset, why: str) -> None:
        with self._changing:
            if not dataset.record.collecting:
                return
            log.warning("no more pictures for %s: %s", dataset.record.name, why)
            try:
                dataset.change(collecting=False, problem=why)
            finally:
                self.renew()


def _or_warn(change: Callable[[], object]) -> None:
    """Makes a change, and only logs an error."""
    try:
        change()
    except DifferNetError as error:
        log.warning("%s", error)
