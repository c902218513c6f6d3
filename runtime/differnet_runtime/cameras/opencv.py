"""Video files, camera devices and network streams through OpenCV; the boundary of its errors.

A network stream that stalls makes OpenCV wait for the read timeout and then hand out the last
frame again, as if it were new; so a read that takes that long counts as a lost camera. Nothing
here reconnects, and a reader slower than a stream falls behind: both belong to the service,
which keeps the capture in a process of its own.

Network streams through OpenCV's FFmpeg, where PyAV is not installed.

A stream that stalls makes OpenCV wait for its read timeout and then give the last frame again, as
if it were new: only a time stamp that advances makes a frame new. What the decoder knew of a
picture is not told: of a damaged stream only gaps between time stamps are seen.

A camera at this machine (V4L2, USB): set as configured, and read back.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from ..config.grammar import redact
from ..config.models import CameraConfig, PixelFormat
from ..errors import CameraError, ImageReadError
from ..installation import install_line
from ..records import Frame, Image
from ..sentences import sentence
from .base import (
    Camera,
    CaptureReader,
    Decoded,
    Room,
    StreamReader,
    apply_settings,
    convert,
    no_room,
    whole_or_partial,
)

Kind = Literal["file", "device", "url"]

TIMEOUT_MS = 5000
MJPG = "MJPG"
_MOST_FPS = 1000.0
_ATTEMPTS = 10
"""Failed reads in a row that end a source: a single one may be one damaged packet."""


class OpenCvCamera(Camera):
    """Reads a video file, a device or a network stream.

    Args:
        source: Path of a video, index or path of a device, or a URL.
        kind: Which of the three.
        timeout_ms: For a URL: the longest wait for the connection, and for a frame.
        fourcc: Asked of a device; any but MJPG is raw, and handed out as it comes. JPEGs are
            decoded here, strictly, where the driver gives them as they are.
        room: Where frames may be read into.

    Raises:
        CameraError: It can't be opened.
    """

    def __init__(
        self,
        source: str,
        kind: Kind,
        *,
        timeout_ms: int = TIMEOUT_MS,
        fourcc: str = MJPG,
        room: Room = no_room,
    ) -> None:
        self._source = redact(source)
        self._label = Path(source).name if kind == "file" else self._source
        self._kind = kind
        self._timeout_s = timeout_ms / 1e3
        self.live = kind != "file"
        self.fps: float | None = None
        """Of a file, where it says so."""
        self._index = self._promised = 0
        self._waiting: Image | None = None
        self._jpegs = kind == "device" and fourcc == MJPG
        self._damage: str | None = None
        self._capture = _open(source, kind, timeout_ms, fourcc)
        if not self._capture.isOpened():
            self._capture.release()
            raise CameraError(_not_opened(self._source, kind))
        self._reader = CaptureReader(self._capture, no_room if self._jpegs else room)
        if kind == "device":
            self.controls = self._capture
        if kind == "file":
            fps = self._capture.get(cv2.CAP_PROP_FPS)
            self.fps = fps if 0 < fps <= _MOST_FPS else None
            self._promised = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))
            self.length = self._promised or None

    def read(self) -> Frame | None:
        """Reads the next frame; see `Camera.read`.

        A frame that can't be decoded is reported once a later one could be.
        """
        index, image, failures = self._index, self._waiting, 0
        self._waiting = None
        while image is None and failures < _ATTEMPTS:
            image = self._read_once()
            failures += image is None
        if image is None:
            self._refuse_loss()
            return None
        self._index += 1
        name = f"{self._label}#{index}"
        if failures:
            self._waiting = image
            raise ImageReadError(name, f"{failures} frame(s) can't be decoded")
        damage, self._damage = self._damage, None
        return Frame(image, name, index, time.monotonic_ns(), time.time(), damage=damage)

    def _read_once(self) -> Image | None:
        start = time.monotonic()
        image = self._reader.read()
        waited_s = time.monotonic() - start
        if self._kind == "url" and waited_s >= self._timeout_s * 0.98:
            raise CameraError(
                sentence("device_late", source=self._source, waited_s=waited_s, frames=self._index)
            )
        return self._from_device(image) if self._jpegs and image is not None else image

    def _from_device(self, image: Image) -> Image | None:
        """Decodes what a driver gave: a JPEG, YUYV of a camera that has no MJPG, or a picture."""
        if image.ndim == 3 and image.shape[2] == 2:
            return cv2.cvtColor(image, cv2.COLOR_YUV2BGR_YUYV).astype(np.uint8, copy=False)
        if image.ndim == 3 and image.shape[2] != 1:
            return image
        picture, self._damage = whole_or_partial(image.tobytes())
        return picture

    def _refuse_loss(self) -> None:
        """Raises unless no frame left means that a video is at its end."""
        if self.live:
            raise CameraError(sentence("device_ended", source=self._source, frames=self._index))
        if self._index == 0:
            raise CameraError(f"{self._source}: the video opens, but holds no frame to decode")
        promised, self._promised = self._promised, 0
        if self._index < promised - max(2, promised // 50):  # some files only estimate it
            raise ImageReadError(
                f"{self._label}#{self._index}",
                f"the video promises {promised} frames and ends after {self._index}; it may be "
                "cut short",
            )

    def close(self) -> None:
        """Releases the capture; never call it while another thread reads (OpenCV crashes)."""
        self._capture.release()

    def describe(self) -> str:
        """Returns the path, the device or the URL without its password."""
        return self._source


_NOT_OPENED: dict[Kind, str] = {
    "file": "OpenCV can't open it as a video; pictures are recognised by their file extension",
    "url": (
        "the stream can't be opened. Look at address, user, password and network, and whether "
        "this OpenCV has FFmpeg (`python -c 'import cv2; print(cv2.getBuildInformation())'`)"
    ),
}


def _not_opened(source: str, kind: Kind) -> str:
    if kind == "device":
        return sentence("device_not_opened", source=source)
    return f"{source}: {_NOT_OPENED[kind]}"


def _open(source: str, kind: Kind, timeout_ms: int, fourcc: str) -> cv2.VideoCapture:
    if kind == "file":
        return cv2.VideoCapture(source)
    if kind == "url":
        # Only as constructor arguments, and only for FFmpeg, do the timeouts take effect.
        timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, timeout_ms]
        timeouts += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, timeout_ms]
        return cv2.VideoCapture(source, cv2.CAP_FFMPEG, timeouts)
    driver = cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY
    capture = cv2.VideoCapture(int(source) if source.isdecimal() else source, driver)
    if capture.isOpened():
        # Left to choose, USB cameras send YUYV: sixteen times the data, and fewer frames.
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*fourcc))
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        if fourcc != MJPG or sys.platform == "linux":
            capture.set(cv2.CAP_PROP_CONVERT_RGB, 0)  # OpenCV's decoder fills gaps in silence
    return capture


"""Failed reads in a row that end a stream: a single one may be one damaged packet."""
_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
_PICTURES = frozenset(map(ord, "IPB"))


def not_seen() -> str:
    """Returns what OpenCV can't tell of a stream or video, and what would."""
    return sentence("decoder_blind", command=install_line("streams"))


class OpenCvStream(StreamReader):
    """Reads what FFmpeg knows by URL; in a process of its own.

    Args:
        source: The URL.
        options: Of FFmpeg's protocol and container.
        timeouts_s: For opening, and for a read.
        room: Where pictures may be read into.

    Raises:
        CameraError: It can't be opened.
    """

    def __init__(
        self, source: str, options: Mapping[str, str], timeouts_s: tuple[float, float], room: Room
    ) -> None:
        self.not_seen = not_seen()
        self._source, (open_s, self._read_s) = redact(source), timeouts_s
        os.environ.setdefault(
            _OPTIONS, "|".join(f"{key};{value}" for key, value in options.items())
        )
        self._capture = cv2.VideoCapture(
            source,
            cv2.CAP_FFMPEG,
            [
                *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, int(open_s * 1e3)),
                *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, int(self._read_s * 1e3)),
                *(cv2.CAP_PROP_N_THREADS, 1),  # each further one is a frame of delay
            ],
        )
        if not self._capture.isOpened():
            self._capture.release()
            raise CameraError(f"{self._source}: OpenCV can't open it")
        self._reader = CaptureReader(self._capture, room)
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps <= _MOST_FPS else None
        self._key_packet = False
        self._stamp_ms: float | None = None

    def read(self) -> Decoded | None:
        """Waits for the next picture; see `StreamReader.read`."""
        for _ in range(_ATTEMPTS):
            begun = time.monotonic()
            image = self._reader.read()
            waited_s = time.monotonic() - begun
            if waited_s >= self._read_s * 0.98:
                raise CameraError(sentence("source_late", source=self._source, waited_s=waited_s))
            stamp_ms = self._capture.get(cv2.CAP_PROP_POS_MSEC)
            if image is not None and stamp_ms != self._stamp_ms:
                self._stamp_ms = stamp_ms
                return self._decoded(image, stamp_ms)
        return None

    def _decoded(self, image: Image, stamp_ms: float) -> Decoded:
        code = int(self._capture.get(cv2.CAP_PROP_FRAME_TYPE))
        picture = chr(code) if code in _PICTURES else "?"
        return Decoded(image, time.monotonic_ns(), stamp_ms, picture, self._is_key(picture))

    def _is_key(self, picture: str) -> bool:
        """Whether no later frame needs one before this; of all that are I this is not so.

        Packets are ahead of frames where some frames wait for later ones. So the mark of a key
        packet belongs to the next frame that needs no other. The first such mark of a stream with
        B frames is passed before its first frame comes: it starts with its second key frame.
        """
        if self._capture.get(cv2.CAP_PROP_LRF_HAS_KEY_FRAME) > 0:
            self._key_packet = True
        key = self._key_packet and picture in ("I", "?")
        if key:
            self._key_packet = False
        return key

    def close(self) -> None:
        """Releases the capture; never call it while another thread reads (OpenCV crashes)."""
        self._capture.release()


_SELECT = "OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT"
_FOURCC: dict[PixelFormat, str] = {
    "auto": MJPG,
    "mono": "GREY",
    "bayer_rggb": "RGGB",
    "bayer_bggr": "BA81",
    "bayer_grbg": "GRBG",
    "bayer_gbrg": "GBRG",
}
"""As V4L2 calls them. Uncompressed colours fill a USB bus with two cameras, MJPG with many."""


class DeviceCamera(Camera):
    """Reads a device.

    Args:
        config: The camera's configuration.
        room: Where frames may be read into.

    Raises:
        CameraError: It can't be opened.
    """

    live = True

    def __init__(self, config: CameraConfig, room: Room = no_room) -> None:
        # Seconds; OpenCV reads it once, before the first device is opened.
        os.environ[_SELECT] = str(max(1, round(config.stall_s)))
        self._config = config
        fourcc = _FOURCC[config.format]
        self._device = OpenCvCamera(config.source, "device", fourcc=fourcc, room=room)
        self.controls = self._device.controls
        if self.controls is not None:
            form = {"width": config.width, "height": config.height, "fps": config.fps}
            wanted = {
                "exposure": config.exposure,
                "gain": config.gain,
                "white_balance": config.white_balance,
            }
            self.settings = tuple(
                apply_settings(self.controls, fourcc=fourcc, form=form, wanted=wanted)
            )

    def read(self) -> Frame | None:
        """Waits for the next frame; see `Camera.read`."""
        frame = self._device.read()
        if frame is None:
            return None
        return replace(frame, image=convert(frame.image, self._config.format))

    def close(self) -> None:
        """Releases the device."""
        self._device.close()

    def describe(self) -> str:
        """Returns the device."""
        return self._device.describe()
