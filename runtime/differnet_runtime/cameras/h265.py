"""Damage of H.265 pictures that FFmpeg does not report.

FFmpeg's decoder says nothing of a slice that is missing or ends too early, and does not compare
where a slice ends with where its data end (`hls_decode_entry` in its `hevcdec.c`); PyAV can't tell
how much data it consumed. So blocks that were never written are counted (`UnwrittenBlocks`), slices
are decoded a second time by libde265 (`SliceEnds`), and packets that hold parts of two pictures are
split (`PacketSplitter`).
"""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from numpy.typing import NDArray

from .bitstream import Units, is_base, is_slice

if TYPE_CHECKING:
    from av import VideoFrame

    from .libav import Signs

    Packet = av.Packet[Any]

_HELD = 8
"""Pictures kept until the decoder no longer needs them as references; cameras use one to four."""
_STEP = 8
"""Chroma samples between two that are looked at: half the smallest coding tree block."""


class UnwrittenBlocks:
    """Counts blocks of a picture that its decoder never wrote.

    Where a slice is missing, the memory keeps an older picture. So all memory that a decoder gets
    is zero: new memory is, and used memory is wiped here first. A block whose luma and both chroma
    values are zero is no colour that a picture can have.

    Example:
        >>> unwritten = UnwrittenBlocks()
        >>> missing = unwritten.count(frame)
        >>> unwritten.release(frame)
    """

    def __init__(self) -> None:
        self._held: deque[VideoFrame] = deque()

    def count(self, frame: VideoFrame) -> int:
        """Returns how many of the sampled places of a picture were never written."""
        if len(frame.planes) != 3:
            return 0  # grey, or of a kind that needs no look
        luma, blue, red = (_samples(frame, plane) for plane in range(3))
        down, across = (max(1, luma.shape[axis] // blue.shape[axis]) for axis in (0, 1))
        start = _STEP // 2
        zero = (blue[start::_STEP, start::_STEP] == 0) & (red[start::_STEP, start::_STEP] == 0)
        rows, columns = zero.shape
        bright = luma[start * down :: _STEP * down, start * across :: _STEP * across]
        return int((zero & (bright[:rows, :columns] == 0)).sum())

    def release(self, frame: VideoFrame) -> None:
        """Returns a picture's memory to the decoder, wiped, once it is no longer a reference."""
        self._held.append(frame)
        if len(self._held) > _HELD:
            last = self._held.popleft()
            last.make_writable()  # a copy, where the decoder still refers to it
            for plane in last.planes:
                np.frombuffer(plane, np.uint8)[:] = 0  # type: ignore[call-overload]


def _samples(frame: VideoFrame, index: int) -> NDArray[np.generic]:
    plane = frame.planes[index]
    dtype = np.dtype(np.uint16 if frame.format.components[index].bits > 8 else np.uint8)
    rows = np.frombuffer(plane, dtype).reshape(-1, plane.line_size // dtype.itemsize)  # type: ignore[call-overload]
    samples: NDArray[np.generic] = rows[: plane.height, : plane.width]
    return samples


class PacketSplitter:
    """Splits packets to which a part of the next picture was appended.

    A transport stream that lost the first packet of a picture appends the rest to the picture
    before.

    Args:
        units: The units of the stream.
        signs: The signs of damage, from which the loss is withdrawn for the first picture; whether
            that one is complete must be checked when it is decoded.

    Example:
        >>> splitter = PacketSplitter(units, signs)
        >>> packets = splitter.split(packet, in_order=True)
    """

    def __init__(self, units: Units, signs: Signs) -> None:
        self._units, self._signs = units, signs
        self._last: int | None = None
        self._intervals: deque[int] = deque(maxlen=31)

    def split(self, packet: Packet, *, in_order: bool) -> list[Packet]:
        """Splits a packet into one packet for each picture.

        Args:
            packet: A packet of one picture, or of two.
            in_order: Whether pictures are sent in presentation order. Then the lost time stamp of
                the second picture follows from the others; else that picture is left out.
        """
        last, self._last = self._last, packet.pts
        if last is not None and packet.pts is not None and packet.pts > last:
            self._intervals.append(packet.pts - last)
        interval = min(self._intervals, default=0)
        own, other = self._units.split_pictures(bytes(packet))
        if other is None:
            return [packet]
        self._signs.lost_behind(packet.pts)
        parts = [copy_packet(packet, own)]
        if other and interval and in_order:
            parts.append(copy_packet(packet, other, interval))
        return parts


def copy_packet(packet: Packet, data: bytes, later: int = 0) -> Packet:
    """Returns a packet with other data, its stamps later by so many units of its time base."""
    made: Packet = av.Packet(data)
    made.pts = None if packet.pts is None else packet.pts + later
    made.dts = None if packet.dts is None else packet.dts + later
    made.time_base = packet.time_base
    return made


_LIBRARY = "libde265.so.0"
_GUARD = b"\x55" * 64
"""Appended to each slice: bits in which a decoder that reads too far seldom finds an end."""
_DAMAGE = {
    1002: "a slice ends too early",
    1003: "the rows of a slice do not begin where it says",
    1004: "a slice goes on beyond the picture",
    1017: "a row of a slice does not end where its data end",
}
"""libde265's warnings (`de265.h`) that only damaged data cause."""
_NO_DEBLOCKING, _NO_SAO = 7, 8
_MOST_STEPS = 100

NOT_SEEN = (
    "wrong bytes within an H.265 picture are seen only in part, since the system library libde265 "
    "is not installed (apt-get install libde265-0); check_h265 = false does without it"
)


def parses(profile: str | None) -> bool:
    """Returns whether libde265 decodes every stream of a profile."""
    return profile in ("Main", "Main 10", "Main Still Picture")


class SliceEnds:
    """Checks that slices end where their data end, by decoding a stream a second time.

    Wrong or missing bytes lead a decoder astray, so that it ends a slice too early or too late.
    libde265 compares at the end of each slice, and of each row of blocks where the stream marks
    them. It runs in a thread of its own, and without filters, since its pixels are not used.

    Raises:
        OSError: libde265 is not installed.

    Example:
        >>> slices = SliceEnds()
        >>> damage = slices.check(units.split(data)).result()
    """

    def __init__(self) -> None:
        self._library = _load()
        self._decoder = self._library.de265_new_decoder()
        for parameter in (_NO_DEBLOCKING, _NO_SAO):
            self._library.de265_set_parameter_bool(self._decoder, parameter, 1)
        self._thread = ThreadPoolExecutor(1, "slice-ends")

    def check(self, units: Iterable[bytes]) -> Future[str | None]:
        """Takes all units of the next picture; the result is the damage of its slices, or None."""
        return self._thread.submit(self._decode, list(units))

    def _decode(self, units: list[bytes]) -> str | None:
        library, decoder = self._library, self._decoder
        for unit in filter(is_base, units):
            data = unit + _GUARD if is_slice(unit) else unit
            library.de265_push_NAL(decoder, data, len(data), 0, None)
        library.de265_push_end_of_frame(decoder)
        warnings: list[int] = []
        more = ctypes.c_int(1)
        for _ in range(_MOST_STEPS):
            failed = library.de265_decode(decoder, ctypes.byref(more))
            warnings.extend(iter(lambda: library.de265_get_warning(decoder), 0))
            while library.de265_get_next_picture(decoder):
                pass
            if failed or not more.value:
                break
        return next((_DAMAGE[code] for code in warnings if code in _DAMAGE), None)

    def close(self) -> None:
        """Releases the decoder."""
        self._thread.shutdown()
        self._library.de265_free_decoder(self._decoder)


def _load() -> ctypes.CDLL:
    """Loads the library and declares the types of its functions."""
    library = ctypes.CDLL(_LIBRARY)
    pointer, number = ctypes.c_void_p, ctypes.c_int
    library.de265_new_decoder.restype = library.de265_get_next_picture.restype = pointer
    library.de265_push_NAL.argtypes = [pointer, ctypes.c_char_p, number, ctypes.c_int64, pointer]
    library.de265_set_parameter_bool.argtypes = [pointer, number, number]
    library.de265_decode.argtypes = [pointer, ctypes.POINTER(number)]
    for name in ("push_end_of_frame", "get_warning", "get_next_picture", "free_decoder"):
        getattr(library, f"de265_{name}").argtypes = [pointer]
    return library
