"""What the daemon knows of the pictures of a folder or a video while capture processes come and go.

A new process gets it as a file: each key with a sign before it, `+` where the picture is settled.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections import Counter, deque
from collections.abc import Callable, Iterable

from ..cameras.files import AT_ONCE, Remembered
from .messages import Settled
from .shared_frames import create

_MOST_TRIES = 2
"""After so many processes that it ended, a picture is told as unreadable."""
_SETTLED, _READ = "+", "-"


class Pictures:
    """Kept by the thread that listens to the process; only `settle` is for any.

    Args:
        judged: Keys of pictures that were judged in an earlier life of the station.
        settled: Those among them that may be moved or deleted.
        gone: Called with the keys of pictures that are no longer there.
    """

    def __init__(
        self,
        judged: Iterable[str] = (),
        settled: Iterable[str] = (),
        gone: Callable[[tuple[str, ...]], None] = lambda _: None,
    ) -> None:
        self.seen: set[str] = set(judged)
        """Keys of pictures that were given, or are being read."""
        self._settled: set[str] = set(settled)
        self._gone = gone
        self._tries: Counter[str] = Counter()
        self._to_tell: deque[str] = deque()
        self._under_way = False

    def settle(self, key: str) -> None:
        """Notes that a picture's verdict is on disk, so that it may be moved or deleted."""
        self._to_tell.append(key)

    def read_later(self, key: str) -> None:
        """Notes that a picture was not complete."""
        self.seen.discard(key)

    def gave(self, key: str) -> None:
        """Notes that a picture was given, good or bad."""
        self.seen.add(key)
        self._tries.pop(key, None)

    def are_gone(self, keys: tuple[str, ...]) -> None:
        """Notes that pictures are no longer there."""
        self.seen.difference_update(keys)
        self._settled.difference_update(keys)
        for key in keys:
            self._tries.pop(key, None)
        self._gone(keys)

    def ended_its_reader(self, key: str) -> bool:
        """Notes that a process ended while it read a picture.

        Returns:
            Whether that is the picture's fault; else it is read again.
        """
        self._tries[key] += 1
        if self._tries[key] >= _MOST_TRIES:
            self.gave(key)
            return True
        self.read_later(key)
        return False

    def written(self) -> int | None:
        """Returns a descriptor of a file that says all this to a new process, or None."""
        self._under_way = False
        self._settled.update(self._to_tell)
        self._to_tell.clear()
        if not self.seen:
            return None
        lines = (f"{_SETTLED if key in self._settled else _READ}{key}" for key in self.seen)
        descriptor = create(0)
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write("\0".join(lines).encode())
        os.lseek(descriptor, 0, os.SEEK_SET)
        return descriptor

    def tell(self, channel: socket.socket) -> None:
        """Tells the process of some settled pictures, if it has heard of those before.

        The daemon must always find room on the channel for the slots that it gives back.
        """
        if self._under_way or not self._to_tell:
            return
        keys = tuple(self._to_tell.popleft() for _ in range(min(AT_ONCE, len(self._to_tell))))
        self._settled.update(keys)
        with contextlib.suppress(OSError):  # it has ended: the next one is told with the others
            channel.send(Settled(keys=keys).model_dump_json().encode(), socket.MSG_DONTWAIT)
            self._under_way = True

    def heard(self) -> None:
        """Notes that the process has heard of them."""
        self._under_way = False


def read_written(descriptor: int | None, remembered: Remembered) -> None:
    """Takes in what `Pictures.written` wrote."""
    if descriptor is None:
        return
    with os.fdopen(descriptor, "rb") as file:
        for line in file.read().decode().split("\0"):
            remembered.keys.add(line[1:])
            if line[0] == _SETTLED:
                remembered.settled.append(line[1:])
