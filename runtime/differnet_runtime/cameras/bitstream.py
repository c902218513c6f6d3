"""NAL units of H.264 and H.265: damage that shows before anything is decoded.

A unit never has three zeros in a row (ITU-T H.264, 7.4.1; H.265, 7.4.2), and those of a file say
how long they are. H.265's decoder in FFmpeg reads zeros behind a slice that was cut and takes them
for pixels. So each slice gets a guard: ones, which a complete slice never reads, and which make the
decoder stop, or fail, in one that was cut.

The numbers of H.264's pictures, by which a lost one is seen where time stamps don't tell.

A picture is numbered one higher than the last that others may refer to (frame_num; ITU-T H.264,
7.4.3). FFmpeg conceals a gap in silence.

Where the slices of H.265 begin, by which parts of the next picture are told from the first's.

A transport stream that lost a picture's first packet appends the rest to the picture before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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


_SLICE_HEAD = 96
"""Bytes in which a slice's address is found, or what of a parameter set is read."""
_FIRST_SLICE_SET, _SLICE_SPS, _SLICE_PPS = 32, 33, 34
_KEY = range(16, 24)
_GENERAL_PROFILE, _SUB_PROFILE, _SUB_LEVEL = 96, 88, 8
_SUB_LAYERS = 8


def is_base(unit: bytes) -> bool:
    """Whether a unit is of the layer that is decoded (ITU-T H.265, 7.3.1.2)."""
    return len(unit) > 2 and unit[0] & 1 == 0 and unit[1] >> 3 == 0


class Segments:
    """Follows the parameter sets of a stream, which say how an address is written."""

    def __init__(self) -> None:
        self._sequences: dict[int, int] = {}
        """Bits of an address."""
        self._pictures: dict[int, tuple[int, bool]] = {}
        """The sequence, and whether slices may depend on the one before."""

    def own(self, units: Iterable[bytes]) -> tuple[int, bool] | None:
        """Returns the place of the first unit of another picture, or None.

        The second value says whether that picture's beginning is there.
        """
        last, end = -1, 0
        for place, unit in enumerate(units):
            address = self._address(unit) if is_base(unit) else None
            if address is None:
                continue
            if address <= last:
                return end, address == 0
            last, end = address, place + 1
        return None

    def _address(self, unit: bytes) -> int | None:
        kind, bits = unit[0] >> 1 & 0x3F, Bits(unit[2:_SLICE_HEAD])
        try:
            if kind == _SLICE_SPS:
                number, length = _slice_sequence(bits)
                self._sequences[number] = length
            elif kind == _SLICE_PPS:
                number = bits.golomb()
                self._pictures[number] = bits.golomb(), bits.take(1) == 1
            elif kind < _FIRST_SLICE_SET:
                if bits.take(1):
                    return 0
                bits.take(kind in _KEY)
                sequence, dependent = self._pictures[bits.golomb()]
                bits.take(dependent)
                return bits.take(self._sequences[sequence])
        except (ValueError, KeyError):
            return None
        return None


def _slice_sequence(bits: Bits) -> tuple[int, int]:
    """Reads a sequence parameter set (7.3.2.2); returns its number and the bits of an address."""
    bits.take(4)
    layers = bits.take(3)
    bits.take(1 + _GENERAL_PROFILE)
    told = [(bits.take(1), bits.take(1)) for _ in range(layers)]
    bits.take(2 * (_SUB_LAYERS - layers) if layers else 0)
    for profile, level in told:
        bits.take(profile * _SUB_PROFILE + level * _SUB_LEVEL)
    number = bits.golomb()
    if bits.golomb() == 3:
        bits.take(1)
    width, height = bits.golomb(), bits.golomb()
    for _ in range(4 * bits.take(1)):  # the window that is shown
        bits.golomb()
    for _ in range(3):
        bits.golomb()
    for _ in range(3 * (layers + 1 if bits.take(1) else 1)):
        bits.golomb()
    size = 1 << bits.golomb() + 3 + bits.golomb()
    blocks = -(-width // size) * -(-height // size)
    return number, (blocks - 1).bit_length()


_START = b"\0\0\1"
_GUARD = b"\xff" * 16
_FIRST_PARAMETER_SET = 32
"""H.265: units of lower types are slices."""
_MOST_PADDING = 16
"""Zeros behind a unit; encoders align with fewer."""
_CUT = "a unit of the stream is cut short"
_ZEROED = "a unit of the stream was overwritten with zeros"


class Units:
    """Finds the units of a stream's packets.

    Args:
        codec: `h264` or `hevc`.
        extradata: What the container says to the decoder: whether units have start codes.
    """

    def __init__(self, codec: str, extradata: bytes | None) -> None:
        self._guards = codec == "hevc"
        self._segments = Segments()
        self.told: list[bytes] = []
        """H.265's parameter sets that the container says to the decoder."""
        at = 21 if codec == "hevc" else 4
        prefixed = extradata is not None and len(extradata) > at and extradata[0] == 1
        self._length_bytes = (extradata[at] & 3) + 1 if prefixed and extradata else 0
        self._numbers = FrameNumbers() if codec == "h264" else None
        if self._numbers is not None and extradata:
            spans = [] if prefixed else list(self._spans(extradata))
            told = [extradata[start:stop] for start, stop in spans]
            self._numbers.damage(told or in_configuration(extradata))
        if self._guards and extradata:
            self.told = _arrays(extradata) if prefixed else self.split(extradata)
            self._segments.own(self.told)

    def damage(self, data: bytes) -> str | None:
        """Returns what is wrong with a packet's units, or None."""
        end, spans = len(data), list(self._spans(data))
        for start, stop in spans:
            if stop > end:
                return _CUT
            unit = data[start:stop].rstrip(b"\0")
            if b"\0\0\0" in unit or stop - start - len(unit) > _MOST_PADDING:
                return _ZEROED
        if self._numbers is None:
            return None
        return self._numbers.damage(data[start:stop] for start, stop in spans)

    def parted(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Parts a packet of H.265 to which another picture was appended.

        Returns:
            The first picture; and what is there of the other, empty if its beginning is lost. None
            where there is no other.
        """
        spans = list(self._spans(data))
        other = self._segments.own(data[start:stop] for start, stop in spans)
        if other is None:
            return data, None
        place, begins = other
        at = spans[place][0] - (self._length_bytes or len(_START))
        return data[:at], data[at:] if begins else b""

    def split(self, data: bytes) -> list[bytes]:
        """Returns a packet's units, without the zeros that may follow them."""
        units = (data[start:stop].rstrip(b"\0") for start, stop in self._spans(data))
        return [unit for unit in units if unit]

    def guarded(self, data: bytes) -> bytes | None:
        """Returns a packet with a guard behind each slice; None where it is decoded as it is."""
        if not self._guards:
            return None
        return b"".join(map(self._written, self.split(data)))

    def _written(self, unit: bytes) -> bytes:
        if unit[0] >> 1 & 0x3F < _FIRST_PARAMETER_SET:
            unit += _GUARD
        if not self._length_bytes:
            return b"\0" + _START + unit
        return len(unit).to_bytes(self._length_bytes, "big") + unit

    def _spans(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Yields where units start and end; one that says it is longer than the packet, too."""
        at = 0
        while self._length_bytes and at + self._length_bytes < len(data):
            start = at + self._length_bytes
            at = start + int.from_bytes(data[at:start], "big")
            yield start, at
        if self._length_bytes:
            return
        at = data.find(_START)
        while at >= 0:
            following = data.find(_START, at + len(_START))
            yield at + len(_START), following if following >= 0 else len(data)
            at = following


def _arrays(extradata: bytes) -> list[bytes]:
    """Returns the units of an MP4's decoder configuration (ISO/IEC 14496-15, 8.3.3.1)."""
    units, at = [], 23
    for _ in range(extradata[22] if len(extradata) > 22 else 0):
        count, at = int.from_bytes(extradata[at + 1 : at + 3], "big"), at + 3
        for _ in range(count):
            length = int.from_bytes(extradata[at : at + 2], "big")
            units.append(extradata[at + 2 : at + 2 + length])
            at += 2 + length
    return [unit for unit in units if unit]
