"""The station as teaching sees it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from ..cameras.sources import is_live, located
from ..config import Config
from ..errors import TeachError
from ..models import StoredModel
from ..processes import return_memory
from ..records import Frame

if TYPE_CHECKING:
    from .models import StationModel
    from .station import Station


class StationSite:
    """Answers teaching from the station's parts; see `teaching.Site`.

    Args:
        station: Being built; it is asked once it runs.
    """

    def __init__(self, station: Station) -> None:
        self._station = station

    @property
    def config(self) -> Config:
        """See `Site.config`."""
        return self._station.config

    def cameras(self) -> Collection[str]:
        """See `Site.cameras`."""
        return tuple(self._station.cameras)

    def live(self, camera: str) -> bool:
        """See `Site.live`."""
        return is_live(located(self.config.camera[camera]))

    def frame(self, camera: str) -> Frame | None:
        """See `Site.frame`."""
        return self._station.board.of(camera).picture.frame

    def on_gpu(self, camera: str) -> bool:
        """See `Site.on_gpu`."""
        backend = self._model(camera).switch.engine.status.backend or "cpu"
        return "cpu" not in backend and not backend.startswith("fake")

    def add_model(self, camera: str, name: str, path: Path) -> StoredModel:
        """See `Site.add_model`."""
        try:
            return self._model(camera).add(path, name)
        finally:
            return_memory()  # the file was read

    def _model(self, camera: str) -> StationModel:
        model = self._station.models.of(camera)
        if model is None:  # a reload removes it
            raise TeachError(f"there is no camera {camera!r} any more")
        return model
