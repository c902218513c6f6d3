"""The interface through which teaching uses its station."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from ..config import Config
from ..models import StoredModel
from ..records import Frame


class Site(Protocol):
    """The station."""

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
        """Returns the frame of a camera that the page shows now; None before the first."""

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
