"""A folder that other programs put pictures into: each is given once, when it is complete."""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import stat as stat_
import time
from collections import deque
from pathlib import Path

from ..config.models import AfterVerdict, PixelFormat
from ..errors import CameraError, ImageReadError
from ..files import SUFFIXES
from ..images import decode_image, read_bytes
from ..records import Frame, Origin
from ..text import file_name
from .arrivals import Arrivals, FolderScan, Listing, Notices, is_picture
from .base import Camera, convert
from .files import Remembered, UnreadablePictureError, key_of

JUDGED = "judged"
"""The subfolder that pictures are moved into."""
_POLL_S = 0.05
_LEAVE_AT_ONCE = 100

log = logging.getLogger(__name__)


class WatchedFolder(Camera):
    """Gives each picture of a folder once, present ones first, by time and name.

    The kernel reports pictures that their writer closed or moved in; listing the folder finds those
    that another machine puts on a share. A picture that can't be decoded is waited for once more;
    then it is an error.

    Args:
        source: The folder, or a single picture.
        pixels: Whether grey pixels are grey (`mono`) or a Bayer pattern (`bayer_rggb`, ...).
        seen: The pictures that were read already.
        after: Whether a picture is kept, moved or deleted once its verdict is on disk.

    Raises:
        CameraError: The folder can't be listed.

    Example:
        >>> folder = WatchedFolder(Path("/var/parts"), "auto", Remembered(), after="move")
    """

    live = False

    def __init__(
        self, source: Path, pixels: PixelFormat, seen: Remembered, after: AfterVerdict = "keep"
    ) -> None:
        self.source, self._pixels, self._seen = str(source), pixels, seen
        single = source.suffix.lower() in SUFFIXES and not source.is_dir()
        self._folder = source.parent if single else source
        self._only = source.name if single else None
        self._mover = None if after == "keep" else PictureMover(self._folder, after)
        self._arrivals = Arrivals()
        self._ready: deque[str] = deque()
        self._known: dict[str, str] = {}
        self._names: dict[str, str] = {}
        """File names by key; the reverse of `_known`."""
        self._scan = FolderScan(self._folder, self._only, self._key)
        self._notices: Notices | None = None
        self._place: tuple[int, int] | None = None
        try:
            self._update()
        except CameraError:
            self.close()
            raise

    def read(self) -> Frame | None:
        """Waits for the next picture; see `Camera.read`."""
        while True:
            self._update()
            while self._ready:
                frame = self._read(self._ready.popleft())
                if frame is not None:
                    return frame
            self._seen.pause(_POLL_S)

    def _update(self) -> None:
        """Takes in what has happened in the folder since the last call."""
        if self._notices is None and self._folder.is_dir():
            self._watch()  # before the listing, so that nothing arrives unseen between the two
        self._take_notices()
        if (listing := self._scan.look()) is not None:
            self._compare(listing)
        self._ready.extend(self._arrivals.due(time.monotonic()))
        self._remove_settled()

    def _watch(self) -> None:
        if self._notices is not None:
            self._notices.close()
        self._notices = Notices(self._folder)

    def _take_notices(self) -> None:
        for name, kind in self._notices.take() if self._notices is not None else ():
            if not is_picture(name) or self._only not in (None, name):
                continue
            stat = self._stat(name)
            if stat is None or key_of(name, stat) in self._seen.keys:
                continue
            self._see(name, stat)
            # Nobody will close a link to another file.
            is_link = stat.st_nlink > 1 or (self._folder / name).is_symlink()
            if kind == "complete" or is_link:
                self._arrivals.complete(name, time.monotonic())
            else:
                self._arrivals.begin(name)

    def _stat(self, name: str) -> os.stat_result | None:
        try:
            stat = (self._folder / name).stat()
        except OSError:
            return None
        return stat if stat_.S_ISREG(stat.st_mode) else None

    def _see(self, name: str, stat: os.stat_result) -> None:
        self._arrivals.see(name, key_of(name, stat), stat.st_mtime_ns, time.monotonic())

    def _key(self, name: str) -> str | None:
        return self._known.get(name) or self._arrivals.key(name)

    def _compare(self, listing: Listing) -> None:
        """Compares a listing with the pictures that are known."""
        if listing.place != self._place and self._place is not None:
            self._watch()  # another folder has taken its place
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
            gone = self._seen.keys - {key for _, key in listing.found.values()}
            for key in gone:
                self._known.pop(self._names.pop(key, ""), None)
            self._seen.forget(gone)

    def _know(self, name: str, key: str) -> None:
        self._seen.keys.add(key)
        self._arrivals.drop(name)
        self._names.pop(self._known.get(name, ""), None)
        self._known[name], self._names[key] = key, name

    def _read(self, name: str) -> Frame | None:
        """Reads a picture that seems complete; returns None if it is not, or no longer exists."""
        stat, expected = self._stat(name), self._arrivals.key(name)
        if stat is None or expected is None or (key := key_of(name, stat)) in self._seen.keys:
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
            image = convert(decode_image(data, shown), self._pixels)
        except (ImageReadError, CameraError) as error:
            if self._waits_for(name, key):
                return None
            self._know(name, key)
            self._index += 1
            cause = error.cause if isinstance(error, ImageReadError) else str(error)
            raise UnreadablePictureError(cause, Origin(shown, key, digest)) from error
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

    def _waits_for(self, name: str, key: str) -> bool:
        """Returns whether a picture that can't be decoded is gone, or will be read once more."""
        stat = self._stat(name)
        if stat is None:
            self._arrivals.drop(name)
        elif key_of(name, stat) != key:
            self._see(name, stat)
        elif not self._arrivals.doubt(name, time.monotonic()):
            return False
        self._seen.later(key)
        return True

    def _remove_settled(self) -> None:
        """Moves or deletes pictures whose verdict is on disk, unless they have changed."""
        settled, mover = self._seen.settled, self._mover
        if mover is None:
            settled.clear()
            return
        for _ in range(min(_LEAVE_AT_ONCE, len(settled))):
            key = settled.popleft()
            name = self._names.get(key)
            stat = self._stat(name) if name else None
            if name and stat and key_of(name, stat) == key and mover.remove(name):
                del self._known[name], self._names[key]
                self._seen.forget((key,))

    def close(self) -> None:
        """Stops watching the folder; no file stays open between reads."""
        if self._notices is not None:
            self._notices.close()


class PictureMover:
    """Moves or deletes judged pictures; warns once of a failure, until it works again.

    Args:
        folder: The folder of the pictures.
        after: Whether pictures are moved (`move`) or deleted (`delete`).
    """

    def __init__(self, folder: Path, after: AfterVerdict) -> None:
        self._folder, self._after = folder, after
        self._failed = False

    def remove(self, name: str) -> bool:
        """Moves or deletes a picture; returns whether it has left the folder."""
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
        """Returns a path in the subfolder that no picture has."""
        path = self._folder / JUDGED / name
        path.parent.mkdir(exist_ok=True)
        numbered = (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(2))
        return next(one for one in itertools.chain([path], numbered) if not one.exists())
