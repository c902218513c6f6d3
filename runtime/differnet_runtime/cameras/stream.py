"""Network streams: old and damaged frames are marked, and certificates are checked."""

from __future__ import annotations

import ssl
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..config.grammar import redact
from ..config.models import CameraConfig, CameraTls
from ..errors import CameraError
from ..records import Frame
from ..sentences import sentence
from .base import Camera, Decoded, GetBuffer, StreamReader, convert, no_buffer
from .damage import Lag, Quarantine
from .mjpeg import open_mjpeg

_LEAST_OPEN_S = 3.0
_MOST_LAG = 0.9
"""Greatest lag as a share of `stall_s`, after which the station counts a camera as stalled."""
_SOCKET_BYTES = 4 << 20
"""For a key frame that comes at once; the system may allow less (net.core.rmem_max)."""
_SYSTEM_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
"""Debian's, and so Ubuntu's and JetPack's."""
_SEPARATORS = ";|"
"""OpenCV's separators between FFmpeg's options."""


def open_limit_s(stall_s: float) -> float:
    """Returns how many seconds a stream may take to open."""
    return max(_LEAST_OPEN_S, stall_s)


class StreamCamera(Camera):
    """Reads RTSP, HTTP and whatever else FFmpeg reads by URL.

    Frames that waited to be decoded are stamped with the time they were taken: their lag behind the
    promptest frame of this connection, by the camera's clock. A delay that all frames share, as the
    network's, is not known. Over HTTP a frame that had to be waited for counts as prompt.

    Args:
        config: The camera's configuration; its source is the URL.
        get_buffer: Where frames may be read into.

    Raises:
        CameraError: The stream can't be opened.

    Example:
        >>> camera = StreamCamera(CameraConfig(source="rtsp://10.0.0.7/live", kind="stream"))
    """

    live = True

    def __init__(self, config: CameraConfig, get_buffer: GetBuffer = no_buffer) -> None:
        self._config, self.source = config, redact(config.source)
        try:
            self._reader = _open_reader(config, config.tls or CameraTls(), get_buffer)
        except CameraError as error:
            cause = _with_certificate_hint(str(error)).removeprefix(f"{self.source}: ")
            raise CameraError(
                sentence("stream_not_opened", source=self.source, why=cause)
            ) from error
        self.settings = self._reader.settings
        self._quarantine = Quarantine(self._reader.fps)
        self._lag = Lag(paced=_is_rtsp(config.source))
        self._size: tuple[int, int] | None = None
        self._judged: deque[Frame] = deque()

    def read(self) -> Frame | None:
        """Waits for the next frame that is known to be whole or damaged; see `Camera.read`."""
        while not self._judged:
            decoded = self._reader.read()
            if decoded is None:
                raise CameraError(sentence("stream_ended", source=self.source, frames=self._index))
            if decoded.image is not None or self._size is not None:
                self._judge(decoded)
        return self._judged.popleft()

    def _judge(self, decoded: Decoded) -> None:
        image = decoded.image
        if image is None:  # a black image stands for one that can't be decoded
            image = np.zeros((*(self._size or (1, 1)), 3), np.uint8)
        self._size = image.shape[0], image.shape[1]
        captured_ns = decoded.arrived_ns - round(self._behind_s(decoded) * 1e9)
        frame = Frame(
            convert(image, self._config.format),
            *self._next_name(),
            captured_ns,
            time.time() - (time.monotonic_ns() - captured_ns) / 1e9,
            decoded.stamp_ms,
            decoded.damage,
        )
        self._judged.extend(self._quarantine.judge(frame, decoded))

    def _behind_s(self, decoded: Decoded) -> float:
        """Returns the lag; raises where it grows, since a stream that is opened again has none."""
        if decoded.stamp_ms is None:
            return 0.0
        read_s = decoded.arrived_ns / 1e9
        behind_s = self._lag.seconds(read_s, decoded.stamp_ms, decoded.waited)
        if behind_s > _MOST_LAG * self._config.stall_s:
            raise CameraError(sentence("stream_slow", source=self.source, behind_s=behind_s))
        return behind_s

    def close(self) -> None:
        """Releases the stream; never call it while another thread reads."""
        self._reader.close()


def _is_rtsp(source: str) -> bool:
    return source.lower().startswith("rtsp")


def _open_reader(config: CameraConfig, tls: CameraTls, get_buffer: GetBuffer) -> StreamReader:
    # The station ends a camera that stalls; a read that takes longer than that ends by itself.
    timeouts_s = open_limit_s(config.stall_s), config.stall_s + 1
    http = config.source.lower().startswith("http")
    if http and (mjpeg := open_mjpeg(config.source, tls, timeouts_s)) is not None:
        return mjpeg
    # The frame rate need not be measured over twenty frames before the first is given: the
    # quarantine finds out a wrong one.
    options = {"fpsprobesize": "3"}
    if http:
        options["max_redirects"] = "0"
    if config.source.lower().startswith(("https://", "rtsps://")):
        options |= _tls_options(tls)
    if _is_rtsp(config.source):
        # TCP loses nothing by itself, but cameras do. FFmpeg reports a lost packet only if it puts
        # a few packets in order.
        waiting = "8" if config.transport == "tcp" else "500"
        options |= {"rtsp_transport": config.transport, "reorder_queue_size": waiting}
        options["buffer_size"] = str(_SOCKET_BYTES)
    try:
        from .libav import LibavReader
    except ImportError:
        from .opencv import OpenCvStream

        return OpenCvStream(config.source, options, timeouts_s, get_buffer)
    return LibavReader(
        config.source,
        options=options,
        timeouts_s=timeouts_s,
        get_buffer=get_buffer,
        check_h265=config.check_h265,
    )


def _tls_options(tls: CameraTls) -> Mapping[str, str]:
    """Returns FFmpeg's options to check a certificate, which it does not do by default.

    Raises:
        CameraError: There is no file of certificate authorities.
    """
    if not tls.verify:
        return {"tls_verify": "0"}
    file = Path(tls.ca or ssl.get_default_verify_paths().cafile or _SYSTEM_AUTHORITIES)
    if not tls.ca and not file.is_file():
        raise CameraError(
            "this system has no file of certificate authorities: install Debian's "
            "ca-certificates, or name the camera's authority in tls.ca"
        )
    if any(mark in str(file) for mark in _SEPARATORS):
        raise CameraError(f"tls.ca: {file}: use a path without {' and '.join(_SEPARATORS)}")
    return {"tls_verify": "1", "ca_file": str(file)}


def _with_certificate_hint(text: str) -> str:
    if "certificate" not in text.lower():
        return text
    return (
        f"{text}. If the camera signed its own certificate, save that as a file and name it "
        "in [camera.NAME.tls] ca, or for a command in SSL_CERT_FILE; verify = false accepts any"
    )
