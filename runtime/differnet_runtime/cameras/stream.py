"""Network streams through OpenCV's FFmpeg, read so that old and damaged frames are told.

A stream that stalls makes OpenCV wait for its read timeout and then give the last frame again, as
if it were new: only a time stamp that advances makes a frame new.
"""

from __future__ import annotations

import os
import time
from collections import deque

import cv2

from ..config.models import CameraConfig
from ..errors import CameraError
from ..records import Frame, Image
from ..redaction import redact
from .base import Camera, Room, no_room
from .damage import Quarantine
from .lag import Lag
from .pixels import converted
from .reading import Reader

_LEAST_OPEN_S = 3.0
_ATTEMPTS = 10
"""Failed reads in a row that end a stream: a single one may be one damaged packet."""
_MOST_LAG = 0.9
"""Of the time after which the daemon takes a camera for stalled, by these very stamps."""
_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
_MOST_FPS = 1000.0
_PICTURES = frozenset(map(ord, "IPB"))


def open_limit_s(stall_s: float) -> float:
    """Returns how long a stream may take to open."""
    return max(_LEAST_OPEN_S, stall_s)


class StreamCamera(Camera):
    """Reads RTSP, HTTP and whatever else FFmpeg knows by URL; in a process of its own.

    Frames of RTSP that wait to be decoded are stamped when they were taken: the lag behind the
    promptest frame of this connection is known by the camera's clock. What all frames are late by,
    as the network's delay, is not. Over HTTP and all else stamps are often made up from a frame
    rate, so that no lag can be measured: a frame is stamped when it is read, however late that is.

    Args:
        config: Of the camera.
        room: Where frames may be read into.

    Raises:
        CameraError: It can't be opened.
    """

    live = True

    def __init__(self, config: CameraConfig, room: Room = no_room) -> None:
        self._config, self._source = config, redact(config.source)
        # TCP loses nothing by itself. And its frame rate need not be measured over twenty frames
        # before the first is given: a wrong one is found out by the quarantine.
        os.environ.setdefault(_OPTIONS, "rtsp_transport;tcp|fpsprobesize;3")
        read_ms = int((config.stall_s + 1) * 1e3)  # later than the daemon, which ends us then
        self._read_s = read_ms / 1e3
        self._capture = cv2.VideoCapture(
            config.source,
            cv2.CAP_FFMPEG,
            [
                *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, int(open_limit_s(config.stall_s) * 1e3)),
                *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, read_ms),
                *(cv2.CAP_PROP_N_THREADS, 1),  # each further one is a frame of delay
            ],
        )
        if not self._capture.isOpened():
            self._capture.release()
            raise CameraError(
                f"{self._source}: the stream can't be opened. Look at address, user, password "
                "and network, and whether this OpenCV has FFmpeg (`differnet doctor`)."
            )
        self._reader = Reader(self._capture, room)
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self._quarantine = Quarantine(fps if 0 < fps <= _MOST_FPS else None)
        self._index = 0
        self._key_packet = False
        self._lag = Lag() if config.source.lower().startswith("rtsp") else None
        self._behind_s = 0.0
        self._stamp_ms: float | None = None
        self._judged: deque[Frame] = deque()

    def read(self) -> Frame | None:
        """Waits for the next frame of which it is known whether it is whole; see `Camera.read`."""
        while not self._judged:
            image = self._next_image()
            picture = self._picture()
            frame = Frame(
                image,
                f"{self._source}#{self._index}",
                self._index,
                time.monotonic_ns() - round(self._behind_s * 1e9),
                time.time() - self._behind_s,
                self._stamp_ms,
            )
            self._index += 1
            self._judged.extend(self._quarantine.judge(frame, picture, self._is_key(picture)))
        return self._judged.popleft()

    def _picture(self) -> str:
        code = int(self._capture.get(cv2.CAP_PROP_FRAME_TYPE))
        return chr(code) if code in _PICTURES else "?"

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

    def _next_image(self) -> Image:
        for _ in range(_ATTEMPTS):
            begun = time.monotonic()
            image = self._reader.read()
            waited_s = time.monotonic() - begun
            if waited_s >= self._read_s * 0.98:
                raise CameraError(f"{self._source}: no new frame for {waited_s:.1f} s")
            stamp_ms = self._capture.get(cv2.CAP_PROP_POS_MSEC)
            if image is not None and stamp_ms != self._stamp_ms:
                self._stamp_ms = stamp_ms
                self._behind_s = self._measured_lag_s(stamp_ms)
                return converted(image, self._config.format)
        raise CameraError(
            f"{self._source}: the stream stopped giving frames after {self._index}. Look at the "
            "camera, its power and network."
        )

    def _measured_lag_s(self, stamp_ms: float) -> float:
        """Raises where frames are read later and later; opened again, the stream starts anew."""
        if self._lag is None:
            return 0.0
        behind_s = self._lag.seconds(time.monotonic(), stamp_ms)
        if behind_s > _MOST_LAG * self._config.stall_s:
            raise CameraError(
                f"{self._source}: the frames are {behind_s:.1f} s old when they are read. This "
                "machine decodes them too slowly: ask the camera for a smaller size or rate, or "
                "use a pipeline (gst:) with a hardware decoder."
            )
        return behind_s

    def close(self) -> None:
        """Releases the capture; never call it while another thread reads (OpenCV crashes)."""
        self._capture.release()

    def describe(self) -> str:
        """Returns the URL without its password."""
        return self._source
