"""What teaching asks of the station that it belongs to."""

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
        """In use now; a reload replaces it."""

    def live(self, camera: str) -> bool:
        """Returns whether a camera's frames come by themselves; its pictures wait otherwise."""

    def obstacle(self, camera: str, name: str) -> str | None:
        """Says what must be set before a model that is added can judge a camera.

        Args:
            camera: Name.
            name: As in `add_model`.

        Returns:
            None where nothing must.
        """

    def frame(self, camera: str) -> Frame | None:
        """Returns the frame that the page shows of a camera; None before the first."""

    def on_gpu(self, camera: str) -> bool:
        """Returns whether a GPU judges the frames of a camera."""

    def add_model(self, camera: str, name: str, path: Path) -> StoredModel:
        """Adds a model to the store that judges a camera; it does not judge yet.

        Args:
            camera: Name.
            name: Of the model, for a store that no camera uses.
            path: The file.

        Raises:
            DifferNetError: It can't be added.
        """
