"""Streams and video files through PyAV: the boundary of FFmpeg's libraries and their errors.

Damage of a picture shows in several places: a packet whose transport counted a loss (MPEG-TS, RTP),
units that break the rules of their codec, the decoder's errors, its own mark on a picture it filled
up, and blocks that it never wrote; some damage shows only in what FFmpeg logs during a call. Each
sign marks the picture it belongs to (`Signs`); `stream.Quarantine` then holds back the pictures
that refer to it.
"""

from __future__ import annotations

import logging
import re
import time
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import av
import av.error
import av.logging
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from ..config.grammar import redact
from ..errors import CameraError
from ..records import MOST_PIXELS, Image
from ..sentences import sentence
from .base import Decoded, GetBuffer, StreamReader, decode_partial_jpeg, no_buffer, plausible_fps
from .bitstream import Units
from .h265 import NOT_SEEN, PacketSplitter, SliceEnds, UnwrittenBlocks, copy_packet, parses

if TYPE_CHECKING:
    Packet = av.Packet[Any]

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

    def __exit__(self, *error: object) -> None:
        self._capture.__exit__(*error)  # type: ignore[arg-type]
        self.lines = [(level, text.strip()) for level, _name, text in self._logged]


_CORRUPT = re.compile(r"Packet corrupt \(stream = (\d+), dts = (-?\d+|NOPTS)\)")
_MISSED = re.compile(r"RTP: missed (\d+) packets")
_LOST = re.compile(r"RTP: (missed|dropping)|bad cseq|Packets? lost|Not all|partial|truncat", re.I)
_HARMLESS = re.compile(r"SEI|VUI|unknown profile|unavailable reference|deprecated", re.I)
_WRAP = 1 << 33
"""MPEG-TS time stamps wrap around there."""
_MOST_SIGNS = 64
_COUNTED = "packets of the stream are missing"


class Signs:
    """Collects the signs of damage of one stream, by time stamp.

    A demuxer reports a loss when it reads on behind it, and a decoder an error when it decodes; the
    picture comes later, perhaps after others. So a sign waits under its picture's time stamp.

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

    def demuxed(self, packet: Packet, lines: list[tuple[int, str]], waited: bool) -> None:
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

    def decoded(self, packet: Packet, fault: str | None, lines: list[tuple[int, str]]) -> None:
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


_PICTURE_TYPES = {1: "I", 2: "P", 3: "B"}
_WAIT_NS = 2_000_000
"""A read that takes longer had to wait for data."""
_RECOVERIES = 10
"""Failed reads in a row after which a source has ended."""


class LibavReader(StreamReader):
    """Reads the first video stream of a URL or a file.

    Args:
        source: The URL or path.
        options: Options of FFmpeg's protocol and container.
        timeouts_s: For opening, and for each read, in seconds; None waits as long as it takes.
        get_buffer: Where images may be read into.
        last_damage: Damage of the last packet, where the file is known to end within it.
        check_h265: Whether H.265's slices are decoded a second time, by `SliceEnds`.

    Raises:
        CameraError: It can't be opened, or holds no video.

    Example:
        >>> reader = LibavReader("rtsp://10.0.0.7/live", timeouts_s=(3.0, 3.0))
        >>> decoded = reader.read()
    """

    def __init__(
        self,
        source: str,
        *,
        options: Mapping[str, str] | None = None,
        timeouts_s: tuple[float, float] | None = None,
        get_buffer: GetBuffer = no_buffer,
        last_damage: str | None = None,
        check_h265: bool = True,
    ) -> None:
        self._title, self._get_buffer, self._last_damage = redact(source), get_buffer, last_damage
        with Log() as log:
            try:
                self._container = av.open(source, options=dict(options or {}), timeout=timeouts_s)
            except (av.error.FFmpegError, OSError, ValueError) as error:
                raise CameraError(f"{self._title}: {_cause(error)}") from error
        if not self._container.streams.video:
            self._container.close()
            raise CameraError(f"{self._title}: there is no video in it")
        self._stream = self._container.streams.video[0]
        rate = self._stream.average_rate or self._stream.guessed_rate or 0
        self.fps = plausible_fps(float(rate))
        self.promised = self._stream.frames
        self._codec = self._stream.codec_context
        self._codec.thread_count = 1  # each further one is a frame of delay
        # Check sums are compared, where pictures have them: of H.265 (MD5), of FFV1.
        self._codec.options = {"max_pixels": str(MOST_PIXELS), "err_detect": "crccheck"}
        codec = self._codec.name
        self._units = Units(codec, self._codec.extradata) if codec in ("h264", "hevc") else None
        self._unwritten = UnwrittenBlocks() if codec == "hevc" else None
        self._slices = self._open_slices() if codec == "hevc" and check_h265 else None
        self._signs = Signs(ends_shown=codec != "hevc" or self._slices is not None)
        self._splitter: PacketSplitter | None = None
        if self._units is not None and self._slices is not None:
            self._splitter = PacketSplitter(self._units, self._signs)
        self._signs.opened(self._stream.index, log.lines)
        self._reformatter = VideoReformatter()
        self._packets = self._container.demux(self._stream)
        self._ahead: Packet | None = None
        self._ready: deque[Decoded] = deque()
        self._size: tuple[int, int] | None = None
        self._quarter_turns: int | None = None
        """Rotation of the first picture; another one later comes from a damaged message."""
        self._read_ns, self._waited, self._failed = 0, True, 0
        self._ended = False

    def _open_slices(self) -> SliceEnds | None:
        if self._units is None or not parses(self._codec.profile):
            return None
        try:
            slices = SliceEnds()
        except OSError:
            self.not_seen = NOT_SEEN
            return None
        slices.check(self._units.parameter_sets)
        return slices

    def read(self) -> Decoded | None:
        """Waits for the next picture; see `StreamReader.read`."""
        while not self._ready and not self._ended:
            packet = self._next_packet() if self._last_damage is None else self._next_but_one()
            if packet is None:
                self._ended = True
            else:
                self._ready.extend(self._decode(packet))
        return self._ready.popleft() if self._ready else None

    def _next_but_one(self) -> Packet | None:
        """Reads one packet ahead, so that the last one can be marked as damaged."""
        packet, self._ahead = self._ahead or self._next_packet(), self._next_packet()
        if packet is not None and packet.size and not (self._ahead and self._ahead.size):
            self._signs.mark(packet.pts, self._last_damage or "")
        return packet

    def _next_packet(self) -> Packet | None:
        while True:
            begun_ns = time.monotonic_ns()
            with Log() as log:
                try:
                    packet = next(self._packets)
                except StopIteration:
                    return None
                except av.error.ExitError as error:
                    waited_s = (time.monotonic_ns() - begun_ns) / 1e9
                    raise CameraError(
                        sentence("source_late", source=self._title, waited_s=waited_s)
                    ) from error
                except (av.error.FFmpegError, OSError) as error:
                    # Read on behind what can't be read, unless that is all there is.
                    self._failed += 1
                    if self._failed > _RECOVERIES:
                        raise CameraError(f"{self._title}: {_cause(error)}") from error
                    self._packets = self._container.demux(self._stream)
                    self._signs.mark_next(sentence("stream_part_unreadable"))
                    continue
            self._failed = 0
            self._read_ns = time.monotonic_ns()
            self._waited = self._read_ns - begun_ns > _WAIT_NS
            self._signs.demuxed(packet, log.lines, self._waited)
            self.packets += packet.size > 0
            return packet

    def _decode(self, packet: Packet) -> list[Decoded]:
        if self._codec.name == "mjpeg":
            return [self._decode_jpeg(packet)] if packet.size else []
        parts = [packet]
        if self._splitter is not None and packet.size:
            parts = self._splitter.split(packet, in_order=not self._codec.has_b_frames)
        return [picture for part in parts for picture in self._decode_part(part)]

    def _decode_jpeg(self, packet: Packet) -> Decoded:
        image, damage = decode_partial_jpeg(bytes(packet))
        return Decoded(
            image,
            self._read_ns,
            self._ms(packet.pts),
            damage=self._signs.take(packet.pts) or damage,
            waited=self._waited,
            key=True,
            intra_only=True,
        )

    def _decode_part(self, packet: Packet) -> list[Decoded]:
        frames = self._frames(packet)
        pictures = [self._picture(frame) for frame in frames]
        if frames or not packet.size or self._codec.has_b_frames or self._size is None:
            return pictures
        damage = self._signs.take(packet.pts)
        return [Decoded(None, self._read_ns, self._ms(packet.pts), damage=damage)] if damage else []

    def _frames(self, packet: Packet) -> list[av.VideoFrame]:
        given, checked, fault = packet if packet.size else None, None, None
        if self._units is not None:
            data = bytes(packet) if packet.size else b""
            if self._slices is not None and data:
                checked = self._slices.check(self._units.split(data))
            fault = self._units.damage(data)
            if given is not None and (guarded := self._units.with_guards(data)) is not None:
                given = copy_packet(packet, guarded)
        with Log() as log:
            try:
                frames = self._codec.decode(given)
            except av.error.FFmpegError as error:
                frames, fault = [], fault or f"it can't be decoded ({error.strerror})"
        if checked is not None:
            fault = checked.result() or fault
        self._signs.decoded(packet, fault, log.lines)
        return frames

    def _picture(self, frame: av.VideoFrame) -> Decoded:
        if frame.is_corrupt:
            self._signs.found(frame.pts, "the decoder filled in parts that are missing or broken")
        if self._unwritten is not None and self._unwritten.count(frame):
            self._signs.found(frame.pts, "parts of the picture are missing")
        damage = self._signs.take(frame.pts)
        image = self._image(frame)
        stamp_ms = self._ms(frame.pts if frame.pts is not None else frame.dts)
        kind = _PICTURE_TYPES.get(int(frame.pict_type), "?")
        key = frame.key_frame and kind in ("I", "?")
        if self._unwritten is not None:
            self._unwritten.release(frame)
        self._size = image.shape[0], image.shape[1]
        return Decoded(image, self._read_ns, stamp_ms, kind, key, damage, self._waited)

    def _ms(self, stamp: int | None) -> float | None:
        base = self._stream.time_base
        return None if stamp is None or base is None else float(stamp * base) * 1e3

    def _image(self, frame: av.VideoFrame) -> Image:
        """Converts a frame to BGR as OpenCV's FFmpeg does."""
        out = self._reformatter.reformat(frame, format="bgr24", **_LIKE_OPENCV)
        plane = out.planes[0]
        shape = (out.height, out.width, 3)
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)  # type: ignore[call-overload]
        image = self._get_buffer(shape, np.dtype(np.uint8))
        if image is None:
            image = np.empty(shape, np.uint8)
        np.copyto(image.reshape(out.height, -1), rows[: out.height, : out.width * 3])
        if self._quarter_turns is None:
            self._quarter_turns = int(getattr(frame, "rotation", 0)) // 90 % 4
        turned = np.rot90(image, self._quarter_turns) if self._quarter_turns else image
        return np.ascontiguousarray(turned)  # type: ignore[return-value]

    def close(self) -> None:
        """Releases the stream."""
        if self._slices is not None:
            self._slices.close()
        self._packets.close()  # type: ignore[attr-defined]
        self._container.close()


def _cause(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _like_opencv() -> dict[str, Any]:
    """Returns the options of a conversion as OpenCV does it, in the calling thread."""
    options: dict[str, Any] = {"interpolation": Interpolation.BICUBIC}
    try:
        frame = av.VideoFrame(16, 16, "yuv420p")
        VideoReformatter().reformat(frame, format="bgr24", threads=1, **options)
    except TypeError:  # some versions of PyAV have no threads here
        return options
    return {**options, "threads": 1}


_LIKE_OPENCV = _like_opencv()
