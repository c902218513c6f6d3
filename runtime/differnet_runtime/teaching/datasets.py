"""All data sets of a station: creates and deletes them, and fills them with pictures.

Checks the free space: all pictures together have a limit, and part of the disk stays free.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ..config import CameraConfig
from ..config.grammar import redact
from ..errors import DifferNetError, OutputError, TeachError
from ..evidence.retention import free_bytes
from ..inspection.image_checks import IntegrityGate
from ..model_file.contract import Region
from ..records import Frame
from ..sentences import sentence
from ..text import printable
from .dataset import Collector, Dataset, FrameOutcome, Stream, outside, size_of
from .files import FOLDER, DatasetFiles, read_all
from .job import TrainingProgress
from .records import DatasetView, Record, Site, dataset_view, now
from .training import cut_off


def lacking(site: Site, folder: Path, need: int = 0) -> str | None:
    """Returns why so many more bytes can't be written; None if they can.

    Args:
        site: The station, with its `min_free_bytes`.
        folder: A folder on the disk to be written to.
        need: Number of bytes.
    """
    left = site.config.evidence.min_free_bytes
    free = free_bytes(folder)
    if free is None or free - need >= left:
        return None
    return sentence("teach_disk_full", free=free >> 20, reserve=left >> 20)


def require(site: Site, folder: Path, need: int) -> None:
    """Checks that so many more bytes can be written; see `lacking`.

    Raises:
        OutputError: They can't.
    """
    if (why := lacking(site, folder, need)) is not None:
        raise OutputError(why)


def too_many(site: Site, taken: int) -> str | None:
    """Returns a message if the pictures take more bytes than allowed; else None.

    Args:
        site: The station, with its `max_bytes`.
        taken: Bytes of all pictures.
    """
    most = site.config.teach.max_bytes
    if taken <= most:
        return None
    return sentence("teach_all_full", most=most >> 20)


SWITCHED_OFF = sentence("teach_off")
_OLD_S = 5.0
"""An older frame of a live camera may not show the part that is there now."""

_LOOK_S = 0.2
"""Frames wait for a look no longer than this, and one picture more."""

log = logging.getLogger(__name__)


class UnknownError(TeachError):
    """There is no such data set or picture."""


class Datasets:
    """Creates data sets, and gives them the cameras' frames. Thread-safe.

    Args:
        site: The station.
        progress: Returns the progress of a data set's training; None if none is running.
    """

    def __init__(self, site: Site, progress: Callable[[str], TrainingProgress | None]) -> None:
        self._site, self._progress = site, progress
        self.root = site.config.station.state / FOLDER
        self.changing = threading.RLock()
        self._datasets = {
            record.name: Dataset(files, record, self._room)
            for files, record in read_all(self.root)  # the page may ask before the start
        }
        self._collector = Collector(self._look, self._end_collecting, self._leave)

    def start(self) -> None:
        """Marks trainings that a crash has ended as failed, and goes on collecting."""
        with self.changing:
            for dataset in self._datasets.values():
                training = dataset.record.training
                if training is not None and training.state == "running":
                    or_warn(partial(dataset.remember, training=cut_off(training)))
            self.renew()
        self._collector.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        """Ends the collecting; all pictures are on disk already."""
        self._collector.stop(timeout_s)

    def renew(self) -> None:
        """Adapts the collecting to a change of the configuration or the data sets."""
        with self.changing:
            cameras = self._site.config.camera
            for one in self._datasets.values():
                if one.record.collecting and one.record.camera not in cameras:
                    why = _no_camera(one.record.camera)
                    or_warn(partial(one.change, collecting=False, problem=why))
            streams = {
                one.record.camera: Stream(
                    one,
                    cameras[one.record.camera].integrity,
                    live=self._site.live(one.record.camera),
                )
                for one in self._datasets.values()
                if one.record.collecting and one.record.camera in cameras and self.enabled
            }
            self._collector.use(streams)

    def offer(self, camera: str, frame: Frame) -> None:
        """Takes a frame after its verdict; see `Collector.offer`."""
        self._collector.offer(camera, frame)

    @property
    def enabled(self) -> bool:
        """Whether anything may be changed."""
        return self._site.config.teach.enabled

    def dataset(self, name: str) -> DatasetView:
        """Returns a data set.

        Raises:
            UnknownError: There is none of that name.
        """
        return self._view(self.find(name))

    def datasets(self, *, pictures: bool = True) -> list[DatasetView]:
        """Returns all data sets, by name.

        Args:
            pictures: Whether to list their pictures.
        """
        found = sorted(self._datasets.items())
        return [self._view(dataset, pictures=pictures) for _, dataset in found]

    def _view(self, dataset: Dataset, *, pictures: bool = True) -> DatasetView:
        record = dataset.record
        return dataset_view(
            record,
            self._site.config.teach.goal,
            report=dataset.files.report.is_file(),
            progress=self._progress(record.name),
            obstacle=self._site.obstacle(record.camera, record.name),
            pictures=pictures,
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

    def changeable(self, name: str) -> Dataset:
        """Returns a data set, in order to change it.

        Raises:
            UnknownError: There is none of that name.
            TeachError: Teaching is switched off.
        """
        if not self.enabled:
            raise TeachError(SWITCHED_OFF)
        return self.find(name)

    def create(self, name: str, camera: str, region: Region | None) -> DatasetView:
        """Creates a data set; collecting is still off.

        Raises:
            TeachError: The name is taken, there is no such camera, or the region does not fit.
            OutputError: The data set can't be written.
        """
        with self.changing:
            if not self.enabled:
                raise TeachError(SWITCHED_OFF)
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
            self._datasets[name] = Dataset(files, record, self._room)
            return self.dataset(name)

    def delete(self, name: str) -> None:
        """Deletes a data set with all of its pictures; a model in the store stays.

        Raises:
            TeachError: Its training is running.
            StoreError: It can't be deleted.
        """
        with self.changing:
            dataset = self.changeable(name)
            if self._progress(name) is not None:
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
        with self.changing:
            dataset = self.changeable(name)
            if on:
                self._refuse_second(dataset.record)
                dataset.change(collecting=True, problem=None)
            else:
                dataset.change(collecting=False)
            self.renew()
            return self.dataset(name)

    def _refuse_second(self, record: Record) -> None:
        self.camera_of(record)
        for other in self._datasets.values():
            one = other.record
            if one.collecting and one.camera == record.camera and one.name != record.name:
                raise TeachError(sentence("teach_collects", name=one.name, camera=one.camera))

    def camera_of(self, record: Record) -> CameraConfig:
        """Returns the camera of a data set.

        Raises:
            TeachError: A reload has removed it.
        """
        found = self._site.config.camera.get(record.camera)
        if found is None:
            raise TeachError(_no_camera(record.camera))
        return found

    def take(self, name: str) -> tuple[DatasetView, FrameOutcome]:
        """Takes the frame that the page shows now; it is on disk when this returns.

        Raises:
            TeachError: The camera is gone.
        """
        dataset = self.changeable(name)
        camera, config = dataset.record.camera, self.camera_of(dataset.record)
        frame, live = self._site.frame(camera), self._site.live(camera)
        if frame is None:
            seen = FrameOutcome(False, sentence("teach_no_frame", camera=camera))
        elif live and (age_s := (time.monotonic_ns() - frame.captured_ns) / 1e9) > _OLD_S:
            seen = FrameOutcome(False, sentence("teach_old_frame", camera=camera, age_s=age_s))
        else:
            seen = dataset.consider(frame, IntegrityGate(config.integrity, None, live=live))
        return self.dataset(name), seen

    def keep(self, name: str, picture: str, *, kept: bool) -> DatasetView:
        """Throws a picture out, or puts it back.

        Raises:
            UnknownError: There is no such picture.
            OutputError: The record can't be written.
        """
        if not self.changeable(name).keep(picture, kept=kept):
            raise UnknownError(sentence("teach_no_picture", name=name, picture=printable(picture)))
        return self.dataset(name)

    def _look(self) -> None:
        """Examines data sets that have changed, for a short time, in the collector's thread."""
        datasets = list(self._datasets.values())
        for dataset in datasets:
            if dataset.looks.due:
                dataset.look(_LOOK_S)
                for other in datasets:
                    if not (other is dataset or other.looks.due or other.record.collecting):
                        other.looks.forget()
            dataset.flush()

    def _leave(self) -> None:
        for dataset in list(self._datasets.values()):
            or_warn(dataset.flush)

    def _end_collecting(self, dataset: Dataset, why: str) -> None:
        with self.changing:
            if not dataset.record.collecting:
                return
            log.warning("no more pictures for %s: %s", dataset.record.name, why)
            try:
                dataset.change(collecting=False, problem=why)
            finally:
                self.renew()

    def _room(self, need: int) -> str | None:
        """See `dataset.Room`."""
        taken = sum(one.bytes for one in list(self._datasets.values()))
        return too_many(self._site, taken + need) or lacking(self._site, self.root, need)


def _no_camera(camera: str) -> str:
    return sentence("camera_gone", camera=camera)


def or_warn(change: Callable[[], object]) -> None:
    """Makes a change; an error is only logged."""
    try:
        change()
    except DifferNetError as error:
        log.warning("%s", error)
