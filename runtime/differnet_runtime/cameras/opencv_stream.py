"""Network streams through OpenCV's FFmpeg, where PyAV is not installed.

A stream that stalls makes OpenCV wait for its read timeout and then give the last frame again, as
if it were new: only a time stamp that advances makes a frame new. What the decoder knew of a
picture is not told: of a damaged stream only gaps between time stamps are seen.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

import cv2

from ..errors import CameraError
from ..installation import install_line
from ..records import Image
from ..redaction import redact
from ..sentences import sentence
from .base import Room
from .decoded import Decoded, StreamReader
from .reading import Reader

_ATTEMPTS = 10
"""Failed reads in a row that end a stream: a single one may be one damaged packet."""
_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
_MOST_FPS = 1000.0
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
        self._reader = Reader(self._capture, room)
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
