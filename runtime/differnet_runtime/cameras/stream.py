"""Network streams, read so that old and damaged frames are told."""

from __future__ import annotations

import time
from collections import deque

from ..config.grammar import redact
from ..config.models import CameraConfig, CameraTls
from ..errors import CameraError
from ..records import Frame
from ..sentences import sentence
from .base import Camera, Decoded, Room, Setting, StreamReader, blank, convert, no_room
from .damage import Lag, Quarantine
from .mjpeg import explained, ffmpeg_options, is_encrypted, open_mjpeg

_LEAST_OPEN_S = 3.0
_MOST_LAG = 0.9
"""Of the time after which the daemon takes a camera for stalled, by these very stamps."""
_SOCKET_BYTES = 4 << 20
"""For a key frame that comes at once; the system may allow less (net.core.rmem_max)."""


def open_limit_s(stall_s: float) -> float:
    """Returns how long a stream may take to open."""
    return max(_LEAST_OPEN_S, stall_s)


class StreamCamera(Camera):
    """Reads RTSP, HTTP and whatever else FFmpeg knows by URL.

    Frames that wait to be decoded are stamped when they were taken: the lag behind the promptest
    frame of this connection is known by the camera's clock. What all frames are late by, as the
    network's delay, is not. Over HTTP a frame that had to be waited for counts as prompt.

    Args:
        config: Of the camera.
        room: Where frames may be read into.

    Raises:
        CameraError: It can't be opened.
    """

    live = True

    def __init__(self, config: CameraConfig, room: Room = no_room) -> None:
        self._config, self._source = config, redact(config.source)
        try:
            self._reader = _opened(config, room)
        except CameraError as error:
            cause = str(error).removeprefix(f"{self._source}: ")
            raise CameraError(
                sentence("stream_not_opened", source=self._source, why=cause)
            ) from error
        if self._reader.not_seen is not None:
            self.settings = (Setting("decoder", None, None, self._reader.not_seen),)
        self._quarantine = Quarantine(self._reader.fps)
        self._lag = Lag(paced=_is_rtsp(config.source))
        self._index = 0
        self._size: tuple[int, int] | None = None
        self._judged: deque[Frame] = deque()

    def read(self) -> Frame | None:
        """Waits for the next frame of which it is known whether it is whole; see `Camera.read`."""
        while not self._judged:
            decoded = self._reader.read()
            if decoded is None:
                raise CameraError(sentence("stream_ended", source=self._source, frames=self._index))
            if decoded.image is not None or self._size is not None:
                self._judge(decoded)
        return self._judged.popleft()

    def _judge(self, decoded: Decoded) -> None:
        image = blank(self._size or (1, 1)) if decoded.image is None else decoded.image
        self._size = image.shape[0], image.shape[1]
        captured_ns = decoded.arrived_ns - round(self._behind_s(decoded) * 1e9)
        frame = Frame(
            convert(image, self._config.format),
            f"{self._source}#{self._index}",
            self._index,
            captured_ns,
            time.time() - (time.monotonic_ns() - captured_ns) / 1e9,
            decoded.stamp_ms,
            decoded.damage,
        )
        self._index += 1
        if decoded.alone:
            self._judged.append(frame)
        else:
            self._judged.extend(self._quarantine.judge(frame, decoded.picture, decoded.key))

    def _behind_s(self, decoded: Decoded) -> float:
        """Raises where frames are read later and later; opened again, the stream starts anew."""
        if decoded.stamp_ms is None:
            return 0.0
        read_s = decoded.arrived_ns / 1e9
        behind_s = self._lag.seconds(read_s, decoded.stamp_ms, decoded.waited)
        if behind_s > _MOST_LAG * self._config.stall_s:
            raise CameraError(sentence("stream_slow", source=self._source, behind_s=behind_s))
        return behind_s

    def close(self) -> None:
        """Releases the stream; never call it while another thread reads."""
        self._reader.close()

    def describe(self) -> str:
        """Returns the URL without its password."""
        return self._source


def _is_rtsp(source: str) -> bool:
    return source.lower().startswith("rtsp")


def _opened(config: CameraConfig, room: Room) -> StreamReader:
    try:
        return _reader(config, config.tls or CameraTls(), room)
    except CameraError as error:
        raise explained(error) from error


def _reader(config: CameraConfig, tls: CameraTls, room: Room) -> StreamReader:
    # The daemon ends a camera that stalls; a read that takes longer than that ends by itself.
    timeouts_s = open_limit_s(config.stall_s), config.stall_s + 1
    http = config.source.lower().startswith("http")
    if http and (mjpeg := open_mjpeg(config.source, tls, timeouts_s)) is not None:
        return mjpeg
    # The frame rate need not be measured over twenty frames before the first is given: a wrong
    # one is found out by the quarantine.
    options = {"fpsprobesize": "3"}
    if http:
        options["max_redirects"] = "0"
    if is_encrypted(config.source):
        options |= ffmpeg_options(tls)
    if _is_rtsp(config.source):
        # TCP loses nothing by itself, but cameras do. A few packets are looked at in their order,
        # without which a lost one is not told of.
        waiting = "8" if config.transport == "tcp" else "500"
        options |= {"rtsp_transport": config.transport, "reorder_queue_size": waiting}
        options["buffer_size"] = str(_SOCKET_BYTES)
    try:
        from .libav import LibavReader
    except ImportError:
        from .opencv import OpenCvStream

        return OpenCvStream(config.source, options, timeouts_s, room)
    return LibavReader(
        config.source,
        options=options,
        timeouts_s=timeouts_s,
        room=room,
        check_h265=config.check_h265,
    )
