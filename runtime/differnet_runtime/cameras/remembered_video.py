"""A video whose frames are judged one by one: those that were judged before are left out."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import ImageReadError
from ..records import Frame, Origin
from .base import Camera
from .remembered import Remembered, UnreadablePictureError, printable


class RememberedVideo(Camera):
    """Gives the frames of a video that are not remembered.

    A frame is told by its number, and the file by its name, size and time: another file in its
    place is another video.

    Args:
        video: Gives all its frames, each by the name `FILE#NUMBER`.
        path: Of the file, which is there.
        seen: What was read already.
    """

    live = False

    def __init__(self, video: Camera, path: Path, seen: Remembered) -> None:
        stat = path.stat()
        self._video, self._seen = video, seen
        self._state = f"|{stat.st_size}|{stat.st_mtime_ns}"
        self.length = video.length
        seen.forget([key for key in seen.keys if not key.endswith(self._state)])

    def read(self) -> Frame | None:
        """Reads the next frame that is not remembered; see `Camera.read`."""
        while True:
            try:
                frame = self._video.read()
            except ImageReadError as error:
                origin = self._origin(error.name)
                if self._is_new(origin):
                    raise UnreadablePictureError(error.cause, origin) from error
                continue
            if frame is None:
                return None
            origin = self._origin(frame.name)
            if self._is_new(origin):
                pixels = np.ascontiguousarray(frame.image)
                digest = hashlib.blake2b(pixels.data, digest_size=16).hexdigest()
                return replace(frame, origin=replace(origin, digest=digest))

    def _origin(self, name: str) -> Origin:
        shown = printable(name)
        return Origin(shown, shown + self._state)

    def _is_new(self, origin: Origin) -> bool:
        new = origin.key not in self._seen.keys
        self._seen.keys.add(origin.key)
        return new

    def close(self) -> None:
        """Releases the file."""
        self._video.close()

    def describe(self) -> str:
        """Returns the path."""
        return self._video.describe()
