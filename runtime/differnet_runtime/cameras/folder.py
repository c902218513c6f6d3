"""A folder that other programs put pictures into: each is given once, when it is complete.

When a picture in a folder is complete, as far as that can be told without reading it.

What becomes of a folder's pictures once they are judged: moved, deleted, or left.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import stat as stat_
import time
from collections import deque
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..config.models import AfterVerdict, PixelFormat
from ..errors import CameraError, ImageReadError
from ..files import SUFFIXES
from ..images import decode_image, read_bytes
from ..records import Frame, Image, Origin
from ..text import file_name
from .base import Camera, convert
from .files import Remembered, UnreadablePictureError, key_of
from .looking import FolderScan, Listing, Notices, is_picture

SETTLE_S = 0.1
"""After its writer has closed it: a copying program may set the file's time afterwards."""
QUIET_S = 3.0
"""Without word of its writer, a file counts as complete once it has not changed for so long."""
OPEN_S = 60.0
"""The same for a file that its writer still holds open."""
_DOUBT_S, _MOST_DOUBT_S, _DOUBT_FACTOR = 3.0, 60.0, 3.0
"""A picture that can't be decoded is read again once it has not changed for so long, and for so
many times what it waited for before."""

log = logging.getLogger(__name__)


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
    """The pictures that have come and are not known to be complete; times are monotonic."""

    def __init__(self) -> None:
        self._found: dict[str, _Arrival] = {}
        self._given_up: dict[str, str] = {}
        self._doubt_s = _DOUBT_S

    def __len__(self) -> int:
        return len(self._found)

    def see(self, name: str, key: str, stamp: int, now_s: float, *, age_s: float = 0.0) -> None:
        """Takes the state of a file.

        Args:
            name: Of the file.
            key: Tells its states apart.
            stamp: Its modification time in ns.
            now_s: The time.
            age_s: How long it has been as it is already, where that is known.
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
        """Returns the key that a file was last seen with; None where none of that name waits."""
        arrival = self._found.get(name)
        return None if arrival is None else arrival.key

    def _learn(self, name: str, key: str) -> None:
        """Waits longer from now on where a picture was given up as damaged, and then changed."""
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
        """Notes that a writer has created a file, and is to close it."""
        if name in self._found:
            self._found[name].begun = True

    def complete(self, name: str, now_s: float) -> None:
        """Notes that the writer has closed a file, or that it was moved in."""
        if name in self._found:
            arrival = self._found[name]
            arrival.closed, arrival.begun = True, False
            arrival.doubted = arrival.queued = False
            arrival.since_s = now_s

    def drop(self, name: str) -> None:
        """Forgets a file that was read."""
        self._found.pop(name, None)

    def keep(self, names: Container[str]) -> None:
        """Forgets all files but these: the others are gone."""
        for name in [name for name in self._found if name not in names]:
            del self._found[name]
        for name in [name for name in self._given_up if name not in names]:
            del self._given_up[name]

    def due(self, now_s: float) -> list[str]:
        """Returns the files that have waited long enough, the oldest first, each once.

        One that turns out to have changed is to be seen again, and then waits again.
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
        """Says that a file that was due can't be decoded.

        Returns:
            Whether it is waited for once more; else it is damaged for good.
        """
        arrival = self._found[name]
        if arrival.doubted:
            self._given_up[name] = arrival.key
            return False
        arrival.doubted, arrival.queued, arrival.since_s = True, False, now_s
        return True


JUDGED = "judged"
"""The subfolder that pictures are moved into."""


class Leaving:
    """Moves or deletes pictures; what that fails for is said once, until it works again.

    Args:
        folder: Of the pictures.
        after: What becomes of them.
    """

    def __init__(self, folder: Path, after: AfterVerdict) -> None:
        self._folder, self._after = folder, after
        self._failed = False

    def leave(self, name: str) -> bool:
        """Moves or deletes a picture that is there; returns whether it has left."""
        path = self._folder / name
        try:
            if self._after == "delete":
                path.unlink()
            else:
                path.rename(self._free(name))
        except FileNotFoundError:
            return True  # somebody else took it
        except OSError as error:
            if not self._failed:
                log.warning(
                    "%s: judged, but can't be %sd (%s), nor perhaps can others: it stays, and is "
                    "not judged again. Give the station the right to write there.",
                    path,
                    self._after,
                    error.strerror or error,
                )
            self._failed = True
            return False
        self._failed = False
        return True

    def _free(self, name: str) -> Path:
        """Returns a path in the subfolder where no picture lies."""
        judged = self._folder / JUDGED
        judged.mkdir(exist_ok=True)
        return next(path for path in _paths(judged / name) if not path.exists())


def _paths(path: Path) -> Iterator[Path]:
    yield path
    for number in itertools.count(2):
        yield path.with_name(f"{path.stem}-{number}{path.suffix}")


POLL_S = 0.05
_LEAVE_AT_ONCE = 100


class WatchedFolder(Camera):
    """Gives each picture of a folder once, the present ones first, by time and name.

    The kernel tells of pictures that are closed by their writer or moved in; a look from time to
    time finds those that another machine puts on a share. One that can't be decoded is waited for
    once more; then it is an error.

    Args:
        source: The folder, or one picture.
        pixels: How grey pixels are read.
        seen: What was read already.
        after: What becomes of a picture once its verdict is on disk.

    Raises:
        CameraError: The folder can't be listed.
    """

    live = False

    def __init__(
        self, source: Path, pixels: PixelFormat, seen: Remembered, after: AfterVerdict = "keep"
    ) -> None:
        self._source, self._pixels, self._seen = source, pixels, seen
        single = source.suffix.lower() in SUFFIXES and not source.is_dir()
        self._folder = source.parent if single else source
        self._only = source.name if single else None
        self._leaving = None if after == "keep" else Leaving(self._folder, after)
        self._arrivals = Arrivals()
        self._ready: deque[str] = deque()
        self._known: dict[str, str] = {}
        self._names: dict[str, str] = {}
        """By key, the reverse of the one above."""
        self._looks = FolderScan(self._folder, self._only, self._known_key)
        self._notices: Notices | None = None
        self._place: tuple[int, int] | None = None
        self._index = 0
        try:
            self._attend()
        except CameraError:
            self.close()
            raise

    def read(self) -> Frame | None:
        """Waits for the next picture; see `Camera.read`."""
        while True:
            self._attend()
            while self._ready:
                frame = self._read(self._ready.popleft())
                if frame is not None:
                    return frame
            self._seen.pause(POLL_S)

    def _attend(self) -> None:
        """Takes in whatever has happened since the last time."""
        if self._notices is None and self._folder.is_dir():
            self._watch()  # before the look, so that nothing comes unseen between the two
        self._take_notices()
        listing = self._looks.look()
        if listing is not None:
            self._compare(listing)
        for name in self._arrivals.due(time.monotonic()):
            self._ready.append(name)
        self._leave()

    def _watch(self) -> None:
        if self._notices is not None:
            self._notices.close()
        self._notices = Notices(self._folder)

    def _take_notices(self) -> None:
        for name, kind in self._notices.taken() if self._notices is not None else ():
            if not is_picture(name) or self._only not in (None, name):
                continue
            stat = self._stat(name)
            if stat is None or key_of(name, stat) in self._seen.keys:
                continue
            now_s = time.monotonic()
            self._see(name, stat)
            if kind == "complete" or self._is_link(name, stat):
                self._arrivals.complete(name, now_s)
            else:
                self._arrivals.begin(name)

    def _is_link(self, name: str, stat: os.stat_result) -> bool:
        """Whether a file that was created is a link to another, which nobody is to close."""
        return stat.st_nlink > 1 or (self._folder / name).is_symlink()

    def _stat(self, name: str) -> os.stat_result | None:
        try:
            stat = (self._folder / name).stat()
        except OSError:
            return None
        return stat if stat_.S_ISREG(stat.st_mode) else None

    def _see(self, name: str, stat: os.stat_result) -> None:
        self._arrivals.see(name, key_of(name, stat), stat.st_mtime_ns, time.monotonic())

    def _known_key(self, name: str) -> str | None:
        return self._known.get(name) or self._arrivals.key(name)

    def _compare(self, listing: Listing) -> None:
        """Takes what a look has found."""
        if listing.place != self._place and self._place is not None:
            self._watch()  # another folder lies there now
        self._place = listing.place
        now_s, wall_ns = time.monotonic(), time.time_ns()
        for name, (stamp, key) in listing.found.items():
            if key in self._seen.keys:
                if self._known.get(name) != key:
                    self._know(name, key)
            elif self._arrivals.key(name) != key:
                age_s = max(0.0, (wall_ns - stamp) / 1e9) if listing.first else 0.0
                self._arrivals.see(name, key, stamp, now_s, age_s=age_s)
        self._arrivals.keep(listing.found)
        if listing.trusted:
            self._prune({key for _, key in listing.found.values()})

    def _know(self, name: str, key: str) -> None:
        self._seen.keys.add(key)
        self._arrivals.drop(name)
        self._names.pop(self._known.get(name, ""), None)
        self._known[name], self._names[key] = key, name

    def _prune(self, present: set[str]) -> None:
        gone = self._seen.keys - present
        if gone:
            for key in gone:
                self._known.pop(self._names.pop(key, ""), None)
            self._seen.forget(gone)

    def _read(self, name: str) -> Frame | None:
        """Reads a picture that seems to be complete; None if it is not, or is gone."""
        stat = self._stat(name)
        if stat is None:
            self._arrivals.drop(name)
            return None
        key, expected = key_of(name, stat), self._arrivals.key(name)
        if key in self._seen.keys or expected is None:
            self._arrivals.drop(name)
            return None
        if key != expected:
            self._see(name, stat)
            return None
        shown, digest = file_name(name), ""
        self._seen.trying(shown, key)
        try:
            data = read_bytes(self._folder / name)
            digest = hashlib.blake2b(data, digest_size=16).hexdigest()
            image = self._decoded(data, shown)
        except ImageReadError as error:
            if self._waits_for(name, key):
                return None
            self._know(name, key)
            self._index += 1
            raise UnreadablePictureError(error.cause, Origin(shown, key, digest)) from error
        after = self._stat(name)
        if after is not None and key_of(name, after) != key:  # it was written to meanwhile
            self._seen.later(key)
            self._see(name, after)
            return None
        self._know(name, key)
        index, self._index = self._index, self._index + 1
        return Frame(
            image,
            shown,
            index,
            time.monotonic_ns(),
            time.time(),
            origin=Origin(shown, key, digest),
            waiting=len(self._arrivals),
        )

    def _decoded(self, data: bytes, name: str) -> Image:
        try:
            return convert(decode_image(data, name), self._pixels)
        except CameraError as error:
            raise ImageReadError(name, str(error)) from error

    def _waits_for(self, name: str, key: str) -> bool:
        """Whether a picture that can't be decoded is gone, or is to be looked at once more."""
        stat = self._stat(name)
        if stat is None:
            self._arrivals.drop(name)
        elif key_of(name, stat) != key:
            self._see(name, stat)
        elif not self._arrivals.doubt(name, time.monotonic()):
            return False
        self._seen.later(key)
        return True

    def _leave(self) -> None:
        """Moves or deletes pictures whose verdict is on disk, if they still are the same."""
        settled = self._seen.settled
        if self._leaving is None:
            settled.clear()
            return
        for _ in range(min(_LEAVE_AT_ONCE, len(settled))):
            key = settled.popleft()
            name = self._names.get(key)
            stat = None if name is None else self._stat(name)
            if name is None or stat is None or key_of(name, stat) != key:
                continue
            if self._leaving.leave(name):
                del self._known[name], self._names[key]
                self._seen.forget((key,))

    def close(self) -> None:
        """Ends the notices; no file stays open between reads."""
        if self._notices is not None:
            self._notices.close()

    def describe(self) -> str:
        """Returns the folder."""
        return str(self._source)
