"""Video files, camera devices and network streams through OpenCV; the boundary of its errors.

A network stream that stalls makes OpenCV wait for the read timeout and then hand out the last
frame again, as if it were new; so a read that takes that long counts as a lost camera. Nothing
here reconnects, and a reader slower than a stream falls behind: both belong to the service,
which keeps the capture in a process of its own.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from differnet_runtime.errors import CameraError, ImageReadError
from differnet_runtime.records import Frame, Image

from ..redaction import redact
from ..sentences import sentence
from .base import Camera, Room, no_room
from .jpegs import whole_or_partial
from .reading import Reader

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
        self._reader = Reader(self._capture, no_room if self._jpegs else room)
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
