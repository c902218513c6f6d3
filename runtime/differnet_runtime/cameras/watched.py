"""A folder that other programs put pictures into: each is given once, when it is complete."""

from __future__ import annotations

import hashlib
import os
import stat as stat_
import time
from collections import deque
from pathlib import Path

from ..config.models import AfterVerdict, PixelFormat
from ..errors import CameraError, ImageReadError
from ..images import SUFFIXES, decode_image, read_bytes
from ..records import Frame, Image, Origin
from .arrivals import Arrivals
from .base import Camera
from .leaving import Leaving
from .looking import Listing, Looks, is_picture
from .notices import Notices
from .pixels import converted
from .remembered import Remembered, UnreadablePictureError, key_of, printable

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
        self._looks = Looks(self._folder, self._only, self._known_key)
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
        shown, digest = printable(name), ""
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
            return converted(decode_image(data, name), self._pixels)
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
