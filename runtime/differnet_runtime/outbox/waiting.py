"""What waits in memory to be committed: events, and what became of pictures."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from .records import Entry, GonePictures, JudgedPicture
from .tally import Reset

_MOST = 10_000
"""Entries that wait while the disk takes none; then the oldest go."""
_ROOM = 1000

Item = Entry | GonePictures | Reset


class Waiting:
    """A queue that takes back what could not be written; its user holds a lock."""

    def __init__(self) -> None:
        self._waiting: deque[Item] = deque()
        self._writing: list[Item] = []
        self.dropped = 0
        """Events that were dropped at the limit."""
        self.arrived = 0
        """All items that were ever added, dropped ones too."""

    def __len__(self) -> int:
        return len(self._waiting) + len(self._writing)

    @property
    def has_room(self) -> bool:
        """Whether so few wait that whoever can wait need not."""
        return len(self) < _ROOM

    @property
    def gone(self) -> int:
        """Number of arrived items that are written or dropped."""
        return self.arrived - len(self)

    def put(self, item: Item) -> None:
        """Adds to the end."""
        self._waiting.append(item)
        self.arrived += 1
        self._bound()

    def take(self, most: int) -> list[Item]:
        """Returns the first ones, which are kept until `written` or `take_back`."""
        count = min(len(self._waiting), most)
        self._writing = [self._waiting.popleft() for _ in range(count)]
        return self._writing

    def written(self) -> list[JudgedPicture]:
        """Lets go of what was taken; returns the pictures among it."""
        written, self._writing = self._writing, []
        return list(_pictures(written))

    def take_back(self) -> None:
        """Puts back in front what was taken."""
        self._waiting.extendleft(reversed(self._writing))
        self._writing = []
        self._bound()

    def _bound(self) -> None:
        while len(self._waiting) > _MOST:
            dropped = self._waiting.popleft()
            self.dropped += isinstance(dropped, Entry) and dropped.text is not None

    def pictures(self) -> Iterator[JudgedPicture]:
        """Yields the pictures that wait, the latest first."""
        yield from _pictures(reversed(self._waiting))
        yield from _pictures(reversed(self._writing))


def _pictures(items: Iterable[Item]) -> Iterator[JudgedPicture]:
    for item in items:
        if isinstance(item, Entry) and item.picture is not None:
            yield item.picture
