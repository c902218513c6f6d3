"""What teaching may ask of the station."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..cameras.sources import is_live, located
from ..config import Config
from ..errors import TeachError
from ..models import StoredModel
from ..processes import return_memory
from ..records import Frame
from ..sentences import sentence

if TYPE_CHECKING:
    from .models import StationModel
    from .station import Station


class StationSite:
    """Implements `teaching.Site` for a running station.

    Args:
        station: The station; may still be under construction.
    """

    def __init__(self, station: Station) -> None:
        self._station = station

    @property
    def config(self) -> Config:
        """See `Site.config`."""
        return self._station.config

    def live(self, camera: str) -> bool:
        """See `Site.live`."""
        config = self.config.camera.get(camera)  # a reload removes it
        return config is not None and is_live(located(config))

    def obstacle(self, camera: str, name: str) -> str | None:
        """See `Site.obstacle`."""
        model = self._station.models.of(camera)
        if model is None or model.config.store is not None:
            return None
        code = "teach_model_file" if model.config.path else "teach_no_store"
        return sentence(code, key=model.planned.key, camera=camera, name=name)

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
            return_memory()  # of reading the file

    def _model(self, camera: str) -> StationModel:
        model = self._station.models.of(camera)
        if model is None:  # a reload removes it
            raise TeachError(sentence("camera_gone", camera=camera))
        return model
