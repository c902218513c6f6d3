"""A folder listed again and again, as often as that costs little.

The kernel's notices of files that come into a folder, where `watchdog` is installed.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..errors import CameraError
from ..files import SUFFIXES
from ..sentences import sentence
from .files import key_of

if TYPE_CHECKING:
    from watchdog.events import FileSystemEvent


Kind = Literal["begun", "complete"]
"""A file was created, and is being written; or was closed by its writer, or moved in."""

_USED_UP = (errno.ENOSPC, errno.EMFILE)

log = logging.getLogger(__name__)


class Notices:
    """Collects notices of one folder; without `watchdog`, or where it can't work, there are none.

    They tell of what this machine does. What another machine writes to a share is not among them.

    Args:
        folder: Is there.
    """

    def __init__(self, folder: Path) -> None:
        self._waiting: deque[tuple[str, Kind]] = deque()
        self._close = contextlib.ExitStack()
        self.works = False
        """Whether the kernel tells of this folder."""
        try:
            self._watch(folder)
            self.works = True
        except ImportError:
            _say(folder, "the package watchdog is not installed")
        except OSError as error:
            hint = "; raise fs.inotify.max_user_watches" if error.errno in _USED_UP else ""
            _say(folder, f"{error.strerror or error}{hint}")

    def _watch(self, folder: Path) -> None:
        from watchdog.events import FileClosedEvent, FileCreatedEvent, FileMovedEvent
        from watchdog.observers.inotify import InotifyObserver

        observer = InotifyObserver(generate_full_events=True)
        observer.schedule(
            self,  # type: ignore[arg-type]  # it only calls `dispatch`
            str(folder),
            event_filter=[FileClosedEvent, FileCreatedEvent, FileMovedEvent],
        )
        observer.start()
        self._close.callback(observer.stop)

    def dispatch(self, event: FileSystemEvent) -> None:
        """Takes a notice; called by watchdog's thread."""
        if event.is_directory:
            return
        if event.event_type == "moved":
            if event.dest_path:
                self._waiting.append((_name(event.dest_path), "complete"))
        else:
            kind: Kind = "complete" if event.event_type == "closed" else "begun"
            self._waiting.append((_name(event.src_path), kind))

    def taken(self) -> list[tuple[str, Kind]]:
        """Returns the notices since the last call, as file name and kind, in order."""
        return [self._waiting.popleft() for _ in range(len(self._waiting))]

    def close(self) -> None:
        """Ends them."""
        self._close.close()


def _say(folder: Path, why: str) -> None:
    log.warning(
        "%s: the kernel gives no notice of new pictures (%s). They are found by looking, and wait "
        "longer until they count as complete.",
        folder,
        why,
    )


def _name(path: bytes | str) -> str:
    return Path(os.fsdecode(path)).name


_QUICK_S, _FULL_S = 0.5, 2.0
_SHARE_OF_CORE = 0.02
_WALL_FACTOR = 2.0
"""A listing that took long, as on a share, is followed by a rest of so many times as long."""


@dataclass(frozen=True)
class Listing:
    """What a look has found.

    Args:
        found: Modification time in ns and key of each picture, by its file's name.
        first: Whether it is the first look.
        trusted: Whether what is missing was removed, and not unmounted together with its share.
        place: Device and inode of the folder.
    """

    found: dict[str, tuple[int, str]]
    first: bool
    trusted: bool
    place: tuple[int, int]


class FolderScan:
    """Looks at a folder: often whether files came or went, and seldom at the state of each.

    A folder's own time tells of files that come and go, not of one that is written anew in its
    place. Looking takes 2 % of a core at most, however many pictures there are.

    Args:
        folder: Of the pictures.
        only: The name of the only picture that counts; None for all.
        known: Gives the key of a picture that need not be looked at again each time.
    """

    def __init__(self, folder: Path, only: str | None, known: Callable[[str], str | None]) -> None:
        self._folder, self._only, self._known = folder, only, known
        self._next_s = self._next_full_s = 0.0
        self._changed_ns = -1
        self._again = self._first = True
        self._place: tuple[int, int] | None = None
        self._device: int | None = None

    def look(self) -> Listing | None:
        """Looks at the folder; None where it is too soon, or nothing came or went.

        Raises:
            CameraError: It can't be listed.
        """
        begun_s, begun_cpu_s = time.monotonic(), time.thread_time()
        if begun_s < self._next_s:
            return None
        try:
            listing = self._look(begun_s)
        except OSError as error:
            where = self._folder / (self._only or "")
            raise CameraError(
                sentence("folder_unreadable", folder=where, why=error.strerror or error)
            ) from error
        ended_s, cpu_s = time.monotonic(), time.thread_time() - begun_cpu_s
        rest_s = max(cpu_s / _SHARE_OF_CORE, _WALL_FACTOR * (ended_s - begun_s))
        self._next_s = ended_s + max(_QUICK_S, rest_s)
        if begun_s >= self._next_full_s:
            self._next_full_s = ended_s + max(_FULL_S, 2 * rest_s)
        return listing

    def _look(self, now_s: float) -> Listing | None:
        stat = self._folder.stat()
        place, full = (stat.st_dev, stat.st_ino), now_s >= self._next_full_s
        changed = stat.st_mtime_ns != self._changed_ns or place != self._place
        again, self._again = self._again, changed  # a second change may have the same time
        self._changed_ns, self._place = stat.st_mtime_ns, place
        if not (full or changed or again):
            return None
        found = self._list(full or self._first)
        first, self._first = self._first, False
        return Listing(found, first, self._same_share(stat.st_dev, bool(found)), place)

    def _list(self, full: bool) -> dict[str, tuple[int, str]]:
        if self._only is not None:
            file = self._folder / self._only
            return {self._only: _state(self._only, file.stat())}
        found: dict[str, tuple[int, str]] = {}
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if not is_picture(entry.name):
                    continue
                key = None if full else self._known(entry.name)
                if key is not None:
                    found[entry.name] = (0, key)
                elif (stat := _stat(entry)) is not None:
                    found[entry.name] = _state(entry.name, stat)
        return found

    def _same_share(self, device: int, holds_pictures: bool) -> bool:
        same = self._device == device or (self._device is None and holds_pictures)
        if same or holds_pictures:
            self._device = device
        return same


def is_picture(name: str) -> bool:
    """Whether a file's name is that of a picture; hidden ones are still being written."""
    return not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES


def _stat(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return entry.stat() if entry.is_file() else None
    except OSError:  # it vanished after it was listed
        return None


def _state(name: str, stat: os.stat_result) -> tuple[int, str]:
    return stat.st_mtime_ns, key_of(name, stat)
