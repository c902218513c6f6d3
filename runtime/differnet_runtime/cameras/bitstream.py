"""NAL units of H.264 and H.265: damage that shows before anything is decoded.

A unit never has three zeros in a row (ITU-T H.264, 7.4.1; H.265, 7.4.2), and those of a file say
how long they are. H.264's pictures are numbered (`FrameNumbers`), and H.265's slices say where in
the picture they begin (`Segments`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_START = b"\0\0\1"
_GUARD = b"\xff" * 16
_MOST_PADDING = 16
"""Zeros behind a unit; encoders align with fewer."""
_CUT = "a unit of the stream is cut short"
_ZEROED = "a unit of the stream was overwritten with zeros"


class Units:
    """Finds the NAL units in the packets of one stream.

    FFmpeg's decoder of H.265 reads zeros behind a slice that was cut, and takes them for pixels. So
    each slice gets a guard: ones, which a complete slice never reads, and at which the decoder
    stops or fails in a slice that was cut.

    Args:
        codec: FFmpeg's name of it, `h264` or `hevc`.
        extradata: The container's configuration of the decoder, which says whether units have
            start codes or lengths.

    Example:
        >>> units = Units("h264", codec_context.extradata)
        >>> damage = units.damage(bytes(packet))
    """

    def __init__(self, codec: str, extradata: bytes | None) -> None:
        self._hevc, data = codec == "hevc", extradata or b""
        self._segments, self._numbers = Segments(), FrameNumbers()
        at = 21 if self._hevc else 4
        prefixed = len(data) > at and data[0] == 1
        self._length_bytes = (data[at] & 3) + 1 if prefixed else 0
        self.parameter_sets: list[bytes] = []
        """H.265's parameter sets in the container's configuration."""
        if self._hevc:
            self.parameter_sets = _hevc_configuration(data) if prefixed else self.split(data)
            self._segments.next_picture(self.parameter_sets)
        elif data:
            sets = [] if prefixed else [data[start:stop] for start, stop in self._spans(data)]
            self._numbers.damage(sets or avc_configuration(data))

    def damage(self, data: bytes) -> str | None:
        """Returns the damage of a packet's units; None if there is none."""
        spans = list(self._spans(data))
        for start, stop in spans:
            if stop > len(data):
                return _CUT
            unit = data[start:stop].rstrip(b"\0")
            if b"\0\0\0" in unit or stop - start - len(unit) > _MOST_PADDING:
                return _ZEROED
        if self._hevc:
            return None
        return self._numbers.damage(data[start:stop] for start, stop in spans)

    def split(self, data: bytes) -> list[bytes]:
        """Returns a packet's units, without the zeros that may follow them."""
        units = (data[start:stop].rstrip(b"\0") for start, stop in self._spans(data))
        return [unit for unit in units if unit]

    def split_pictures(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Splits a packet of H.265 to which another picture was appended.

        Returns:
            The first picture; and what there is of the other, empty if its beginning is lost, None
            if there is no other.
        """
        spans = list(self._spans(data))
        other = self._segments.next_picture(data[start:stop] for start, stop in spans)
        if other is None:
            return data, None
        place, begins = other
        at = spans[place][0] - (self._length_bytes or len(_START))
        return data[:at], data[at:] if begins else b""

    def with_guards(self, data: bytes) -> bytes | None:
        """Returns a packet with a guard behind each slice; None if it is decoded as it is."""
        return b"".join(map(self._guard, self.split(data))) if self._hevc else None

    def _guard(self, unit: bytes) -> bytes:
        if is_slice(unit):
            unit += _GUARD
        length = len(unit).to_bytes(self._length_bytes, "big") if self._length_bytes else None
        return (length or b"\0" + _START) + unit

    def _spans(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Yields where each unit starts and ends, which may be beyond the packet."""
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


def avc_configuration(extradata: bytes) -> list[bytes]:
    """Returns the parameter sets of an MP4's H.264 configuration (ISO/IEC 14496-15, 5.2.4.1)."""
    units, at = [], 5
    for mask in (0x1F, 0xFF):
        count, at = (extradata[at] & mask if at < len(extradata) else 0), at + 1
        array, at = _array(extradata, at, count)
        units += array
    return units


def _hevc_configuration(extradata: bytes) -> list[bytes]:
    """Returns the units of an MP4's H.265 configuration (ISO/IEC 14496-15, 8.3.3.1)."""
    units, at = [], 23
    for _ in range(extradata[22] if len(extradata) > 22 else 0):
        array, at = _array(extradata, at + 3, int.from_bytes(extradata[at + 1 : at + 3], "big"))
        units += array
    return [unit for unit in units if unit]


def _array(data: bytes, at: int, count: int) -> tuple[list[bytes], int]:
    """Returns the units of an array, each after its length in two bytes, and where it ends."""
    units = []
    for _ in range(count):
        start = at + 2
        at = start + int.from_bytes(data[at:start], "big")
        units.append(data[start:at])
    return units, at


class Bits:
    """Reads the bits of a unit.

    Args:
        unit: The bytes behind its header; emulation prevention (00 00 03) is undone here.
    """

    def __init__(self, unit: bytes) -> None:
        data = unit.replace(b"\0\0\3", b"\0\0")
        self._value, self._left = int.from_bytes(data, "big"), len(data) * 8

    def take(self, count: int = 1) -> int:
        """Reads an unsigned number of so many bits.

        Raises:
            ValueError: The unit is too short.
        """
        self._left -= count
        if self._left < 0:
            raise ValueError("the unit ends too early")
        return self._value >> self._left & (1 << count) - 1

    def golomb(self) -> int:
        """Reads an unsigned number in Exp-Golomb code, `ue(v)`."""
        zeros = 0
        while not self.take():
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)

    def skip_golomb(self, count: int) -> None:
        """Skips so many numbers in Exp-Golomb code."""
        for _ in range(count):
            self.golomb()


_SLICE, _IDR, _SPS, _PPS = 1, 5, 7, 8
_HEAD = 48
"""Bytes in which a slice's number, or a parameter set, is found."""
_HIGH = frozenset({44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244})
"""Profiles whose parameter sets have more fields about colour."""
_GAP = "a picture of the stream is missing before it"
_MIXED = "parts of several pictures are mixed up in it"


@dataclass(frozen=True)
class _Sequence:
    """What a sequence parameter set of H.264 says of frame numbers."""

    planes: bool
    bits: int
    gaps: bool
    frames: bool


class FrameNumbers:
    """Follows the picture numbers of H.264, which show a lost picture where time stamps don't.

    A picture is numbered one higher than the last reference picture (frame_num; ITU-T H.264,
    7.4.3). FFmpeg conceals a gap without a word. Streams with rare parameter sets are not followed.
    """

    def __init__(self) -> None:
        self._sequences: dict[int, _Sequence] = {}
        self._pictures: dict[int, int] = {}
        self._last: int | None = None

    def damage(self, units: Iterable[bytes]) -> str | None:
        """Takes the units of one picture; returns the damage that their numbers show, or None."""
        first: tuple[int, bool, _Sequence] | None = None
        for found in filter(None, map(self._slice, filter(None, units))):
            first = first or found
            if found[0] != first[0]:
                return _MIXED
        return self._compare(*first) if first is not None else None

    def _slice(self, unit: bytes) -> tuple[int, bool, _Sequence] | None:
        """Returns a slice's number, whether it is a reference, and its sequence; None if none."""
        kind, bits = unit[0] & 0x1F, Bits(unit[1:_HEAD])
        try:
            if kind == _SPS:
                number, sequence = _avc_sequence(bits)
                self._sequences[number] = sequence
            elif kind == _PPS:
                self._pictures[bits.golomb()] = bits.golomb()
            elif kind in (_SLICE, _IDR):
                bits.skip_golomb(2)
                sequence = self._sequences[self._pictures[bits.golomb()]]
                bits.take(2 * sequence.planes)
                number = bits.take(sequence.bits)
                if kind == _IDR:
                    self._last = None
                return number, unit[0] & 0x60 != 0, sequence
        except (ValueError, KeyError):
            self._last = None
        return None

    def _compare(self, number: int, reference: bool, sequence: _Sequence) -> str | None:
        last = self._last
        if reference:
            self._last = number
        if last is None or sequence.gaps:
            return None
        passed = (number - last) % (1 << sequence.bits)
        return _GAP if passed > 1 or (passed == 0 and sequence.frames) else None


def _avc_sequence(bits: Bits) -> tuple[int, _Sequence]:
    """Reads a sequence parameter set of H.264 (7.3.2.1); returns its number and contents."""
    profile = bits.take(8)
    bits.take(16)
    number, planes = bits.golomb(), False
    if profile in _HIGH:
        planes = bits.golomb() == 3 and bits.take() == 1
        bits.skip_golomb(2)
        bits.take()
        if bits.take():
            raise ValueError("scaling matrices are not read")
    width = bits.golomb() + 4
    order = bits.golomb()
    if order == 1:
        raise ValueError("picture order 1 is not read")
    bits.skip_golomb(2 if order == 0 else 1)
    gaps = bits.take() == 1
    bits.skip_golomb(2)
    return number, _Sequence(planes, width, gaps, bits.take() == 1)


_SLICE_HEAD = 96
"""Bytes in which a slice's address, or what is read of a parameter set, is found."""
_FIRST_PARAMETER_SET, _HEVC_SPS, _HEVC_PPS = 32, 33, 34
"""Types of units; those of lower types are slices."""
_KEY = range(16, 24)
_GENERAL_PROFILE, _SUB_PROFILE, _SUB_LEVEL = 96, 88, 8
_SUB_LAYERS = 8


def is_base(unit: bytes) -> bool:
    """Returns whether a unit is of the layer that is decoded (ITU-T H.265, 7.3.1.2)."""
    return len(unit) > 2 and unit[0] & 1 == 0 and unit[1] >> 3 == 0


def is_slice(unit: bytes) -> bool:
    """Returns whether a unit of H.265 is a slice."""
    return unit[0] >> 1 & 0x3F < _FIRST_PARAMETER_SET


class Segments:
    """Finds where in a packet of H.265 the slices of another picture begin, by their addresses."""

    def __init__(self) -> None:
        self._address_bits: dict[int, int] = {}
        """By the number of a sequence parameter set."""
        self._pictures: dict[int, tuple[int, bool]] = {}
        """By number: the sequence, and whether slices may depend on the one before."""

    def next_picture(self, units: Iterable[bytes]) -> tuple[int, bool] | None:
        """Returns the index of the first unit of another picture, or None.

        The second value says whether that picture's first slice is there.
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
            if kind == _HEVC_SPS:
                number, length = _hevc_sequence(bits)
                self._address_bits[number] = length
            elif kind == _HEVC_PPS:
                number = bits.golomb()
                self._pictures[number] = bits.golomb(), bits.take() == 1
            elif kind < _FIRST_PARAMETER_SET:
                if bits.take():
                    return 0
                bits.take(kind in _KEY)
                sequence, dependent = self._pictures[bits.golomb()]
                bits.take(dependent)
                return bits.take(self._address_bits[sequence])
        except (ValueError, KeyError):
            return None
        return None


def _hevc_sequence(bits: Bits) -> tuple[int, int]:
    """Reads a sequence parameter set (7.3.2.2); returns its number and the bits of an address."""
    bits.take(4)
    layers = bits.take(3)
    bits.take(1 + _GENERAL_PROFILE)
    present = [(bits.take(), bits.take()) for _ in range(layers)]
    bits.take(2 * (_SUB_LAYERS - layers) if layers else 0)
    for profile, level in present:
        bits.take(profile * _SUB_PROFILE + level * _SUB_LEVEL)
    number = bits.golomb()
    if bits.golomb() == 3:
        bits.take()
    width, height = bits.golomb(), bits.golomb()
    bits.skip_golomb(4 * bits.take())  # the window that is shown
    bits.skip_golomb(3)
    bits.skip_golomb(3 * (layers + 1 if bits.take() else 1))
    size = 1 << bits.golomb() + 3 + bits.golomb()
    blocks = -(-width // size) * -(-height // size)
    return number, (blocks - 1).bit_length()
