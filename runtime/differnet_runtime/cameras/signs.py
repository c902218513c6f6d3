"""Signs of damage, and which picture each belongs to.

A demuxer tells of a loss when it reads on behind it, and a decoder of an error when it decodes;
the picture comes later, perhaps after others. So a sign waits under its picture's time stamp.

What FFmpeg's libraries say during a call, which is the only sign of some damage.

Packets of H.265 to which the next picture was appended, since what parts them was lost.

Slices of H.265 that do not end where their data end, as libde265 reports them.

Wrong or missing bytes within a slice lead its decoder astray, which then ends too early or too late
and so shows the damage. FFmpeg's decoder does not compare (`hls_decode_entry` in its `hevcdec.c`),
and PyAV can't tell how much it consumed. libde265 compares at the end of each slice, and of each
row of blocks where the stream marks them. Its pixels are not used, so it decodes without filters.
"""

from __future__ import annotations

import ctypes
import logging
import re
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import av
import av.logging

from .bitstream import Units, is_base

av.logging.set_level(av.logging.WARNING)
av.logging.set_skip_repeated(False)
# Said outside of the calls that are listened to, as about colours, which concerns nobody.
logging.getLogger("libav").setLevel(logging.CRITICAL + 1)

ERROR = int(av.logging.ERROR)


class Log:
    """Collects what is said in this thread while it is entered."""

    def __init__(self) -> None:
        self._capture = av.logging.Capture()
        self.lines: list[tuple[int, str]] = []
        """Level (lower is worse) and text of each line, once it is left."""

    def __enter__(self) -> Log:
        self._said = self._capture.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._capture.__exit__(kind, error, trace)  # type: ignore[arg-type]
        self.lines = [(level, text.strip()) for level, _name, text in self._said]


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


_LIBRARY = "libde265.so.0"
_FIRST_PARAMETER_SET = 32
_GUARD = b"\x55" * 64
"""Behind each slice: bits in which a decoder that reads too far seldom finds an end."""
_DAMAGE = {
    1002: "a slice ends too early",
    1003: "the rows of a slice do not begin where it says",
    1004: "a slice goes on beyond the picture",
    1017: "a row of a slice does not end where its data end",
}
"""libde265's warnings (`de265.h`) that damaged data cause, and nothing else."""
_NO_DEBLOCKING, _NO_SAO = 7, 8
_PROFILES = frozenset({"Main", "Main 10", "Main Still Picture"})
_MOST_STEPS = 100

NOT_SEEN = (
    "wrong bytes within an H.265 picture are seen only in part, since the system library libde265 "
    "is not installed (apt-get install libde265-0); check_h265 = false does without it"
)


def parses(profile: str | None) -> bool:
    """Returns whether libde265 reads a profile completely."""
    return profile in _PROFILES


class SliceEnds:
    """Decodes a stream of H.265 a second time, in a thread of its own.

    Raises:
        OSError: libde265 is not installed.
    """

    def __init__(self) -> None:
        self._library = _loaded()
        self._decoder = self._library.de265_new_decoder()
        for parameter in (_NO_DEBLOCKING, _NO_SAO):
            self._library.de265_set_parameter_bool(self._decoder, parameter, 1)
        self._thread = ThreadPoolExecutor(1, "slice-ends")

    def damage(self, units: Iterable[bytes]) -> Future[str | None]:
        """Takes all units of the next picture; tells later what is wrong with its slices."""
        return self._thread.submit(self._decode, list(units))

    def _decode(self, units: list[bytes]) -> str | None:
        library, decoder = self._library, self._decoder
        for unit in filter(is_base, units):
            is_slice = unit[0] >> 1 & 0x3F < _FIRST_PARAMETER_SET
            data = unit + _GUARD if is_slice else unit
            library.de265_push_NAL(decoder, data, len(data), 0, None)
        library.de265_push_end_of_frame(decoder)
        told: list[int] = []
        more = ctypes.c_int(1)
        for _ in range(_MOST_STEPS):
            failed = library.de265_decode(decoder, ctypes.byref(more))
            told.extend(self._warnings())
            while library.de265_get_next_picture(decoder):
                pass
            if failed or not more.value:
                break
        return next((_DAMAGE[code] for code in told if code in _DAMAGE), None)

    def _warnings(self) -> Iterator[int]:
        while code := self._library.de265_get_warning(self._decoder):
            yield code

    def close(self) -> None:
        """Releases the decoder."""
        self._thread.shutdown()
        self._library.de265_free_decoder(self._decoder)


def _loaded() -> ctypes.CDLL:
    """Loads the library and says what its functions take."""
    library = ctypes.CDLL(_LIBRARY)
    pointer, number = ctypes.c_void_p, ctypes.c_int
    library.de265_new_decoder.restype = library.de265_get_next_picture.restype = pointer
    library.de265_push_NAL.argtypes = [pointer, ctypes.c_char_p, number, ctypes.c_int64, pointer]
    library.de265_set_parameter_bool.argtypes = [pointer, number, number]
    library.de265_decode.argtypes = [pointer, ctypes.POINTER(number)]
    for name in ("push_end_of_frame", "get_warning", "get_next_picture", "free_decoder"):
        getattr(library, f"de265_{name}").argtypes = [pointer]
    return library
