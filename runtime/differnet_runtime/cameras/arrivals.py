"""When a picture in a folder is complete, as far as that can be told without reading it."""

from __future__ import annotations

import logging
from collections.abc import Container
from dataclasses import dataclass

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
