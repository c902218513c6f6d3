"""Which pictures of a folder or frames of a video were read, while capture processes come and go.

A new process gets this as a file: each key with a sign before it, `+` if the picture is settled.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections import Counter, deque
from collections.abc import Callable, Iterable

from ..cameras.files import KEYS_PER_MESSAGE, Remembered
from .messages import Settled, create_memory

_MOST_CRASHES = 2
"""A picture that ended so many processes counts as unreadable."""
_SETTLED, _READ = "+", "-"


class Pictures:
    """The pictures of a camera; used by the monitor's thread, but `settle` by any.

    Args:
        judged: Keys of pictures that were judged before the station started.
        settled: Those of them that may be moved or deleted.
        gone: Called with the keys of pictures that no longer exist.

    Example:
        >>> pictures = Pictures(judged={"a.png|1024|1700000000000000000"})
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
        self._crashes: Counter[str] = Counter()
        self._unsent: deque[str] = deque()
        self._in_flight = False

    def settle(self, key: str) -> None:
        """Notes that a picture's verdict is on disk, so that it may be moved or deleted."""
        self._unsent.append(key)

    def read_later(self, key: str) -> None:
        """Notes that a picture was not complete."""
        self.seen.discard(key)

    def given(self, key: str) -> None:
        """Notes that a picture was given to the station, readable or not."""
        self.seen.add(key)
        self._crashes.pop(key, None)

    def forget(self, keys: tuple[str, ...]) -> None:
        """Notes that pictures no longer exist."""
        self.seen.difference_update(keys)
        self._settled.difference_update(keys)
        for key in keys:
            self._crashes.pop(key, None)
        self._gone(keys)

    def crashed_reader(self, key: str) -> bool:
        """Notes that a process ended while it read a picture.

        Returns:
            Whether the picture is to blame; otherwise it is read again.
        """
        self._crashes[key] += 1
        blamed = self._crashes[key] >= _MOST_CRASHES
        if blamed:
            self.given(key)
        else:
            self.read_later(key)
        return blamed

    def write(self) -> int | None:
        """Writes all this to a file in memory for a new process.

        Returns:
            Its file descriptor; None if no picture was read yet.
        """
        self._in_flight = False
        self._settled.update(self._unsent)
        self._unsent.clear()
        if not self.seen:
            return None
        lines = (f"{_SETTLED if key in self._settled else _READ}{key}" for key in self.seen)
        descriptor = create_memory(0)
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write("\0".join(lines).encode())
        os.lseek(descriptor, 0, os.SEEK_SET)
        return descriptor

    def send_settled(self, channel: socket.socket) -> None:
        """Sends some settled pictures, if the process has received those before.

        The channel must always have room for the slots that the station gives back.
        """
        if self._in_flight or not self._unsent:
            return
        count = min(KEYS_PER_MESSAGE, len(self._unsent))
        keys = tuple(self._unsent.popleft() for _ in range(count))
        self._settled.update(keys)
        with contextlib.suppress(OSError):  # it has ended: the next one gets them with the others
            channel.send(Settled(keys=keys).model_dump_json().encode(), socket.MSG_DONTWAIT)
            self._in_flight = True

    def received(self) -> None:
        """Notes that the process has received the settled pictures."""
        self._in_flight = False


def restore(descriptor: int | None, remembered: Remembered) -> None:
    """Reads what `Pictures.write` wrote; closes the descriptor."""
    if descriptor is None:
        return
    with os.fdopen(descriptor, "rb") as file:
        for line in file.read().decode().split("\0"):
            remembered.keys.add(line[1:])
            if line[0] == _SETTLED:
                remembered.settled.append(line[1:])
