"""The base classes of cameras and of stream readers, and what all kinds of camera share."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import simplejpeg

from ..config.models import PixelFormat
from ..errors import CameraError, ImageReadError
from ..images import decode_jpeg
from ..picture_files import too_large
from ..records import Frame, Image

GetBuffer = Callable[[tuple[int, ...], "np.dtype[np.generic]"], Image | None]
"""Returns memory for an image of that shape and dtype; None where the reader has to allocate it."""


def no_buffer(_shape: tuple[int, ...], _dtype: np.dtype[np.generic]) -> None:
    """Returns None, so that each image is read into new memory."""


class Controls(Protocol):
    """The two methods of `cv2.VideoCapture` that a device's settings need."""

    def get(self, propId: int, /) -> float:  # noqa: N803 - OpenCV's name
        """Returns a property's value; -1 where the driver does not know it."""

    def set(self, propId: int, value: float, /) -> bool:  # noqa: N803 - OpenCV's name
        """Sets a property; returns whether the driver accepted it."""


@dataclass(frozen=True)
class Setting:
    """One setting of an open camera: the value requested, and the value the camera reports.

    Args:
        name: `exposure`, `gain` or `white_balance`; of a station's camera also `width`, `height`,
            `fps` and `fourcc`, the pixel format's four letters as a number; of a stream or video
            `decoder`, whose warning says which damage it can't detect.
        requested: Requested value, in the driver's units; None if none was requested.
        actual: The value that the camera reports afterwards; None if it reports none.
        warning: What the driver refused; None if the setting is as requested.

    Example:
        >>> Setting("exposure", requested=80.0, actual=78.0)
    """

    name: str
    requested: float | None
    actual: float | None
    warning: str | None = None


class Camera(AbstractContextManager["Camera"]):
    """A source of frames: open once constructed, read by one thread, closed once.

    Example:
        >>> with open_camera("rtsp://10.0.0.7/live") as camera:
        ...     frame = camera.read()
    """

    live: bool
    """Whether frames arrive by themselves, and are missed when nobody reads."""

    source: str
    """Name of the source for messages and records; never a password."""

    length: int | None = None
    """Number of frames that the source will give, where it is known."""

    controls: Controls | None = None
    """Exposure, gain and white balance of a device; None where there is nothing to set."""

    settings: tuple[Setting, ...] = ()
    """Requested and reported settings, from when the camera was opened."""

    _index = 0

    @abstractmethod
    def read(self) -> Frame | None:
        """Waits for the next frame.

        Returns:
            The frame, or None at the end of the source.

        Raises:
            ImageReadError: This image is bad; the next one can still be read.
            CameraError: The source is lost; it must be opened again.
        """

    @abstractmethod
    def close(self) -> None:
        """Releases the source."""

    def _next_name(self, prefix: str | None = None) -> tuple[str, int]:
        """Returns name and index of the next frame, and counts it."""
        index, self._index = self._index, self._index + 1
        return f"{prefix or self.source}#{index}", index

    def __exit__(self, *_error: object) -> None:
        self.close()


_CLOSE_S = 2.0


class Newest(Camera):
    """Reads a live camera in a thread and gives its newest frame; older frames are dropped.

    Without it, frames of a stream that is faster than its reader queue up and grow old. A
    station's capture process does the same, and can be killed as well.

    Args:
        camera: An open live camera; it is closed with this one.

    Example:
        >>> camera = Newest(StreamCamera(config))
    """

    live = True

    def __init__(self, camera: Camera) -> None:
        self._camera, self.source = camera, camera.source
        self._changed = threading.Condition()
        self._newest: Frame | ImageReadError | None = None
        self._error: Exception | None = None
        self._reading, self._closed = True, False
        self._thread = threading.Thread(target=self._run, name="newest", daemon=True)
        self._thread.start()

    def read(self) -> Frame | None:
        """Waits for a frame that was not returned yet; see `Camera.read`."""
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None or not self._reading)
            newest, self._newest = self._newest, None
        if isinstance(newest, ImageReadError):
            raise newest
        if newest is None and self._error is not None:
            raise self._error
        return newest

    def _run(self) -> None:
        try:
            while not self._closed and (newest := self._read_camera()) is not None:
                with self._changed:
                    self._newest = newest
                    self._changed.notify()
        except Exception as error:
            self._error = error
        with self._changed:
            self._reading = False
            self._changed.notify()
            closed = self._closed
        if closed:
            self._camera.close()

    def _read_camera(self) -> Frame | ImageReadError | None:
        try:
            return self._camera.read()
        except ImageReadError as error:
            return error

    def close(self) -> None:
        """Releases the camera, or lets the thread do so after its current read.

        OpenCV crashes if a capture is released while another thread reads it.
        """
        with self._changed:
            self._closed, reading = True, self._reading
        if reading:
            self._thread.join(_CLOSE_S)
        else:
            self._camera.close()


@dataclass(frozen=True)
class Decoded:
    """One decoded picture of a stream or video, in presentation order.

    Args:
        image: `(H, W, 3) uint8` BGR; None where the decoder gave none.
        arrived_ns: Monotonic time at which its data had arrived.
        stamp_ms: Presentation time stamp of the stream.
        picture_type: `I`, `P` or `B`, as the picture was predicted; `?` where that is not known.
        key: Whether no later picture refers to one before this.
        damage: What the demuxer or the decoder found missing or wrong in it; None if nothing.
        waited: Whether the read had to wait for its data, so that nothing newer was queued.
        intra_only: Whether no picture of the stream refers to another (JPEG).
    """

    image: Image | None
    arrived_ns: int
    stamp_ms: float | None = None
    picture_type: str = "?"
    key: bool = False
    damage: str | None = None
    waited: bool = True
    intra_only: bool = False


class StreamReader(ABC):
    """Reads and decodes one stream or video file; used by one thread, closed once."""

    fps: float | None = None
    """Frame rate in Hz that the stream declares; it may be wrong."""

    promised: int = 0
    """Number of packets that a file declares; 0 where it declares none."""

    packets: int = 0
    """Number of packets read so far."""

    not_seen: str | None = None
    """Which damage this reader can't detect, as a sentence for the operator; None if any."""

    @property
    def settings(self) -> tuple[Setting, ...]:
        """The warning of `not_seen`, in the form of `Camera.settings`."""
        return (Setting("decoder", None, None, self.not_seen),) if self.not_seen else ()

    @abstractmethod
    def read(self) -> Decoded | None:
        """Waits for the next picture.

        Returns:
            The picture, or None at the end of the stream.

        Raises:
            CameraError: The stream is lost, or gives nothing in time.
        """

    @abstractmethod
    def close(self) -> None:
        """Releases the stream."""


def plausible_fps(rate: float) -> float | None:
    """Returns a declared frame rate in Hz, or None where it can't be one."""
    return rate if 0 < rate <= 1000 else None


_STEPS = (256, 16, 1)
"""Every how many rows are compared, in this order: a few rows show a sensor's noise at once, every
16th meets each block of a codec, and only if all rows are equal is the image the same."""


class FreezeDetector:
    """Measures for how long a live camera has given identical pixels.

    An image sensor always has noise, so a single changed pixel shows that the camera is alive. Keep
    the detector while the camera is opened again: pixels from before an outage are old ones.

    Args:
        last: Frame before the first one, if an earlier process saw it; `(H, W)` or `(H, W, 3)`.
        since_ns: Stamp of the first frame with those pixels, monotonic.

    Example:
        >>> freeze = FreezeDetector()
        >>> unchanged_s = freeze.seconds(camera.read())
    """

    def __init__(self, last: Image | None = None, since_ns: int = 0) -> None:
        self._last: Image = np.empty((0, 0), np.uint8) if last is None else last
        self._since_ns = since_ns

    def seconds(self, frame: Frame) -> float:
        """Compares a frame with the one before; its pixels must not be written to afterwards.

        Returns:
            Seconds for which the pixels have been identical, by the stamps; 0 if one changed.
        """
        last, self._last = self._last, frame.image
        if all(np.array_equal(frame.image[::step], last[::step]) for step in _STEPS):
            return max(0.0, (frame.captured_ns - self._since_ns) / 1e9)
        self._since_ns = frame.captured_ns
        return 0.0


_BAYER = {
    # OpenCV names a mosaic by the second row's second and third pixel, everyone else by its
    # first two pixels: what cameras call RGGB is OpenCV's BayerBG.
    "bayer_rggb": cv2.COLOR_BayerBG2BGR,
    "bayer_bggr": cv2.COLOR_BayerRG2BGR,
    "bayer_grbg": cv2.COLOR_BayerGB2BGR,
    "bayer_gbrg": cv2.COLOR_BayerGR2BGR,
}


def convert(image: Image, pixels: PixelFormat) -> Image:
    """Converts a camera's image as the configured pixel format says.

    Args:
        image: `(H, W)`, `(H, W, 1)`, or `(H, W, 3)` with three equal channels (or BGR, which
            `mono` converts to grey).
        pixels: `auto` changes nothing; `mono` gives `(H, W)`; a mosaic gives `(H, W, 3)` BGR.

    Raises:
        CameraError: A mosaic was expected, and the channels differ.
    """
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if pixels == "auto" or (pixels == "mono" and image.ndim == 2):
        return image
    mono = pixels == "mono"
    code = cv2.COLOR_BGR2GRAY if mono else _BAYER[pixels]
    converted: Image = cv2.cvtColor(image if mono else _mosaic(image, pixels), code)  # type: ignore[assignment]
    return converted


def _mosaic(image: Image, pixels: PixelFormat) -> Image:
    if image.ndim == 2:
        return image
    mosaic = image[:, :, 1]
    if (image[:, :, 0] != mosaic).any() or (image[:, :, 2] != mosaic).any():
        raise CameraError(
            f"format = {pixels!r} expects grey pixels of a mosaic; the source gives colours. "
            "Leave the format out, or set the camera to a raw (Bayer) format."
        )
    return mosaic.copy()


def decode_partial_jpeg(data: bytes) -> tuple[Image | None, str | None]:
    """Decodes a JPEG strictly, and a damaged one as far as possible.

    Returns:
        The image `(H, W, 3) uint8` BGR, or None where nothing can be decoded; and the damage, or
        None where it is whole.
    """
    try:
        return decode_jpeg(data), None
    except ImageReadError as error:
        damage = error.cause
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
        if too_large(width, height) is not None:
            return None, damage
        return simplejpeg.decode_jpeg(data, "BGR", strict=False), damage
    except (ValueError, MemoryError):
        return None, damage
