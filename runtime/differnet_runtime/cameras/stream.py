"""Network streams, and which frames of a compressed stream or video are old or damaged.

A decoder that misses a frame shows the following ones damaged, and says nothing. A missing frame
shows as a gap between time stamps; what is wrong within a frame is reported by its reader. From
either to the next key frame, which refers to no other, frames are in quarantine. A frame predicted
from both sides (B) is known to be whole only once the following ones, up to one that is not B, have
come without a gap.
"""

from __future__ import annotations

import ssl
import statistics
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..config.grammar import redact
from ..config.models import CameraConfig, CameraTls
from ..errors import CameraError
from ..records import Frame
from ..sentences import sentence
from .base import Camera, Decoded, GetBuffer, StreamReader, convert, no_buffer
from .mjpeg import open_mjpeg

_DRIFT = 1e-3
"""Greatest drift between two clocks; a lag that grows more slowly is not detected."""


class Lag:
    """Measures how far behind a stream is: frames that wait to be decoded look new when read.

    Compares when frames arrive with when they were taken, by the camera's clock.

    Args:
        paced: Whether frames are sent at the pace of their stamps, as over RTSP. Over HTTP stamps
            may run faster than time; there a frame that had to be waited for is not late.

    Example:
        >>> lag = Lag()
        >>> behind_s = lag.seconds(read_s=12.0, stamp_ms=4000.0)
    """

    def __init__(self, paced: bool = True) -> None:
        self._paced = paced
        self._least_s: float | None = None
        self._last_s = self._lag_s = self._last_stamp_ms = 0.0

    def seconds(self, read_s: float, stamp_ms: float, waited: bool = False) -> float:
        """Returns how many seconds later this frame came than the promptest one.

        Args:
            read_s: Monotonic time after the read.
            stamp_ms: Time stamp of the stream.
            waited: Whether the read had to wait for the frame, so that none was queued behind it.
        """
        late_s = read_s - stamp_ms / 1e3
        if self._least_s is None or (waited and not self._paced):
            self._least_s = late_s
        elif stamp_ms < self._last_stamp_ms:  # the stamps were reset; frames are as late as before
            self._least_s = late_s - self._lag_s
        else:
            self._least_s = min(self._least_s + _DRIFT * (read_s - self._last_s), late_s)
        self._last_s, self._last_stamp_ms = read_s, stamp_ms
        self._lag_s = late_s - self._least_s
        return self._lag_s


_GAP_FACTOR = 1.5
"""Two frames further apart than so many intervals have a gap between them."""
_WINDOW, _FEW = 31, 5
_MOST_HELD = 16


class Quarantine:
    """Marks frames that can't be trusted; takes and returns them in presentation order.

    Args:
        fps: Frame rate in Hz that the stream declares; it may be wrong.
        live: Whether the stream is joined anywhere, and its frames come at even intervals. Those of
            a file need not, and its decoder gives nothing before the first key frame.

    Example:
        >>> quarantine = Quarantine(fps=25.0)
        >>> frames = quarantine.judge(frame, decoded)
    """

    def __init__(self, fps: float | None = None, *, live: bool = True) -> None:
        self._live = live
        self._intervals: deque[float] = deque(maxlen=_WINDOW)
        self._declared_ms = [1e3 / fps] if fps else []
        self._last_ms: float | None = None
        self._damage = sentence("stream_no_key_frame") if live else None
        self._held: list[Frame] = []

    def judge(self, frame: Frame, decoded: Decoded) -> list[Frame]:
        """Takes the next frame.

        Args:
            frame: The frame, with its `stream_ms` and the damage that its reader found.
            decoded: What its reader knows of it.

        Returns:
            The frames that are now known to be whole or damaged, as their `damage` says.
        """
        if decoded.intra_only:
            return [frame]
        gap = self._gap(frame.stream_ms) if self._live and frame.stream_ms is not None else None
        own = frame.damage
        if decoded.picture_type == "B" and (own or gap or self._damage) is None:
            self._held.append(frame)
            if len(self._held) <= _MOST_HELD:
                return []
            return self._release(sentence("stream_frames_wait", most=_MOST_HELD))
        released = self._release(_after(own) if own else gap)
        damage = None if decoded.key else gap or self._damage
        self._damage = _after(own) if own else damage
        return [*released, replace(frame, damage=own or damage)]

    def lose(self, damage: str) -> list[Frame]:
        """Takes that a picture is missing; returns the frames that waited for it."""
        self._damage = _after(damage)
        return self._release(self._damage)

    def rest(self) -> list[Frame]:
        """Returns the frames that still wait, at the end of a file."""
        return self._release(None)

    def _release(self, damage: str | None) -> list[Frame]:
        released = [replace(frame, damage=damage) for frame in self._held]
        self._held = []
        return released

    def _gap(self, stamp_ms: float) -> str | None:
        last_ms, self._last_ms = self._last_ms, stamp_ms
        if last_ms is None:
            return None
        passed_ms, usual_ms = stamp_ms - last_ms, self._usual_ms()
        if passed_ms <= 0:
            return sentence("stream_jumped")
        self._intervals.append(passed_ms)
        if usual_ms is not None and passed_ms <= _GAP_FACTOR * usual_ms:
            return None
        usual = "not known yet" if usual_ms is None else f"{usual_ms:.1f} ms"
        return sentence("stream_gap", passed_ms=passed_ms, usual=usual)

    def _usual_ms(self) -> float | None:
        """Returns the median interval; the shortest while few are known."""
        if len(self._intervals) >= _FEW:
            return statistics.median_low(self._intervals)
        return min([*self._intervals, *self._declared_ms], default=None)


def _after(damage: str) -> str:
    return sentence("stream_after_damage", why=damage)


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
