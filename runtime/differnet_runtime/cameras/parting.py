"""Packets of H.265 to which the next picture was appended, since what parts them was lost."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import av

from .signs import Signs
from .units import Units

if TYPE_CHECKING:
    Packet = av.Packet[Any]

_STEPS = 31


class Parting:
    """Gives each picture a packet of its own.

    Args:
        units: Of the stream.
        signs: Is told that what was lost was not of the first picture. That this one is complete
            must be seen when it is decoded.
    """

    def __init__(self, units: Units, signs: Signs) -> None:
        self._units, self._signs = units, signs
        self._last: int | None = None
        self._steps: deque[int] = deque(maxlen=_STEPS)

    def parts(self, packet: Packet, *, in_order: bool) -> list[Packet]:
        """Parts a packet.

        Args:
            packet: Of one picture, or of two.
            in_order: Whether pictures are shown in the order of sending: the second one's time
                stamp, which is lost, is known from the others then. Else it is left out.
        """
        step = self._step(packet.pts)
        own, other = self._units.parted(bytes(packet))
        if other is None:
            return [packet]
        self._signs.lost_behind(packet.pts)
        parts = [copied(packet, own)]
        return [*parts, copied(packet, other, step)] if other and step and in_order else parts

    def _step(self, stamp: int | None) -> int:
        """Returns the time from picture to picture, in the stream's units; 0 while unknown."""
        last, self._last = self._last, stamp
        if last is not None and stamp is not None and stamp > last:
            self._steps.append(stamp - last)
        return min(self._steps, default=0)


def copied(packet: Packet, data: bytes, later: int = 0) -> Packet:
    """Returns a packet with other data, whose picture comes so much later."""
    made: Packet = av.Packet(data)
    made.pts = None if packet.pts is None else packet.pts + later
    made.dts = None if packet.dts is None else packet.dts + later
    made.time_base = packet.time_base
    return made
