"""The newest frame of a live source, however slow the reader is.

What is known of the pictures of a folder or a video while they are read.

Picture files as a camera.

A video whose frames are judged one by one: those that were judged before are left out.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..errors import CameraError, ImageReadError
from ..files import SUFFIXES
from ..images import list_images, read_image
from ..records import Frame, Origin
from ..text import file_name
from .base import Camera


class UnreadablePictureError(ImageReadError):
    """A picture in a file can't be read; tells which one."""

    def __init__(self, cause: str, origin: Origin) -> None:
        super().__init__(origin.name, cause)
        self.origin = origin

    def __reduce__(self) -> tuple[type[UnreadablePictureError], tuple[str, Origin]]:  # type: ignore[override]
        """Lets it reach another process."""
        return type(self), (self.cause, self.origin)


AT_ONCE = 40
"""Keys in a message: names may have 255 bytes, of which each may be escaped."""


def _nothing(*_: object) -> None:
    """Tells nobody."""


@dataclass
class Remembered:
    """Which pictures were read already, and who is told of them.

    Pictures are known by their key, as in `records.Origin`.

    Args:
        keys: Of those that were read.
        settled: Keys of pictures whose verdict is on disk, so that they may be moved or deleted.
        trying: Called with name and key before a picture is decoded.
        later: Called with the key of one that is not complete yet, and is read again later.
        gone: Called with the keys of pictures that are no longer there.
        pause: Waits so many seconds, while `settled` may grow.
    """

    keys: set[str] = field(default_factory=set)
    settled: deque[str] = field(default_factory=deque)
    trying: Callable[[str, str], None] = _nothing
    later: Callable[[str], None] = _nothing
    gone: Callable[[tuple[str, ...]], None] = _nothing
    pause: Callable[[float], None] = time.sleep

    def forget(self, keys: Iterable[str]) -> None:
        """Forgets pictures that are gone, and says so."""
        ordered = sorted(keys)
        self.keys.difference_update(ordered)
        for at in range(0, len(ordered), AT_ONCE):
            self.gone(tuple(ordered[at : at + AT_ONCE]))


def key_of(name: str, stat: os.stat_result) -> str:
    """Returns the key of a file; see `records.Origin`."""
    return f"{file_name(name)}|{stat.st_size}|{stat.st_mtime_ns}"


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
        name = file_name(path.name)
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


_CLOSE_S = 2.0


class Newest(Camera):
    """Reads a live source in a thread, and gives what came last; what came before is dropped.

    Read directly, a stream that is faster than its reader piles up, and its frames get older and
    older. A station's capture process does the same, and can be killed besides.

    Args:
        camera: Open and live; it is closed with this one.
    """

    live = True

    def __init__(self, camera: Camera) -> None:
        self._camera = camera
        self._news = threading.Condition()
        self._last: Frame | ImageReadError | None = None
        self._error: Exception | None = None
        self._reading, self._closed = True, False
        self._thread = threading.Thread(target=self._run, name="newest", daemon=True)
        self._thread.start()

    def read(self) -> Frame | None:
        """Waits for a frame that was not given yet; see `Camera.read`."""
        with self._news:
            self._news.wait_for(lambda: self._last is not None or not self._reading)
            last, self._last = self._last, None
        if isinstance(last, ImageReadError):
            raise last
        if last is None and self._error is not None:
            raise self._error
        return last

    def _run(self) -> None:
        try:
            while not self._closed and (last := self._next()) is not None:
                with self._news:
                    self._last = last
                    self._news.notify()
        except Exception as error:
            self._error = error
        with self._news:
            self._reading = False
            self._news.notify()
            closed = self._closed
        if closed:
            self._camera.close()

    def _next(self) -> Frame | ImageReadError | None:
        try:
            return self._camera.read()
        except ImageReadError as error:
            return error

    def close(self) -> None:
        """Releases the source, or lets the thread do it after its present read.

        OpenCV crashes if a capture is released while another thread reads.
        """
        with self._news:
            self._closed, reading = True, self._reading
        if reading:
            self._thread.join(_CLOSE_S)
        else:
            self._camera.close()

    def describe(self) -> str:
        """Returns what the source is; never a password."""
        return self._camera.describe()


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
        shown = file_name(name)
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
