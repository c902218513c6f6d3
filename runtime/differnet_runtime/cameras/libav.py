"""Streams and video files through PyAV: the boundary of FFmpeg's libraries and their errors.

Damage of a picture shows in several places: a packet whose transport counted a loss (MPEG-TS, RTP),
units that break the rules of their codec, the decoder's errors, its own mark on a picture it filled
up, and blocks that it never wrote. Each marks the picture it belongs to; `damage.Quarantine` then
holds back the pictures that refer to it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import av
import av.error
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from ..config.grammar import redact
from ..errors import CameraError
from ..records import MOST_PIXELS, Image
from ..sentences import sentence
from .base import Decoded, GetBuffer, StreamReader, decode_partial_jpeg, no_buffer, plausible_fps
from .bitstream import Units
from .h265 import NOT_SEEN, PacketSplitter, SliceEnds, UnwrittenBlocks, copy_packet, parses
from .signs import Log, Signs

if TYPE_CHECKING:
    Packet = av.Packet[Any]

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
