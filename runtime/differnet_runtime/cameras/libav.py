"""Streams and video files through PyAV: the boundary of FFmpeg's libraries and their errors.

What is missing in a picture is known from several places: a packet whose transport counted a loss
(MPEG-TS, RTP), units that break the rules of their codec, the decoder's errors, its own mark on the
picture it filled up, and blocks that it never wrote. Each marks the picture it belongs to; what
refers to that picture is `damage.Quarantine`'s matter.

Blocks of a picture that its decoder never wrote.

FFmpeg's decoder of H.265 says nothing of a slice that is missing, or that ends too early: where it
would be, the memory keeps an older picture. So all memory that a decoder gets is zero: new memory
is, and what it gets again is wiped here first. A block whose brightness and both colours are zero
is no colour that a picture can have.

Video files through PyAV: every frame once, and what is damaged in them marked.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import av.error
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from ..config.grammar import redact
from ..errors import CameraError, ImageReadError
from ..records import MOST_PIXELS, Frame, Image
from ..sentences import sentence
from .base import Camera, Decoded, Room, Setting, StreamReader, no_room, whole_or_partial
from .bitstream import Units
from .damage import Quarantine
from .signs import NOT_SEEN, Log, Parting, Signs, SliceEnds, copied, parses

if TYPE_CHECKING:
    from av import VideoFrame


_HELD = 8
"""Pictures kept until the decoder needs them no more as references; cameras use one to four."""
_STEP = 8
"""Chroma samples between those that are looked at: half the smallest coding tree block."""
_MIDDLE = _STEP // 2


class Unwritten:
    """Looks at a decoder's pictures, and wipes their memory before it is used again."""

    def __init__(self) -> None:
        self._held: deque[VideoFrame] = deque()

    def blocks(self, frame: VideoFrame) -> int:
        """Returns how many of the looked-at places of a picture were never written."""
        if len(frame.planes) != 3:
            return 0  # grey, or of a kind that needs no look
        luma, blue, red = (_samples(frame, plane) for plane in range(3))
        down, across = (max(1, luma.shape[axis] // blue.shape[axis]) for axis in (0, 1))
        zero = (blue[_MIDDLE::_STEP, _MIDDLE::_STEP] == 0) & (
            red[_MIDDLE::_STEP, _MIDDLE::_STEP] == 0
        )
        rows, columns = zero.shape
        bright = luma[_MIDDLE * down :: _STEP * down, _MIDDLE * across :: _STEP * across]
        return int((zero & (bright[:rows, :columns] == 0)).sum())

    def release(self, frame: VideoFrame) -> None:
        """Gives a picture's memory back to the decoder, wiped, once that needs it no more."""
        self._held.append(frame)
        if len(self._held) > _HELD:
            last = self._held.popleft()
            last.make_writable()  # a copy, where the decoder still refers to it
            for plane in last.planes:
                np.frombuffer(plane, np.uint8)[:] = 0  # type: ignore[call-overload]


def _samples(frame: VideoFrame, index: int) -> NDArray[np.generic]:
    plane = frame.planes[index]
    dtype = np.uint16 if frame.format.components[index].bits > 8 else np.uint8
    rows = np.frombuffer(plane, dtype).reshape(-1, plane.line_size // np.dtype(dtype).itemsize)  # type: ignore[call-overload]
    samples: NDArray[np.generic] = rows[: plane.height, : plane.width]
    return samples


if TYPE_CHECKING:
    Packet = av.Packet[Any]

_MOST_FPS = 1000.0
_PICTURES = {1: "I", 2: "P", 3: "B"}
_CODECS = ("h264", "hevc")
_WAIT_NS = 2_000_000
"""A read that takes so long had to wait for data."""
_RECOVERIES = 10
"""Failed reads in a row after which a source has ended."""


class LibavReader(StreamReader):
    """Reads the first video stream of a URL or a file.

    Args:
        source: The URL or path.
        options: Of FFmpeg's protocol and container.
        timeouts_s: For opening, and for a read; None waits as long as it takes.
        room: Where pictures may be read into.
        ends_within: What is wrong with the last packet, where the file is known to end within it.
        check_h265: Whether H.265's slices are looked at a second time, by `SliceEnds`.

    Raises:
        CameraError: It can't be opened, or holds no video.
    """

    def __init__(
        self,
        source: str,
        *,
        options: Mapping[str, str] | None = None,
        timeouts_s: tuple[float, float] | None = None,
        room: Room = no_room,
        ends_within: str | None = None,
        check_h265: bool = True,
    ) -> None:
        self._ends_within = ends_within
        self._ahead: Packet | None = None
        self._title, self._room, self._timeouts_s = redact(source), room, timeouts_s
        with Log() as log:
            try:
                self._container = av.open(source, options=dict(options or {}), timeout=timeouts_s)
            except (av.error.FFmpegError, OSError, ValueError) as error:
                raise CameraError(f"{self._title}: {_cause(error, log)}") from error
        if not self._container.streams.video:
            self._container.close()
            raise CameraError(f"{self._title}: there is no video in it")
        self._stream = self._container.streams.video[0]
        self.format = self._container.format.name
        rate = float(self._stream.average_rate or self._stream.guessed_rate or 0)
        self.fps = rate if 0 < rate <= _MOST_FPS else None
        self.promised = self._stream.frames
        """Packets that the file says it has; 0 where it doesn't say."""
        self.packets = 0
        self._codec = self._stream.codec_context
        self._codec.thread_count = 1  # each further one is a frame of delay
        # Check sums are compared, where pictures have them: of H.265 (MD5), of FFV1.
        self._codec.options = {"max_pixels": str(MOST_PIXELS), "err_detect": "crccheck"}
        self._jpeg = self._codec.name == "mjpeg"
        units = self._codec.name in _CODECS
        self._units = Units(self._codec.name, self._codec.extradata) if units else None
        hevc = self._codec.name == "hevc"
        self._unwritten = Unwritten() if hevc else None
        self._slices = self._opened_slices() if hevc and check_h265 else None
        self._signs = Signs(ends_shown=not hevc or self._slices is not None)
        ends_seen = self._slices is not None
        self._parting = Parting(self._units, self._signs) if self._units and ends_seen else None
        self._signs.opened(self._stream.index, log.lines)
        self._reformat = VideoReformatter()
        self._packets = self._container.demux(self._stream)
        self._ready: deque[Decoded] = deque()
        self._size: tuple[int, int] | None = None
        self._turns: int | None = None
        """Of the first picture; a later one that is turned otherwise shows a broken message."""
        self._read_ns, self._waited, self._failed = 0, True, 0
        self._over = False

    def _opened_slices(self) -> SliceEnds | None:
        if self._units is None or not parses(self._codec.profile):
            return None
        try:
            slices = SliceEnds()
        except OSError:
            self.not_seen = NOT_SEEN
            return None
        slices.damage(self._units.told)
        return slices

    def read(self) -> Decoded | None:
        """Waits for the next picture; see `StreamReader.read`."""
        while not self._ready:
            if self._over:
                return None
            packet = self._next_packet() if self._ends_within is None else self._next_but_one()
            if packet is None:
                self._over = True
            else:
                self._ready.extend(self._decoded(packet))
        return self._ready.popleft()

    def _next_but_one(self) -> Packet | None:
        """Returns packets one late, so that the last one is known for it."""
        packet, self._ahead = self._ahead or self._next_packet(), self._next_packet()
        if packet is not None and packet.size and not (self._ahead and self._ahead.size):
            self._signs.mark(packet.pts, self._ends_within or "")
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
                    if not self._recovered():
                        raise CameraError(f"{self._title}: {_cause(error, log)}") from error
                    self._signs.lost(sentence("stream_part_unreadable"))
                    continue
            self._failed = 0
            self._read_ns = time.monotonic_ns()
            self._waited = self._read_ns - begun_ns > _WAIT_NS
            self._signs.demuxed(packet, log.lines, self._waited)
            self.packets += packet.size > 0
            return packet

    def _recovered(self) -> bool:
        """Reads on behind what can't be read, unless that is all there is."""
        self._failed += 1
        self._packets = self._container.demux(self._stream)
        return self._failed <= _RECOVERIES

    def _decoded(self, packet: Packet) -> list[Decoded]:
        if self._jpeg:
            return [self._from_jpeg(packet)] if packet.size else []
        return [picture for part in self._parted(packet) for picture in self._pictures(part)]

    def _parted(self, packet: Packet) -> list[Packet]:
        if self._parting is None or not packet.size:
            return [packet]
        return self._parting.parts(packet, in_order=not self._codec.has_b_frames)

    def _pictures(self, packet: Packet) -> list[Decoded]:
        frames = self._frames(packet)
        pictures = [self._picture(frame) for frame in frames]
        if frames or not packet.size or self._codec.has_b_frames or self._size is None:
            return pictures
        damage = self._signs.of(packet.pts)
        if damage is None:
            return []
        return [Decoded(None, self._read_ns, self._ms(packet.pts), damage=damage)]

    def _frames(self, packet: Packet) -> list[av.VideoFrame]:
        data = bytes(packet) if self._units is not None and packet.size else b""
        checked = None
        if self._slices is not None and self._units is not None and data:
            checked = self._slices.damage(self._units.split(data))
        fault = self._units.damage(data) if self._units is not None else None
        with Log() as log:
            try:
                frames = self._codec.decode(self._guarded(packet, data))
            except av.error.FFmpegError as error:
                frames, fault = [], fault or f"it can't be decoded ({error.strerror})"
        if checked is not None:
            fault = checked.result() or fault
        self._signs.decoded(packet, fault, log.lines)
        return frames

    def _guarded(self, packet: Packet, data: bytes) -> Packet | None:
        if not packet.size:
            return None
        guarded = self._units.guarded(data) if self._units is not None else None
        if guarded is None:
            return packet
        return copied(packet, guarded)

    def _picture(self, frame: av.VideoFrame) -> Decoded:
        if frame.is_corrupt:
            self._signs.found(frame.pts, "the decoder filled in parts that are missing or broken")
        if self._unwritten is not None and self._unwritten.blocks(frame):
            self._signs.found(frame.pts, "parts of the picture are missing")
        damage = self._signs.of(frame.pts)
        image = self._image(frame)
        stamp_ms = self._ms(frame.pts if frame.pts is not None else frame.dts)
        picture = _PICTURES.get(int(frame.pict_type), "?")
        key = frame.key_frame and picture in ("I", "?")
        if self._unwritten is not None:
            self._unwritten.release(frame)
        self._size = image.shape[0], image.shape[1]
        return Decoded(image, self._read_ns, stamp_ms, picture, key, damage, self._waited)

    def _ms(self, stamp: int | None) -> float | None:
        base = self._stream.time_base
        return None if stamp is None or base is None else float(stamp * base) * 1e3

    def _image(self, frame: av.VideoFrame) -> Image:
        """Returns the picture as OpenCV's FFmpeg would give it."""
        out = self._reformat.reformat(frame, format="bgr24", **_LIKE_OPENCV)
        plane = out.planes[0]
        shape = (out.height, out.width, 3)
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)  # type: ignore[call-overload]
        image = self._room(shape, np.dtype(np.uint8))
        if image is None:
            image = np.empty(shape, np.uint8)
        np.copyto(image.reshape(out.height, -1), rows[: out.height, : out.width * 3])
        if self._turns is None:
            self._turns = int(getattr(frame, "rotation", 0)) // 90 % 4
        turned = np.rot90(image, self._turns) if self._turns else image
        return np.ascontiguousarray(turned)  # type: ignore[return-value]

    def _from_jpeg(self, packet: Packet) -> Decoded:
        image, damage = whole_or_partial(bytes(packet))
        damage = self._signs.of(packet.pts) or damage
        self._size = image.shape[:2] if image is not None else self._size
        return Decoded(
            image,
            self._read_ns,
            self._ms(packet.pts),
            damage=damage,
            waited=self._waited,
            key=True,
            alone=True,
        )

    def close(self) -> None:
        """Releases the stream."""
        if self._slices is not None:
            self._slices.close()
        self._packets.close()  # type: ignore[attr-defined]
        self._container.close()


def _cause(error: Exception, log: Log) -> str:
    said = [text for _level, text in log.lines]
    return "; ".join(dict.fromkeys([*said[-2:], getattr(error, "strerror", None) or str(error)]))


def _like_opencv() -> dict[str, Any]:
    """Returns how a picture is converted: as OpenCV does it, in this thread."""
    how: dict[str, Any] = {"interpolation": Interpolation.BICUBIC}
    try:
        frame = av.VideoFrame(16, 16, "yuv420p")
        VideoReformatter().reformat(frame, format="bgr24", threads=1, **how)
    except TypeError:  # some versions of PyAV have no threads here
        return how
    return {**how, "threads": 1}


_LIKE_OPENCV = _like_opencv()


_TS_PACKETS = (188, 192, 204)
_TS_SYNC = 0x47


class LibavVideo(Camera):
    """Reads a video file.

    Args:
        path: A video in any container and codec that FFmpeg reads.
        room: Where frames may be read into.
        check_h265: See `LibavReader`.

    Raises:
        CameraError: It can't be opened.
    """

    live = False

    def __init__(self, path: str, room: Room = no_room, *, check_h265: bool = True) -> None:
        self._path, self._name = path, Path(path).name
        try:
            self._reader = LibavReader(
                path, room=room, ends_within=_ends_within(Path(path)), check_h265=check_h265
            )
        except CameraError as error:
            raise CameraError(
                f"{error}: FFmpeg can't open it as a video; pictures are recognised by their file "
                "extension"
            ) from error
        if self._reader.not_seen is not None:
            self.settings = (Setting("decoder", None, None, self._reader.not_seen),)
        self.fps = self._reader.fps
        self.length = self._reader.promised or None
        self._quarantine = Quarantine(live=False)
        self._judged: deque[Frame | ImageReadError] = deque()
        self._index, self._ended = 0, False

    def read(self) -> Frame | None:
        """Reads the next frame; see `Camera.read`."""
        while not self._judged and not self._ended:
            decoded = self._reader.read()
            if decoded is None:
                self._ended = True
                self._judged.extend(self._quarantine.rest())
                self._refuse_loss()
            else:
                self._judge(decoded)
        judged = self._judged.popleft() if self._judged else None
        if isinstance(judged, ImageReadError):
            raise judged
        return judged

    def _judge(self, decoded: Decoded) -> None:
        index, self._index = self._index, self._index + 1
        name = f"{self._name}#{index}"
        if decoded.image is None:
            cause = decoded.damage or "it can't be decoded"
            if not decoded.alone:
                self._judged.extend(self._quarantine.lose(cause))
            self._judged.append(ImageReadError(name, cause))
            return
        frame = Frame(
            decoded.image,
            name,
            index,
            time.monotonic_ns(),
            time.time(),
            decoded.stamp_ms,
            decoded.damage,
        )
        alone = decoded.alone
        judged = [frame] if alone else self._quarantine.judge(frame, decoded.picture, decoded.key)
        self._judged.extend(judged)

    def _refuse_loss(self) -> None:
        """Raises where the file ends before it says it would."""
        if not self._index:
            raise CameraError(f"{self._path}: the video opens, but holds no frame to decode")
        promised, found = self._reader.promised, self._reader.packets
        if found < promised - max(2, promised // 50):  # some files only estimate it
            raise ImageReadError(
                f"{self._name}#{self._index}",
                f"the video promises {promised} frames and ends after {found}; it may be cut short",
            )

    def close(self) -> None:
        """Releases the file."""
        self._reader.close()

    def describe(self) -> str:
        """Returns the path."""
        return self._path


def _ends_within(path: Path) -> str | None:
    """Returns what is wrong with the last packet of a transport stream that was cut."""
    try:
        with path.open("rb") as file:
            data = file.read(1)
        size = path.stat().st_size
    except OSError:
        return None
    if data != bytes([_TS_SYNC]) or any(size % packet == 0 for packet in _TS_PACKETS):
        return None
    return "the file ends within it"
