"""The numbers of H.264's pictures, by which a lost one is seen where time stamps don't tell.

A picture is numbered one higher than the last that others may refer to (frame_num; ITU-T H.264,
7.4.3). FFmpeg conceals a gap in silence.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

_SLICE, _IDR, _SPS, _PPS = 1, 5, 7, 8
_HEAD = 48
"""Bytes in which a slice's number, or a parameter set, is found."""
_HIGH = frozenset({44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244})
"""Profiles whose parameter sets say more of colours."""
_GAP = "a picture of the stream is missing before it"
_MIXED = "parts of several pictures are mixed up in it"


class Bits:
    """Reads the bits of a unit.

    Args:
        unit: Behind its first byte; emulation prevention (00 00 03) is undone.
    """

    def __init__(self, unit: bytes) -> None:
        data = unit.replace(b"\0\0\3", b"\0\0")
        self._value, self._left = int.from_bytes(data, "big"), len(data) * 8

    def take(self, count: int) -> int:
        """Reads an unsigned number of so many bits."""
        self._left -= count
        if self._left < 0:
            raise ValueError("the unit ends too early")
        return self._value >> self._left & (1 << count) - 1

    def golomb(self) -> int:
        """Reads an unsigned number in Exp-Golomb code, `ue(v)`."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)


@dataclass(frozen=True)
class _Sequence:
    """What a sequence parameter set says of numbers."""

    planes: bool
    bits: int
    gaps: bool
    frames: bool


def _sequence(bits: Bits) -> tuple[int, _Sequence]:
    """Reads a sequence parameter set; returns its number and what it says."""
    profile = bits.take(8)
    bits.take(16)
    number, planes = bits.golomb(), False
    if profile in _HIGH:
        planes = bits.golomb() == 3 and bits.take(1) == 1
        bits.golomb()
        bits.golomb()
        bits.take(1)
        if bits.take(1):
            raise ValueError("scaling matrices are not read")
    width = bits.golomb() + 4
    order = bits.golomb()
    if order == 0:
        bits.golomb()
    elif order == 1:
        raise ValueError("picture order 1 is not read")
    bits.golomb()
    gaps = bits.take(1) == 1
    bits.golomb()
    bits.golomb()
    return number, _Sequence(planes, width, gaps, bits.take(1) == 1)


class FrameNumbers:
    """Follows the numbers of a stream's pictures.

    Streams whose parameter sets are of a rare kind are not followed.
    """

    def __init__(self) -> None:
        self._sequences: dict[int, _Sequence] = {}
        self._pictures: dict[int, int] = {}
        self._last: int | None = None

    def damage(self, units: Iterable[bytes]) -> str | None:
        """Takes the units of one picture; returns what their numbers say is wrong, or None."""
        first: tuple[int, bool, _Sequence] | None = None
        for unit in units:
            slice_ = self._slice(unit) if unit else None
            if slice_ is None:
                continue
            if first is None:
                first = slice_
            elif slice_[0] != first[0]:
                return _MIXED
        return self._next(*first) if first is not None else None

    def _slice(self, unit: bytes) -> tuple[int, bool, _Sequence] | None:
        """Returns a slice's number, whether others may refer to it, and its sequence."""
        kind, bits = unit[0] & 0x1F, Bits(unit[1:_HEAD])
        try:
            if kind == _SPS:
                number, sequence = _sequence(bits)
                self._sequences[number] = sequence
            elif kind == _PPS:
                self._pictures[bits.golomb()] = bits.golomb()
            elif kind in (_SLICE, _IDR):
                bits.golomb()
                bits.golomb()
                sequence = self._sequences[self._pictures[bits.golomb()]]
                bits.take(2 * sequence.planes)
                number = bits.take(sequence.bits)
                if kind == _IDR:
                    self._last = None
                return number, unit[0] & 0x60 != 0, sequence
        except (ValueError, KeyError):
            self._last = None
        return None

    def _next(self, number: int, referred: bool, sequence: _Sequence) -> str | None:
        last = self._last
        if referred:
            self._last = number
        if last is None or sequence.gaps:
            return None
        passed = (number - last) % (1 << sequence.bits)
        return _GAP if passed > 1 or (passed == 0 and sequence.frames) else None


def in_configuration(extradata: bytes) -> list[bytes]:
    """Returns the parameter sets of an MP4's decoder configuration (ISO/IEC 14496-15, 5.2.4.1)."""
    units, at = [], 5
    for mask in (0x1F, 0xFF):
        count, at = (extradata[at] & mask if at < len(extradata) else 0), at + 1
        for _ in range(count):
            length = int.from_bytes(extradata[at : at + 2], "big")
            units.append(extradata[at + 2 : at + 2 + length])
            at += 2 + length
    return units
