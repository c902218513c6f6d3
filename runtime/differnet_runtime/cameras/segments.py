"""Where the slices of H.265 begin, by which parts of the next picture are told from the first's.

A transport stream that lost a picture's first packet appends the rest to the picture before.
"""

from __future__ import annotations

from collections.abc import Iterable

from .frame_numbers import Bits

_HEAD = 96
"""Bytes in which a slice's address is found, or what of a parameter set is read."""
_FIRST_PARAMETER_SET, _SPS, _PPS = 32, 33, 34
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
        kind, bits = unit[0] >> 1 & 0x3F, Bits(unit[2:_HEAD])
        try:
            if kind == _SPS:
                number, length = _sequence(bits)
                self._sequences[number] = length
            elif kind == _PPS:
                number = bits.golomb()
                self._pictures[number] = bits.golomb(), bits.take(1) == 1
            elif kind < _FIRST_PARAMETER_SET:
                if bits.take(1):
                    return 0
                bits.take(kind in _KEY)
                sequence, dependent = self._pictures[bits.golomb()]
                bits.take(dependent)
                return bits.take(self._sequences[sequence])
        except (ValueError, KeyError):
            return None
        return None


def _sequence(bits: Bits) -> tuple[int, int]:
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
