"""Where a benchmark's frames come from: a source, again and again, or one drawn frame."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..cameras import open_camera, redact
from ..errors import CameraError
from ..records import Frame


@dataclass(frozen=True)
class FrameSource:
    """What is inspected.

    Args:
        source: As `differnet run` takes it; None draws frames.
        width: Of drawn frames.
        height: Of drawn frames.
    """

    source: str | None = None
    width: int = 1280
    height: int = 720

    def frames(self) -> Iterator[Frame]:
        """Gives frames for ever: drawn ones, or those of the source from its start again.

        Raises:
            CameraError: The source can't be opened, is lost, or gives nothing.
            ImageReadError: A picture can't be read.
        """
        if self.source is None:
            yield from _drawn(self.width, self.height)
        while True:
            given = 0
            with open_camera(self.source or "") as camera:
                while (frame := camera.read()) is not None:
                    given += 1
                    yield frame
            if not given:
                raise CameraError(f"{redact(self.source or '')} gives no frame")

    def check(self) -> None:
        """Opens the source once, before anything is measured.

        Raises:
            CameraError: It can't be opened.
        """
        if self.source is not None:
            open_camera(self.source).close()

    def describe(self) -> str:
        """Returns what the figures of `capture` hold."""
        if self.source is None:
            return f"drawn frames, {self.width} x {self.height}; capture is a copy in memory"
        return f"{redact(self.source)}; capture reads and decodes"


def _drawn(width: int, height: int) -> Iterator[Frame]:
    picture = draw(width, height)
    index = 0
    while True:
        # A camera's driver fills memory that was not just read: a copy does too.
        yield Frame(picture.copy(), f"drawn {index}", index, time.monotonic_ns(), time.time())
        index += 1


def draw(width: int, height: int) -> NDArray[np.uint8]:
    """Draws a part-like frame `(height, width, 3) uint8` by a fixed formula: a disc, grain."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    radius = np.hypot(x - width / 2, y - height / 2) / height
    disc = 140.0 - 80.0 * np.clip((radius - 0.35) * 20.0, 0.0, 1.0)
    grain = np.random.RandomState(0).randint(-20, 21, (height, width, 3))
    frame: NDArray[np.uint8] = np.clip(disc[:, :, None] + grain, 0, 255).astype(np.uint8)
    return frame
