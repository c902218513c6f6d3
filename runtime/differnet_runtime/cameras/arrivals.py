"""Pictures that arrive in a folder: noticed by the kernel, found by listing, and known complete."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Container
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..errors import CameraError
from ..files import SUFFIXES
from ..sentences import sentence
from .files import key_of

if TYPE_CHECKING:
    from watchdog.events import FileSystemEvent

SETTLE_S = 0.1
"""Wait after a writer has closed a file: a copying program may set its time afterwards."""
QUIET_S = 3.0
"""Without notice of its writer, a file counts as complete if it has not changed for so long."""
OPEN_S = 60.0
"""The same for a file that its writer still holds open."""
_DOUBT_S, _MOST_DOUBT_S, _DOUBT_FACTOR = 3.0, 60.0, 3.0
"""A picture that can't be decoded is read again once it has not changed for this time, and for this
multiple of what it waited for before."""

log = logging.getLogger(__name__)


def is_picture(name: str) -> bool:
    """Returns whether a file's name is that of a picture; hidden files are still being written."""
    return not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES


Kind = Literal["begun", "complete"]
"""A file was created and is being written; or was closed by its writer, or moved in."""


class Notices:
    """Collects the kernel's notices of files in a folder; none where `watchdog` can't work.

    They cover what this machine does, but not what another machine writes to a share.

    Args:
        folder: The folder, which must exist.

    Example:
        >>> notices = Notices(Path("/var/parts"))
        >>> for name, kind in notices.take():
        ...     print(name, kind)
    """

    def __init__(self, folder: Path) -> None:
        self._waiting: deque[tuple[str, Kind]] = deque()
        self._close = contextlib.ExitStack()
        try:
            self._watch(folder)
        except ImportError:
            why = "the package watchdog is not installed"
        except OSError as error:
            used_up = error.errno in (errno.ENOSPC, errno.EMFILE)
            hint = "; raise fs.inotify.max_user_watches" if used_up else ""
            why = f"{error.strerror or error}{hint}"
        else:
            return
        log.warning(
            "%s: the kernel gives no notice of new pictures (%s). They are found by looking, and "
            "wait longer until they count as complete.",
            folder,
            why,
        )

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
        """Adds a notice; called by watchdog's thread."""
        path = event.dest_path if event.event_type == "moved" else event.src_path
        if path and not event.is_directory:
            kind: Kind = "begun" if event.event_type == "created" else "complete"
            self._waiting.append((Path(os.fsdecode(path)).name, kind))

    def take(self) -> list[tuple[str, Kind]]:
        """Returns the notices since the last call, as file name and kind, in order."""
        return [self._waiting.popleft() for _ in range(len(self._waiting))]

    def close(self) -> None:
        """Stops watching the folder."""
        self._close.close()


_QUICK_S, _FULL_S = 0.5, 2.0
_SHARE_OF_CORE = 0.02
_WALL_FACTOR = 2.0
"""After a listing that took long, as on a share, the next one waits this multiple of its time."""


@dataclass(frozen=True)
class Listing:
    """The pictures that a listing has found.

    Args:
        found: Modification time in ns and key of each picture, by its file name.
        first: Whether it is the first listing.
        trusted: Whether a missing picture was removed, and not unmounted together with its share.
        place: Device and inode of the folder.
    """

    found: dict[str, tuple[int, str]]
    first: bool
    trusted: bool
    place: tuple[int, int]


class FolderScan:
    """Lists a folder again and again: often whether files came or went, seldom each file's state.

    The folder's own time shows files that come and go, but not one that is rewritten in place.
    Listing takes 2 % of a core at most, however many pictures there are.

    Args:
        folder: The folder of the pictures.
        only: Name of the only picture that counts; None for all.
        known: Returns the key of a picture whose state need not be read each time, else None.

    Example:
        >>> scan = FolderScan(Path("/var/parts"), None, lambda name: None)
        >>> listing = scan.look()
    """

    def __init__(self, folder: Path, only: str | None, known: Callable[[str], str | None]) -> None:
        self._folder, self._only, self._known = folder, only, known
        self._next_s = self._next_full_s = 0.0
        self._changed_ns = -1
        self._again = self._first = True
        self._place: tuple[int, int] | None = None
        self._device: int | None = None

    def look(self) -> Listing | None:
        """Lists the folder; returns None if it is too soon, or nothing came or went.

        Raises:
            CameraError: The folder can't be listed.
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
        same = self._device == stat.st_dev or (self._device is None and bool(found))
        if same or found:
            self._device = stat.st_dev
        return Listing(found, first, same, place)

    def _list(self, full: bool) -> dict[str, tuple[int, str]]:
        if self._only is not None:
            return {self._only: _state(self._only, (self._folder / self._only).stat())}
        found: dict[str, tuple[int, str]] = {}
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if not is_picture(entry.name):
                    continue
                key = None if full else self._known(entry.name)
                if key is not None:
                    found[entry.name] = (0, key)
                    continue
                with contextlib.suppress(OSError):  # it vanished after it was listed
                    if entry.is_file():
                        found[entry.name] = _state(entry.name, entry.stat())
        return found


def _state(name: str, stat: os.stat_result) -> tuple[int, str]:
    return stat.st_mtime_ns, key_of(name, stat)


@dataclass
class _Arrival:
    key: str
    stamp: int
    since_s: float
    closed: bool = False
    begun: bool = False
    doubted: bool = False
    queued: bool = False


class Arrivals:
    """The pictures that have arrived and are not known to be complete; all times are monotonic.

    Example:
        >>> arrivals = Arrivals()
        >>> arrivals.see("a.png", key, stamp, now_s=time.monotonic())
        >>> names = arrivals.due(time.monotonic())
    """

    def __init__(self) -> None:
        self._found: dict[str, _Arrival] = {}
        self._given_up: dict[str, str] = {}
        self._doubt_s = _DOUBT_S

    def __len__(self) -> int:
        return len(self._found)

    def see(self, name: str, key: str, stamp: int, now_s: float, *, age_s: float = 0.0) -> None:
        """Notes the state of a file.

        Args:
            name: Name of the file, without its folder.
            key: Its key, which tells its states apart.
            stamp: Its modification time in ns.
            now_s: The current time, monotonic.
            age_s: For how many seconds it has been in this state, if that is known.
        """
        arrival = self._found.get(name)
        if arrival is None:
            self._learn(name, key)
            self._found[name] = _Arrival(key, stamp, now_s - age_s)
        elif arrival.key != key:
            # A time that goes back was set, by a program that copies it with the file.
            arrival.closed = arrival.closed and stamp < arrival.stamp
            arrival.key, arrival.stamp, arrival.since_s = key, stamp, now_s
            arrival.doubted = arrival.queued = False

    def key(self, name: str) -> str | None:
        """Returns the key that a file was last seen with; None if no file of that name waits."""
        arrival = self._found.get(name)
        return None if arrival is None else arrival.key

    def _learn(self, name: str, key: str) -> None:
        """Waits longer from now on if a picture changed after it was given up as damaged."""
        given_up = self._given_up.pop(name, key)
        if given_up != key and self._doubt_s < _MOST_DOUBT_S:
            self._doubt_s = min(_MOST_DOUBT_S, 2 * self._doubt_s)
            log.warning(
                "%s has changed after it was given up as damaged: from now on an incomplete "
                "picture is waited for until it has not changed for %g s. Have pictures written "
                "under another name and renamed when they are complete.",
                name,
                self._doubt_s,
            )

    def begin(self, name: str) -> None:
        """Notes that a writer has created a file, and will close it."""
        if name in self._found:
            self._found[name].begun = True

    def complete(self, name: str, now_s: float) -> None:
        """Notes that the writer has closed a file, or that it was moved in."""
        if (arrival := self._found.get(name)) is not None:
            arrival.closed, arrival.begun = True, False
            arrival.doubted = arrival.queued = False
            arrival.since_s = now_s

    def drop(self, name: str) -> None:
        """Forgets a file that was read."""
        self._found.pop(name, None)

    def keep(self, names: Container[str]) -> None:
        """Forgets all files but these: the others no longer exist."""
        self._found = {name: one for name, one in self._found.items() if name in names}
        self._given_up = {name: key for name, key in self._given_up.items() if name in names}

    def due(self, now_s: float) -> list[str]:
        """Returns the files that have waited long enough, oldest first, each once.

        A file that turns out to have changed must be seen again, and then waits again.
        """
        due = [
            (arrival.stamp, name)
            for name, arrival in self._found.items()
            if not arrival.queued and now_s - arrival.since_s >= self._wait_s(arrival)
        ]
        for _, name in due:
            self._found[name].queued = True
        return [name for _, name in sorted(due)]

    def _wait_s(self, arrival: _Arrival) -> float:
        usual_s = SETTLE_S if arrival.closed else OPEN_S if arrival.begun else QUIET_S
        return max(self._doubt_s, _DOUBT_FACTOR * usual_s) if arrival.doubted else usual_s

    def doubt(self, name: str, now_s: float) -> bool:
        """Notes that a file that was due can't be decoded.

        Returns:
            Whether it is waited for once more; otherwise it is damaged for good.
        """
        arrival = self._found[name]
        if arrival.doubted:
            self._given_up[name] = arrival.key
            return False
        arrival.doubted, arrival.queued, arrival.since_s = True, False, now_s
        return True
