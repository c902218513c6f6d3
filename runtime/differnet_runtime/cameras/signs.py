"""Signs of damage, and which picture each belongs to.

A demuxer tells of a loss when it reads on behind it, and a decoder of an error when it decodes;
the picture comes later, perhaps after others. So a sign waits under its picture's time stamp.
"""

from __future__ import annotations

import re
from typing import Protocol

from .libav_log import ERROR

_CORRUPT = re.compile(r"Packet corrupt \(stream = (\d+), dts = (-?\d+|NOPTS)\)")
_MISSED = re.compile(r"RTP: missed (\d+) packets")
_LOST = re.compile(r"RTP: (missed|dropping)|bad cseq|Packets? lost|Not all|partial|truncat", re.I)
_HARMLESS = re.compile(r"SEI|VUI|unknown profile|unavailable reference|deprecated", re.I)
_WRAP = 1 << 33
"""Time stamps of MPEG-TS begin again there."""
_MOST = 64
_COUNTED = "packets of the stream are missing"


class _Packet(Protocol):
    pts: int | None
    dts: int | None
    stream_index: int
    is_corrupt: bool


class Signs:
    """Collects signs of damage of one stream.

    Args:
        ends_shown: Whether every picture whose end is missing is found when it is decoded: FFmpeg
            finds it in H.264, and `SliceEnds` in H.265.
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
        """Takes what the demuxer said while it looked at the stream's first packets."""
        self._opening_lost = self._loses(stream_index, lines)

    def demuxed(self, packet: _Packet, lines: list[tuple[int, str]], waited: bool) -> None:
        """Takes what the demuxer said while it read a packet, which it may have had to wait for."""
        carried, self._next = self._next, None
        if self._single and self._found:
            carried = None  # the one packet that was lost was of the picture before
        self._single = self._found = False
        lost = self._loses(packet.stream_index, lines)
        corrupt = packet.is_corrupt and not self._corrupt  # else it is told which one is
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
            self._single = [found[1] for _, text in lines if (found := _MISSED.search(text))] == [
                "1"
            ]
            if not self._ends_shown:
                self.mark(packet.pts, _COUNTED)
        # Those that were read while the stream was opened have all been given then.
        self._opening_lost = self._opening_lost and not waited

    def _loses(self, stream_index: int, lines: list[tuple[int, str]]) -> bool:
        """Whether packets are told to be lost, and it is not known of which picture."""
        lost = False
        for _level, text in lines:
            corrupt = _CORRUPT.search(text)
            if corrupt is None:
                lost = lost or _LOST.search(text) is not None
            elif int(corrupt[1]) == stream_index:
                if corrupt[2] == "NOPTS":
                    lost = True
                else:
                    self._corrupt.append(int(corrupt[2]))
        return lost

    def _is_corrupt(self, dts: int | None) -> bool:
        """Whether one of the packets told of is this one, or was before it."""
        told = [one for one in self._corrupt if dts is None or (dts - one) % _WRAP < _WRAP // 2]
        self._corrupt = [one for one in self._corrupt if one not in told]
        return bool(told)

    def decoded(self, packet: _Packet, fault: str | None, lines: list[tuple[int, str]]) -> None:
        """Takes what the decoder said of a packet."""
        errors = (text for level, text in lines if level <= ERROR and not _HARMLESS.search(text))
        said = next(errors, None)
        if fault is None and said is not None:
            fault = f"the decoder says: {said}"
        if fault is not None:
            self.found(packet.pts, fault)

    def found(self, stamp: int | None, damage: str) -> None:
        """Marks a picture by what was seen when it was decoded."""
        self._found = True
        self.mark(stamp, damage)

    def lost_behind(self, stamp: int | None) -> None:
        """Takes back that packets of a picture are missing: they were the next one's first."""
        self._signs = [one for one in self._signs if one != (stamp, _COUNTED)]

    def lost(self, damage: str) -> None:
        """Marks the packet that is read next."""
        self._next = damage

    def mark(self, stamp: int | None, damage: str) -> None:
        """Marks the picture of a time stamp; None is the next one that comes."""
        self._signs = [*self._signs[-_MOST:], (stamp, damage)]

    def of(self, stamp: int | None) -> str | None:
        """Returns why a picture can't be trusted; signs of earlier ones count, which never came."""
        backwards = None not in (stamp, self._last) and stamp < self._last  # type: ignore[operator]
        self._last = stamp
        found = [
            one
            for one in self._signs
            if backwards or None in (stamp, one[0]) or one[0] <= stamp  # type: ignore[operator]
        ]
        self._signs = [one for one in self._signs if one not in found]
        return found[0][1] if found else None
