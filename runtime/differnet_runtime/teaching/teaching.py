"""All of teaching for the page: the data sets, and one training at a time."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

from ..config import CameraConfig
from ..errors import ModelFileError, TeachError
from ..model_file.metadata import ModelMetadata
from ..sentences import sentence
from ..text import printable
from .dataset import Dataset, outside, size_of
from .datasets import SWITCHED_OFF, Datasets, UnknownError, lacking, or_warn, require
from .files import DatasetFiles
from .records import DatasetView, Record, Site, TeachView, Training
from .training import Trainer, added, model_of

log = logging.getLogger(__name__)


class Teaching(Datasets):
    """Answers the page's requests, and takes frames from the cameras.

    Args:
        site: The station.
        trainer: Runs the trainings; None runs the installed commands.
    """

    def __init__(self, site: Site, trainer: Trainer | None = None) -> None:
        self._trainer = trainer or Trainer()
        super().__init__(site, self._trainer.progress)

    def stop(self, timeout_s: float = 2.0) -> None:
        """Ends a running training and the collecting; all pictures are on disk already."""
        self._trainer.stop(timeout_s / 2)
        super().stop(timeout_s / 2)

    def view(self, *, pictures: bool = True) -> TeachView:
        """Returns all data sets, and whether a training can start now.

        Args:
            pictures: Whether to list the pictures of the data sets.
        """
        reason = self._refusal() if self.enabled else SWITCHED_OFF
        needed, free = self._trainer.memory(self._site.config.teach)
        return TeachView(
            datasets=self.datasets(pictures=pictures),
            trainable=reason is None,
            reason=reason,
            needed_mib=needed,
            free_mib=free,
            goal=self._site.config.teach.goal,
        )

    def _refusal(self) -> str | None:
        return self._trainer.refusal(self._site.config.teach) or self._hindrance()

    def _hindrance(self) -> str | None:
        """Returns why a training must not write more; None if it may."""
        return lacking(self._site, self.root)

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

    def pictures(self, name: str) -> tuple[Record, DatasetFiles]:
        """Returns what `zipped` needs to make a zip of the kept pictures.

        Raises:
            TeachError: There are no kept pictures.
        """
        dataset = self.find(name)
        if not dataset.record.kept:
            raise TeachError(sentence("teach_no_pictures", name=name))
        return dataset.record, dataset.files

    def train(self, name: str) -> DatasetView:
        """Starts a training with the kept pictures.

        Raises:
            TeachError: It can't start; says why.
            OutputError: The disk is full.
        """
        with self.changing:
            dataset = self.changeable(name)
            if (refused := self._refusal()) is not None:
                raise TeachError(refused)
            self.camera_of(dataset.record)
            dataset.look()
            self._trainer.begin(
                dataset, self._site, partial(self._end_training, dataset), self._hindrance
            )
            self.renew()
            return self.dataset(name)

    def _end_training(self, dataset: Dataset, training: Training) -> None:
        or_warn(partial(dataset.remember, training=training))
        log.info("training of %s: %s", dataset.record.name, training.state)

    def cancel(self, name: str) -> DatasetView:
        """Cancels the training of a data set, even if teaching has been switched off since.

        Raises:
            TeachError: It is not being trained.
        """
        self.find(name)
        self._trainer.cancel(name)
        return self.dataset(name)

    def add_model(self, name: str, path: Path) -> DatasetView:
        """Adds a model that was trained elsewhere to the camera's store.

        Raises:
            ModelFileError: The file is not a valid model.
            ModelStoreError: The store can't take it.
            TeachError: It can't judge the camera's frames.
            OutputError: The disk is full.
        """
        with self.changing:
            dataset = self.changeable(name)
            camera = self.camera_of(dataset.record)
            try:
                metadata = model_of(path)
                self._require_fit(dataset.record, camera, metadata)
                self.require_room(path.stat().st_size)  # the store takes a copy
                stored = self._site.add_model(dataset.record.camera, name, path)
            except ModelFileError as error:
                text = str(error).replace(str(path), "the uploaded file")
                raise ModelFileError(text) from error
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

    def folder(self, name: str) -> Path:
        """Returns the folder for a file that is being uploaded for a data set.

        Raises:
            UnknownError: There is no such data set.
        """
        return self.changeable(name).files.folder

    def require_room(self, need: int) -> None:
        """Checks that so many more bytes can be written.

        Raises:
            OutputError: Too little of the disk would stay free.
        """
        require(self._site, self.root, need)
