"""Picture files as a camera, and which pictures of a folder or frames of a video were read."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import CameraError, ImageReadError
from ..files import SUFFIXES, os_errors
from ..images import list_images, read_image
from ..records import Frame, Origin
from ..text import file_name
from .base import Camera


class FilesCamera(Camera):
    """Gives the pictures of a list of files.

    Args:
        paths: The picture files, in the order in which they are given.
        source: Their folder, or what else names them together in messages.

    Raises:
        CameraError: The list is empty.

    Example:
        >>> camera = FilesCamera([Path("a.png"), Path("b.png")], "two parts")
    """

    live = False

    def __init__(self, paths: Sequence[Path], source: str) -> None:
        if not paths:
            raise CameraError(f"{source}: there are no pictures to read")
        self.source = source
        self._paths = enumerate(paths)
        self.length = len(paths)

    def read(self) -> Frame | None:
        """Reads the next file; see `Camera.read`."""
        index, path = next(self._paths, (0, None))
        if path is None:
            return None
        name = file_name(path.name)
        try:
            image = read_image(path)
        except ImageReadError as error:
            raise ImageReadError(name, error.cause) from error
        return Frame(image, name, index, time.monotonic_ns(), time.time())

    def close(self) -> None:
        """Does nothing: no file stays open between reads."""


def folder_camera(folder: Path) -> FilesCamera:
    """Opens the pictures directly in a folder, in the order of their names.

    Raises:
        CameraError: The folder can't be listed, or holds no picture.
    """
    with os_errors(CameraError, folder):
        paths = list_images(folder)
    if not paths:
        raise CameraError(
            f"{folder} holds no pictures: no file there ends in {', '.join(sorted(SUFFIXES))}. "
            "Folders inside it are not searched."
        )
    return FilesCamera(paths, str(folder))


class UnreadablePictureError(ImageReadError):
    """A picture file can't be read; `origin` says which one."""

    def __init__(self, cause: str, origin: Origin) -> None:
        super().__init__(origin.name, cause)
        self.origin = origin

    def __reduce__(self) -> tuple[type[UnreadablePictureError], tuple[str, Origin]]:  # type: ignore[override]
        """Makes it picklable, for another process."""
        return type(self), (self.cause, self.origin)


KEYS_PER_MESSAGE = 40
"""Greatest number of keys in one message: a name may have 255 bytes, each of them escaped."""


def _ignore(*_: object) -> None:
    """Does nothing."""


@dataclass
class Remembered:
    """The pictures that were read already, and the functions to call for new ones.

    A picture is known by its key; see `records.Origin`.

    Args:
        keys: Keys of the pictures that were read.
        settled: Keys of pictures whose verdict is on disk, so that they may be moved or deleted.
        trying: Called with name and key before a picture is decoded.
        later: Called with the key of a picture that is not complete yet and is read again later.
        gone: Called with the keys of pictures that no longer exist.
        pause: Waits for a number of seconds, during which `settled` may grow.

    Example:
        >>> seen = Remembered(keys={"a.png|1024|1700000000000000000"})
    """

    keys: set[str] = field(default_factory=set)
    settled: deque[str] = field(default_factory=deque)
    trying: Callable[[str, str], None] = _ignore
    later: Callable[[str], None] = _ignore
    gone: Callable[[tuple[str, ...]], None] = _ignore
    pause: Callable[[float], None] = time.sleep

    def forget(self, keys: Iterable[str]) -> None:
        """Forgets pictures that no longer exist, and calls `gone` with their keys."""
        ordered = sorted(keys)
        self.keys.difference_update(ordered)
        for at in range(0, len(ordered), KEYS_PER_MESSAGE):
            self.gone(tuple(ordered[at : at + KEYS_PER_MESSAGE]))


def key_of(name: str, stat: os.stat_result) -> str:
    """Returns the key of a file; see `records.Origin`."""
    return f"{file_name(name)}|{stat.st_size}|{stat.st_mtime_ns}"
