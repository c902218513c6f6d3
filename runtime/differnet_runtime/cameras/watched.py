"""A folder that other programs put pictures into, looked at again and again.

Polling works on network shares too, where the kernel sees no changes that others make.
"""

from __future__ import annotations

import os
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from ..config.models import PixelFormat
from ..errors import CameraError, ImageReadError
from ..images import SUFFIXES, read_image
from ..records import Frame
from .base import Camera
from .pixels import converted

if TYPE_CHECKING:
    from .sources import Remembered

POLL_S = 0.1
_GROWN_AFTER_S = 1.0
"""A picture that can't be decoded is looked at again after so long: a slow writer may pause."""


class WatchedFolder(Camera):
    """Gives each picture of a folder once, the present ones first, by time and name.

    A picture is taken once its size and time stood still between two looks, and it decodes; one
    that does not, and stands still for another second, is an error.

    Args:
        folder: The folder, or one picture.
        pixels: How grey pixels are read.
        seen: What was read already.

    Raises:
        CameraError: The folder can't be listed.
    """

    live = False

    def __init__(self, folder: Path, pixels: PixelFormat, seen: Remembered) -> None:
        self._folder, self._pixels, self._seen = folder, pixels, seen
        self._last_look: dict[str, str] = {}
        self._ready: deque[tuple[str, str]] = deque()
        self._doubtful: dict[str, float] = {}
        self._index = 0
        self._device: int | None = None
        self._look()

    def read(self) -> Frame | None:
        """Waits for the next picture; see `Camera.read`."""
        while True:
            while self._ready:
                frame = self._read(*self._ready.popleft())
                if frame is not None:
                    return frame
            time.sleep(POLL_S)
            self._look()

    def _read(self, name: str, key: str) -> Frame | None:
        path = self._folder / name if self._folder.is_dir() else self._folder
        self._seen.trying(_printable(name), key)
        try:
            image = converted(read_image(path), self._pixels)
        except ImageReadError as error:
            if not path.exists():
                self._forget(key)
                return None
            if self._may_grow(key):
                return None
            self._seen.keys.add(key)
            self._index += 1
            raise ImageReadError(_printable(name), error.cause) from error
        except CameraError as error:
            self._seen.keys.add(key)
            raise ImageReadError(_printable(name), str(error)) from error
        self._seen.keys.add(key)
        self._doubtful.pop(key, None)
        index, self._index = self._index, self._index + 1
        return Frame(image, _printable(name), index, time.monotonic_ns(), time.time())

    def _may_grow(self, key: str) -> bool:
        """Whether a picture that can't be decoded is to be looked at once more."""
        now = time.monotonic()
        since = self._doubtful.setdefault(key, now)
        if now - since < _GROWN_AFTER_S:
            self._forget(key)
            return True
        del self._doubtful[key]
        return False

    def _forget(self, key: str) -> None:
        self._seen.keys.discard(key)
        self._seen.gone((key,))

    def _look(self) -> None:
        found = self._list()
        still = [
            (stamp, name, key)
            for name, (stamp, key) in found.items()
            if self._last_look.get(name) == key and key not in self._seen.keys
        ]
        waiting = {name for name, _ in self._ready}
        self._ready.extend((name, key) for _, name, key in sorted(still) if name not in waiting)
        self._last_look = {name: key for name, (_, key) in found.items()}
        if self._same_share(bool(found)):
            self._prune(set(self._last_look.values()))

    def _same_share(self, holds_pictures: bool) -> bool:
        """Whether what is missing was removed, and not unmounted together with its share."""
        try:
            device = self._folder.stat().st_dev
        except OSError:
            return False
        same = self._device in (None, device)
        if same or holds_pictures:
            self._device = device
        return same

    def _prune(self, present: set[str]) -> None:
        gone = self._seen.keys - present
        if gone:
            self._seen.keys -= gone
            ordered = sorted(gone)
            for at in range(0, len(ordered), 100):
                self._seen.gone(tuple(ordered[at : at + 100]))
        self._doubtful = {key: at for key, at in self._doubtful.items() if key in present}

    def _list(self) -> dict[str, tuple[int, str]]:
        """Returns each picture's time and key, which tells its states apart, by name."""
        found: dict[str, tuple[int, str]] = {}
        try:
            if self._folder.is_file():
                stat = self._folder.stat()
                name = self._folder.name
                return {name: (stat.st_mtime_ns, _key(name, stat))}
            with os.scandir(self._folder) as entries:
                for entry in entries:
                    if _is_picture(entry.name):
                        there = _stat(entry)
                        if there is not None:
                            found[entry.name] = (there.st_mtime_ns, _key(entry.name, there))
        except OSError as error:
            raise CameraError(
                f"{self._folder}: {error.strerror or error}. Look whether it is there, mounted, "
                "and may be read."
            ) from error
        return found

    def close(self) -> None:
        """Does nothing: no file stays open between reads."""

    def describe(self) -> str:
        """Returns the folder."""
        return str(self._folder)


def _is_picture(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES


def _stat(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return entry.stat() if entry.is_file() else None
    except OSError:  # it vanished after it was listed
        return None


def _key(name: str, stat: os.stat_result) -> str:
    return f"{_printable(name)}|{stat.st_size}|{stat.st_mtime_ns}"


def _printable(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "replace")
