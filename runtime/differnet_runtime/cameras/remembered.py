"""What is known of the pictures of a folder or a video while they are read."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ..errors import ImageReadError
from ..records import Origin


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


def printable(name: str) -> str:
    r"""Returns a file's name as text that any program can write; different names stay different.

    Bytes that are not UTF-8 become `\xe4`, and the backslash of a name that has a `\x` in it
    becomes `\x5c`.
    """
    return os.fsencode(name).replace(b"\\x", b"\\x5cx").decode("utf-8", "backslashreplace")


def key_of(name: str, stat: os.stat_result) -> str:
    """Returns the key of a file; see `records.Origin`."""
    return f"{printable(name)}|{stat.st_size}|{stat.st_mtime_ns}"
