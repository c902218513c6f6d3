"""Picture files as a camera."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from differnet_runtime.errors import CameraError, ImageReadError
from differnet_runtime.files import printable
from differnet_runtime.images import SUFFIXES, list_images, read_image
from differnet_runtime.records import Frame

from .base import Camera


class FilesCamera(Camera):
    """Gives the pictures of a list of files, in that order.

    Args:
        paths: Picture files.
        source: What they are together, for messages.

    Raises:
        CameraError: The list is empty.
    """

    live = False

    def __init__(self, paths: Sequence[Path], source: str) -> None:
        if not paths:
            raise CameraError(f"{source}: there are no pictures to read")
        self._paths = list(paths)
        self._source = source
        self._next = 0
        self.length = len(self._paths)

    def read(self) -> Frame | None:
        """Reads the next file; see `Camera.read`."""
        if self._next == len(self._paths):
            return None
        index, path = self._next, self._paths[self._next]
        self._next += 1
        name = printable(path.name)
        try:
            image = read_image(path)
        except ImageReadError as error:
            raise ImageReadError(name, error.cause) from error
        return Frame(image, name, index, time.monotonic_ns(), time.time())

    def close(self) -> None:
        """Does nothing: no file stays open between reads."""

    def describe(self) -> str:
        """Returns the folder or file."""
        return self._source


def folder_camera(folder: Path) -> FilesCamera:
    """Opens the pictures directly in a folder, by name.

    Raises:
        CameraError: The folder can't be listed, or holds no picture.
    """
    try:
        paths = list_images(folder)
    except OSError as error:
        raise CameraError(f"{folder}: {error.strerror or error}") from error
    if not paths:
        raise CameraError(
            f"{folder} holds no pictures: no file there ends in {', '.join(sorted(SUFFIXES))}. "
            "Folders inside it are not searched."
        )
    return FilesCamera(paths, str(folder))
