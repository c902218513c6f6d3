"""What a camera is: something that gives frames, one after another, until it ends or is lost."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType

import numpy as np

from differnet_runtime.records import Frame, Image

from .settings import Controls, Setting

Room = Callable[[tuple[int, ...], "np.dtype[np.generic]"], Image | None]
"""Gives memory for a picture of that shape and dtype, where it may stay; None: there is none."""


def no_room(_shape: tuple[int, ...], _dtype: np.dtype[np.generic]) -> None:
    """Gives none: each picture is in new memory."""


class Camera(ABC):
    """A source of frames; made open, read by one thread, closed once."""

    live: bool
    """Whether frames come by themselves, and are missed when nobody reads."""

    length: int | None = None
    """How many frames it will give, where that is known."""

    controls: Controls | None = None
    """Exposure, gain and white balance of a device; None where there is nothing to set."""

    settings: tuple[Setting, ...] = ()
    """What was asked of a device when it was opened, and what it reports."""

    @abstractmethod
    def read(self) -> Frame | None:
        """Waits for the next frame.

        Returns:
            The frame, or None at the end of the source.

        Raises:
            ImageReadError: This one picture is bad; the source can be read on.
            CameraError: The source is lost; it must be opened again.
        """

    @abstractmethod
    def close(self) -> None:
        """Releases the source."""

    @abstractmethod
    def describe(self) -> str:
        """Returns what the source is, for messages and records; never a password."""

    def __enter__(self) -> Camera:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
