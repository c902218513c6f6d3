"""NAL units of H.264 and H.265: damage that shows before anything is decoded.

A unit never has three zeros in a row (ITU-T H.264, 7.4.1; H.265, 7.4.2), and those of a file say
how long they are. H.265's decoder in FFmpeg reads zeros behind a slice that was cut and takes them
for pixels. So each slice gets a guard: ones, which a complete slice never reads, and which make the
decoder stop, or fail, in one that was cut.
"""

from __future__ import annotations

from collections.abc import Iterator

from .frame_numbers import FrameNumbers, in_configuration
from .segments import Segments

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
