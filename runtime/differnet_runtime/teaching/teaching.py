"""What the page asks for: data sets, and one training of them at a time."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

from ..errors import ModelFileError, TeachError
from ..printable import printable
from .dataset import Dataset
from .datasets import SWITCHED_OFF, Datasets, UnknownError, or_warn
from .files import DatasetFiles
from .records import Record, Training
from .site import Site
from .training import Trainer, added, model_of
from .views import DatasetView, TeachView

log = logging.getLogger(__name__)


class Teaching(Datasets):
    """Answers the page, and is given frames by the cameras.

    Args:
        site: The station.
        trainer: Trains; None takes the installed commands.
    """

    def __init__(self, site: Site, trainer: Trainer | None = None) -> None:
        self._trainer = trainer or Trainer()
        super().__init__(site, self._trainer.progress)

    def stop(self, timeout_s: float = 2.0) -> None:
        """Ends a training, and the collecting; what was taken is on disk already."""
        self._trainer.stop(timeout_s / 2)
        super().stop(timeout_s / 2)

    def view(self) -> TeachView:
        """Returns all data sets, and whether a model could be trained now."""
        reason = self._trainer.refusal(self._site.config.teach) if self.enabled else SWITCHED_OFF
        needed, free = self._trainer.memory(self._site.config.teach)
        return TeachView(
            datasets=self.datasets(),
            trainable=reason is None,
            reason=reason,
            needed_mib=needed,
            free_mib=free,
            goal=self._site.config.teach.goal,
        )

    def picture(self, name: str, picture: str) -> Path:
        """Returns the file of a picture.

        Raises:
            UnknownError: There is no such picture.
        """
        dataset = self.find(name)
        if not any(one.id == picture for one in dataset.record.pictures):
            raise UnknownError(f"{name} has no picture {printable(picture)}")
        return dataset.files.path(picture)

    def report(self, name: str) -> Path:
        """Returns the report of the last training.

        Raises:
            UnknownError: There is none.
        """
        path = self.find(name).files.report
        if not path.is_file():
            raise UnknownError(f"{name} has no report yet: it comes with the first training")
        return path

    def pictures(self, name: str) -> tuple[Record, DatasetFiles]:
        """Returns what a zip of the kept pictures is made of.

        Raises:
            TeachError: There are none.
        """
        dataset = self.find(name)
        if not dataset.record.kept:
            raise TeachError(f"{name} has no pictures yet")
        return dataset.record, dataset.files

    def train(self, name: str) -> DatasetView:
        """Begins a training with the pictures that are kept.

        Raises:
            TeachError: It can't begin; says why.
            OutputError: The disk is full.
        """
        with self.changing:
            dataset = self.changeable(name)
            config, camera = self._site.config.teach, dataset.record.camera
            if (refused := self._trainer.refusal(config)) is not None:
                raise TeachError(refused)
            self.require_camera(camera)
            dataset.look()
            self._trainer.begin(dataset, self._site, partial(self._end_training, dataset))
            self.renew()
            return self.dataset(name)

    def _end_training(self, dataset: Dataset, training: Training) -> None:
        or_warn(partial(dataset.change, training=training))
        log.info("training of %s: %s", dataset.record.name, training.state)

    def cancel(self, name: str) -> DatasetView:
        """Ends a training.

        Raises:
            TeachError: There is none.
        """
        self.changeable(name)
        self._trainer.cancel(name)
        return self.dataset(name)

    def add_model(self, name: str, path: Path) -> DatasetView:
        """Adds a model that was trained elsewhere to the store that judges the camera.

        Raises:
            ModelFileError: It is no model.
            ModelStoreError: The store can't have it.
        """
        with self.changing:
            dataset = self.changeable(name)
            self.require_camera(dataset.record.camera)
            try:
                metadata = model_of(path)
                stored = self._site.add_model(dataset.record.camera, name, path)
            except ModelFileError as error:
                text = str(error).replace(str(path), "the file that was sent")
                raise ModelFileError(text) from error
            dataset.change(model=added(stored, metadata))
            return self.dataset(name)

    def folder(self, name: str) -> Path:
        """Returns where a file for a data set may be put until it is used.

        Raises:
            UnknownError: There is no such data set.
        """
        return self.changeable(name).files.folder
