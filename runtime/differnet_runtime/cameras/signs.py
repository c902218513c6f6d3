"""Signs of damage in a stream, and which picture each belongs to.

A demuxer reports a loss when it reads on behind it, and a decoder an error when it decodes; the
picture comes later, perhaps after others. So a sign waits under its picture's time stamp. Some
damage shows only in what FFmpeg's libraries log during a call.
"""

from __future__ import annotations

import logging
import re
from types import TracebackType
from typing import Protocol

import av
import av.logging

av.logging.set_level(av.logging.WARNING)
av.logging.set_skip_repeated(False)
# What is logged outside of `Log` concerns nobody, as about colours.
logging.getLogger("libav").setLevel(logging.CRITICAL + 1)


class Log:
    """Collects what FFmpeg logs in this thread while the context is entered.

    Example:
        >>> with Log() as log:
        ...     packet = next(packets)
        >>> log.lines
    """

    def __init__(self) -> None:
        self._capture = av.logging.Capture()
        self.lines: list[tuple[int, str]] = []
        """Level (lower is worse) and text of each line, once the context is left."""

    def __enter__(self) -> Log:
        self._logged = self._capture.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._capture.__exit__(kind, error, trace)  # type: ignore[arg-type]
        self.lines = [(level, text.strip()) for level, _name, text in self._logged]


_CORRUPT = re.compile(r"Packet corrupt \(stream = (\d+), dts = (-?\d+|NOPTS)\)")
_MISSED = re.compile(r"RTP: missed (\d+) packets")
_LOST = re.compile(r"RTP: (missed|dropping)|bad cseq|Packets? lost|Not all|partial|truncat", re.I)
_HARMLESS = re.compile(r"SEI|VUI|unknown profile|unavailable reference|deprecated", re.I)
_WRAP = 1 << 33
"""MPEG-TS time stamps wrap around there."""
_MOST_SIGNS = 64
_COUNTED = "packets of the stream are missing"


class _Packet(Protocol):
    pts: int | None
    dts: int | None
    stream_index: int
    is_corrupt: bool


class Signs:
    """Collects the signs of damage of one stream, by time stamp.

    Args:
        ends_shown: Whether decoding finds every picture whose end is missing: FFmpeg finds it in
            H.264, and `SliceEnds` in H.265.

    Example:
        >>> signs = Signs(ends_shown=True)
        >>> signs.mark(packet.pts, "a part is missing")
        >>> damage = signs.take(frame.pts)
    """

    def __init__(self, ends_shown: bool) -> None:
        self._ends_shown = ends_shown
        self._signs: list[tuple[int | None, str]] = []
        self._corrupt: list[int] = []
        self._next: str | None = None
        self._single = self._found = self._spills = False
        self._opening_lost = False
        self._last: int | None = None

    def opened(self, stream_index: int, lines: list[tuple[int, str]]) -> None:
        """Takes what the demuxer logged while it probed the stream's first packets."""
        self._opening_lost = self._loses(stream_index, lines)

    def demuxed(self, packet: _Packet, lines: list[tuple[int, str]], waited: bool) -> None:
        """Takes what the demuxer logged while it read a packet; `waited` if it had no data yet."""
        carried, self._next = self._next, None
        if self._single and self._found:
            carried = None  # the one packet that was lost belonged to the picture before
        self._single = self._found = False
        lost = self._loses(packet.stream_index, lines)
        corrupt = packet.is_corrupt and not self._corrupt  # else the log names the corrupt one
        # One without a time stamp behind a damaged one lost its beginning, and its stamp with it.
        spilt = self._spills and packet.pts is None
        if carried or corrupt or spilt or self._opening_lost or self._is_corrupt(packet.dts):
            self.mark(packet.pts, carried or _COUNTED)
            self._spills = spilt or packet.pts is not None
        else:
            self._spills = False
        if lost:
            # Packets of two pictures were read: the end of this one, and what comes next.
            self._next = _COUNTED
            missed = [found[1] for _, text in lines if (found := _MISSED.search(text))]
            self._single = missed == ["1"]
            if not self._ends_shown:
                self.mark(packet.pts, _COUNTED)
        # All packets that were read while the stream was opened have been given by then.
        self._opening_lost = self._opening_lost and not waited

    def _loses(self, stream_index: int, lines: list[tuple[int, str]]) -> bool:
        """Returns whether the log reports a loss without naming the packet; notes named ones."""
        lost = False
        for _level, text in lines:
            corrupt = _CORRUPT.search(text)
            if corrupt is None:
                lost = lost or _LOST.search(text) is not None
            elif int(corrupt[1]) == stream_index and corrupt[2] == "NOPTS":
                lost = True
            elif int(corrupt[1]) == stream_index:
                self._corrupt.append(int(corrupt[2]))
        return lost

    def _is_corrupt(self, dts: int | None) -> bool:
        """Returns whether a packet that the log named is this one, or was before it; forgets it."""
        passed = [one for one in self._corrupt if dts is None or (dts - one) % _WRAP < _WRAP // 2]
        self._corrupt = [one for one in self._corrupt if one not in passed]
        return bool(passed)

    def decoded(self, packet: _Packet, fault: str | None, lines: list[tuple[int, str]]) -> None:
        """Takes the fault found in a packet, or else the first error that the decoder logged."""
        for level, text in lines:
            if level <= av.logging.ERROR and not _HARMLESS.search(text):
                fault = fault or f"the decoder says: {text}"
        if fault is not None:
            self.found(packet.pts, fault)

    def found(self, stamp: int | None, damage: str) -> None:
        """Marks a picture with damage that was found when it was decoded."""
        self._found = True
        self.mark(stamp, damage)

    def lost_behind(self, stamp: int | None) -> None:
        """Withdraws that packets of a picture are missing: they were the first of the next one."""
        self._signs = [one for one in self._signs if one != (stamp, _COUNTED)]

    def mark_next(self, damage: str) -> None:
        """Marks the picture of the packet that is read next."""
        self._next = damage

    def mark(self, stamp: int | None, damage: str) -> None:
        """Marks the picture of a time stamp; None stands for the next picture."""
        self._signs = [*self._signs[-_MOST_SIGNS:], (stamp, damage)]

    def take(self, stamp: int | None) -> str | None:
        """Returns the damage of a picture, None if it is whole; forgets its signs.

        Signs of earlier pictures that never came count for this one.
        """
        backwards = None not in (stamp, self._last) and stamp < self._last  # type: ignore[operator]
        self._last = stamp
        found = [
            one
            for one in self._signs
            if backwards or None in (stamp, one[0]) or one[0] <= stamp  # type: ignore[operator]
        ]
        self._signs = [one for one in self._signs if one not in found]
        return found[0][1] if found else None
