"""Streams and video files through OpenCV where PyAV is not installed; the boundary of its errors.

A stream that stalls makes OpenCV wait for its read timeout and then give the last frame again, as
if it were new: only a time stamp that advances makes a frame new. OpenCV does not tell what its
decoder knew of a picture: of a damaged stream only gaps between time stamps are detected.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

import cv2
import numpy as np

from ..config.grammar import redact
from ..errors import CameraError
from ..installation import install_line
from ..picture_files import too_large
from ..records import Image
from ..sentences import sentence
from .base import Decoded, GetBuffer, StreamReader, plausible_fps

ATTEMPTS = 10
"""Failed reads in a row that end a source: a single one may be one damaged packet."""
_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
_PICTURE_TYPES = frozenset(map(ord, "IPB"))


class CaptureReader:
    """Reads the images of a `cv2.VideoCapture`.

    Args:
        capture: A capture that was just opened; it is released with this reader.
        get_buffer: Where images may be read into.
        not_opened: Message of the error if the capture is not open.

    Raises:
        CameraError: The capture is not open, or its images are too large.

    Example:
        >>> reader = CaptureReader(cv2.VideoCapture(0), no_buffer, "there is no camera")
        >>> image = reader.read()
    """

    def __init__(self, capture: cv2.VideoCapture, get_buffer: GetBuffer, not_opened: str) -> None:
        self._capture, self._get_buffer = capture, get_buffer
        if not capture.isOpened():
            capture.release()
            raise CameraError(not_opened)
        _refuse_too_large(
            int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        )
        self._last: tuple[tuple[int, ...], np.dtype[np.generic]] | None = None

    def read(self) -> Image | None:
        """Returns the next image, or None where there is none or it can't be decoded.

        It lies in the given buffer if its shape and dtype are those of the image before.
        """
        buffer = self._get_buffer(*self._last) if self._last else None
        try:
            # Not `read`, which takes a buffer that was never written to for an image.
            if not self._capture.grab():
                return None
            ok, image = self._capture.retrieve(buffer)
        except cv2.error:  # raised by some builds for a damaged frame
            return None
        if not ok or image is None or not image.size:
            return None
        _refuse_too_large(image.shape[1], image.shape[0])  # a stream may change its size
        self._last = image.shape, image.dtype
        return image  # type: ignore[return-value]

    def read_on(
        self, decode: Callable[[Image], Image | None] = lambda image: image
    ) -> tuple[Image | None, int]:
        """Reads until an image can be decoded, at most `ATTEMPTS` times.

        Returns:
            The image, or None; and the number of reads that failed before it.
        """
        for failures in range(ATTEMPTS):
            image = self.read()
            if image is not None and (decoded := decode(image)) is not None:
                return decoded, failures
        return None, ATTEMPTS

    def close(self) -> None:
        """Releases the capture; never call it while another thread reads (OpenCV crashes)."""
        self._capture.release()


def _refuse_too_large(width: int, height: int) -> None:
    if (fault := too_large(width, height)) is not None:
        raise CameraError(f"the camera's picture can't be used: {fault}")


class OpenCvReader(StreamReader):
    """The base of `OpenCvVideo` and `OpenCvStream`; its arguments are those of `CaptureReader`."""

    def __init__(self, capture: cv2.VideoCapture, get_buffer: GetBuffer, not_opened: str) -> None:
        self._capture, self._reader = capture, CaptureReader(capture, get_buffer, not_opened)
        self.fps = plausible_fps(capture.get(cv2.CAP_PROP_FPS))
        self.not_seen = sentence("decoder_blind", command=install_line("streams"))

    def close(self) -> None:
        """Releases the capture; see `CaptureReader.close`."""
        self._reader.close()


class OpenCvVideo(OpenCvReader):
    """Reads a video file.

    Args:
        path: Path of the file.
        get_buffer: Where images may be read into.

    Raises:
        CameraError: It can't be opened.
    """

    def __init__(self, path: str, get_buffer: GetBuffer) -> None:
        not_opened = (
            f"{path}: OpenCV can't open it as a video; pictures are recognised by their file "
            "extension"
        )
        super().__init__(cv2.VideoCapture(path), get_buffer, not_opened)
        self.promised = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        self._waiting: Image | None = None

    def read(self) -> Decoded | None:
        """Reads the next picture; one without an image stands for all that can't be decoded."""
        image, failures = self._waiting, 0
        if image is None:
            image, failures = self._reader.read_on()
        if image is None:
            return None
        self.packets += 1
        self._waiting = image if failures else None
        damage = f"{failures} frame(s) can't be decoded" if failures else None
        given = None if failures else image
        return Decoded(given, time.monotonic_ns(), damage=damage, intra_only=True)


class OpenCvStream(OpenCvReader):
    """Reads a URL through OpenCV's FFmpeg; in a process of its own.

    Args:
        source: URL of the stream.
        options: Options of FFmpeg's protocol and container.
        timeouts_s: For opening, and for each read, in seconds.
        get_buffer: Where images may be read into.

    Raises:
        CameraError: It can't be opened.
    """

    def __init__(
        self,
        source: str,
        options: Mapping[str, str],
        timeouts_s: tuple[float, float],
        get_buffer: GetBuffer,
    ) -> None:
        self._source, (open_s, self._read_s) = redact(source), timeouts_s
        os.environ.setdefault(
            _OPTIONS, "|".join(f"{key};{value}" for key, value in options.items())
        )
        capture = cv2.VideoCapture(
            source,
            cv2.CAP_FFMPEG,
            [
                *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, int(open_s * 1e3)),
                *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, int(self._read_s * 1e3)),
                *(cv2.CAP_PROP_N_THREADS, 1),  # each further one is a frame of delay
            ],
        )
        super().__init__(capture, get_buffer, f"{self._source}: OpenCV can't open it")
        self._key_packet = False
        self._stamp_ms: float | None = None

    def read(self) -> Decoded | None:
        """Waits for the next picture; see `StreamReader.read`."""
        for _ in range(ATTEMPTS):
            begun = time.monotonic()
            image = self._reader.read()
            waited_s = time.monotonic() - begun
            if waited_s >= self._read_s * 0.98:
                raise CameraError(sentence("source_late", source=self._source, waited_s=waited_s))
            stamp_ms = self._capture.get(cv2.CAP_PROP_POS_MSEC)
            if image is not None and stamp_ms != self._stamp_ms:
                self._stamp_ms = stamp_ms
                code = int(self._capture.get(cv2.CAP_PROP_FRAME_TYPE))
                kind = chr(code) if code in _PICTURE_TYPES else "?"
                return Decoded(image, time.monotonic_ns(), stamp_ms, kind, self._is_key(kind))
        return None

    def _is_key(self, picture_type: str) -> bool:
        """Returns whether no later frame refers to one before this; not every I frame is such.

        Packets are ahead of frames where frames are reordered, so the mark of a key packet belongs
        to the next I frame. The first mark of a stream with B frames passes before its first frame
        comes: such a stream starts with its second key frame.
        """
        marked = self._key_packet or self._capture.get(cv2.CAP_PROP_LRF_HAS_KEY_FRAME) > 0
        key = marked and picture_type in ("I", "?")
        self._key_packet = marked and not key
        return key
