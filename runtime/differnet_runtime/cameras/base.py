"""Locks what a camera would otherwise change by itself: exposure, gain and white balance.

A model learns how good parts look at one setting; a camera that adjusts itself between
training and inspection makes good parts look different.

What a camera is: something that gives frames, one after another, until it ends or is lost.

Grey pixels as a camera sends them: mono, or a colour mosaic that has to be filled in.

Reads OpenCV's pictures, into memory that is given where there is some.

What a stream's reader gives: a decoded picture with all that its decoder knew of it.

For how long has a camera given the same pixels?

JPEG pictures of a stream: whole, or with what can be shown of a damaged one.
"""

from __future__ import annotations

import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

import cv2
import numpy as np
import simplejpeg

from ..config.models import PixelFormat
from ..errors import CameraError, ImageReadError
from ..images import decode_jpeg
from ..records import Frame, Image, too_large
from ..sentences import sentence

_MANUAL_EXPOSURE = 1.0 if sys.platform == "linux" else 0.25
"""V4L2's menu entry for manual; other systems' drivers take a quarter."""


class Controls(Protocol):
    """The two methods of `cv2.VideoCapture` that settings need."""

    def get(self, propId: int, /) -> float:  # noqa: N803 - OpenCV's name
        """Returns a property's value."""

    def set(self, propId: int, value: float, /) -> bool:  # noqa: N803 - OpenCV's name
        """Sets a property; returns whether the driver took it."""


@dataclass(frozen=True)
class Setting:
    """What became of one setting.

    Args:
        name: `exposure`, `gain` or `white_balance`; of a station's camera also `width`, `height`,
            `fps` and `fourcc`, the pixel format's four letters as a number; of a stream or video
            `decoder`, whose warning says what it can't see.
        requested: The value asked for, in the driver's units; None if there was none to ask for.
        actual: The value that the camera reports afterwards; None if it reports none.
        warning: What the driver refused; None if the setting is locked.
    """

    name: str
    requested: float | None
    actual: float | None
    warning: str | None = None


@dataclass(frozen=True)
class _Control:
    name: str
    value: int
    automatic: int | None = None
    manual: float = 0.0


_CONTROLS = (
    _Control("exposure", cv2.CAP_PROP_EXPOSURE, cv2.CAP_PROP_AUTO_EXPOSURE, _MANUAL_EXPOSURE),
    _Control("gain", cv2.CAP_PROP_GAIN),
    _Control("white_balance", cv2.CAP_PROP_WB_TEMPERATURE, cv2.CAP_PROP_AUTO_WB),
)

_FORM = {
    "width": cv2.CAP_PROP_FRAME_WIDTH,
    "height": cv2.CAP_PROP_FRAME_HEIGHT,
    "fps": cv2.CAP_PROP_FPS,
}


def lock_settings(controls: Controls, wanted: Mapping[str, float | None]) -> list[Setting]:
    """Switches the automatics off and keeps the present values, or those wanted.

    Args:
        controls: The opened device, after its automatics have settled.
        wanted: Values by setting name, in the driver's units; where there is none, or None,
            the present value is kept.

    Returns:
        One entry per setting, with what the driver refused.
    """
    # All values are read first: one automatic switched off can move the others.
    present = {control.name: _value(controls, control.value) for control in _CONTROLS}
    requested = {name: wanted.get(name) for name in present}
    for name, value in present.items():
        if requested[name] is None:
            requested[name] = value
    return [_lock(controls, control, requested[control.name]) for control in _CONTROLS]


def apply_settings(
    controls: Controls,
    *,
    fourcc: str,
    form: Mapping[str, float | None],
    wanted: Mapping[str, float | None],
) -> list[Setting]:
    """Sets what is asked for, leaves the rest as it is, and reads back what the camera does.

    Args:
        controls: The opened device, whose pixel format was asked for already.
        fourcc: That format.
        form: `width`, `height` and `fps`; None is left to the camera.
        wanted: `exposure`, `gain` and `white_balance`, likewise.
    """
    # Size before rate: a device offers rates by size.
    settings = [_formed(controls, name, prop, form.get(name)) for name, prop in _FORM.items()]
    settings.append(_pixel_format(controls, fourcc))
    for control in _CONTROLS:
        if wanted.get(control.name) is not None:
            settings.append(_lock(controls, control, wanted[control.name]))
        else:
            settings.append(Setting(control.name, None, _value(controls, control.value)))
    return settings


def _formed(controls: Controls, name: str, prop: int, requested: float | None) -> Setting:
    if requested is not None:
        controls.set(prop, requested)
    actual = _value(controls, prop)
    if requested is None or (actual is not None and abs(actual - requested) < 0.5):
        return Setting(name, requested, actual)
    told = "no value" if actual is None else f"{actual:g}"
    warning = sentence("setting_other", name=name, requested=requested, actual=told)
    return Setting(name, requested, actual, warning)


def _pixel_format(controls: Controls, fourcc: str) -> Setting:
    requested = float(cv2.VideoWriter.fourcc(*fourcc))
    actual = _value(controls, cv2.CAP_PROP_FOURCC)
    if actual == requested:
        return Setting("fourcc", requested, actual)
    told = "none" if actual is None else repr(fourcc_letters(actual))
    warning = sentence("pixel_format_other", requested=fourcc, actual=told)
    return Setting("fourcc", requested, actual, warning)


def fourcc_letters(code: float) -> str:
    """Returns the four letters of a pixel format."""
    return int(code).to_bytes(4, "little").decode("latin-1")


def _lock(controls: Controls, control: _Control, requested: float | None) -> Setting:
    name = control.name
    refusals = []
    if control.automatic is not None and not controls.set(control.automatic, control.manual):
        refusals.append(sentence("setting_automatic", name=name))
    if requested is None:
        refusals.append(sentence("setting_absent", name=name))
    elif not controls.set(control.value, requested):
        refusals.append(sentence("setting_refused", name=name, requested=requested))
    actual = _value(controls, control.value)
    if (
        not refusals
        and actual is not None
        and not math.isclose(actual, requested or 0.0, abs_tol=0.5)
    ):
        told = f"{actual:g}"
        refusals.append(sentence("setting_other", name=name, requested=requested, actual=told))
    return Setting(name, requested, actual, "; ".join(refusals) or None)


def _value(controls: Controls, prop: int) -> float | None:
    value = controls.get(prop)
    # OpenCV reports -1 for what a driver does not know.
    return value if math.isfinite(value) and value != -1.0 else None


Room = Callable[[tuple[int, ...], "np.dtype[np.generic]"], Image | None]
"""Gives memory for a picture of that shape and dtype, where it may stay; None: there is none."""


def no_room(_shape: tuple[int, ...], _dtype: np.dtype[np.generic]) -> None:
    """Gives none: each picture is in new memory."""


class Camera(ABC):
    """A source of frames; made open, read by one thread, closed once."""

    live: bool
    """Whether frames come by themselves, and are missed when nobody reads."""

    length: int | None = None
    """How many frames it will give, where that is known."""

    controls: Controls | None = None
    """Exposure, gain and white balance of a device; None where there is nothing to set."""

    settings: tuple[Setting, ...] = ()
    """What was asked of a device when it was opened, and what it reports."""

    @abstractmethod
    def read(self) -> Frame | None:
        """Waits for the next frame.

        Returns:
            The frame, or None at the end of the source.

        Raises:
            ImageReadError: This one picture is bad; the source can be read on.
            CameraError: The source is lost; it must be opened again.
        """

    @abstractmethod
    def close(self) -> None:
        """Releases the source."""

    @abstractmethod
    def describe(self) -> str:
        """Returns what the source is, for messages and records; never a password."""

    def __enter__(self) -> Camera:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


_BAYER = {
    # OpenCV names a mosaic by the second row's second and third pixel, everyone else by its
    # first two pixels: what cameras call RGGB is OpenCV's BayerBG.
    "bayer_rggb": cv2.COLOR_BayerBG2BGR,
    "bayer_bggr": cv2.COLOR_BayerRG2BGR,
    "bayer_grbg": cv2.COLOR_BayerGB2BGR,
    "bayer_gbrg": cv2.COLOR_BayerGR2BGR,
}


def convert(image: Image, pixels: PixelFormat) -> Image:
    """Reads a camera's grey pixels as they are meant.

    Args:
        image: `(H, W)`, `(H, W, 1)`, or `(H, W, 3)` with three equal channels (or BGR, to be made
            grey).
        pixels: `auto` leaves them; `mono` gives `(H, W)`; a mosaic gives `(H, W, 3)` BGR.

    Raises:
        CameraError: The picture is no mosaic: its channels differ.
    """
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if pixels == "auto":
        return image
    if pixels == "mono":
        grey: Image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) if image.ndim == 3 else image  # type: ignore[assignment]
        return grey
    colour: Image = cv2.cvtColor(_mosaic(image, pixels), _BAYER[pixels])  # type: ignore[assignment]
    return colour


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


class CaptureReader:
    """Reads one capture.

    Args:
        capture: Open.
        room: Where pictures may be read into.

    Raises:
        CameraError: Its pictures are too large.
    """

    def __init__(self, capture: cv2.VideoCapture, room: Room) -> None:
        self._capture, self._room = capture, room
        _refuse(
            int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        )
        self._last: tuple[tuple[int, ...], np.dtype[np.generic]] | None = None

    def read(self) -> Image | None:
        """Returns the next picture, or None where there is none or it can't be decoded.

        It lies in the room that was given if it is like the one before, else in memory of its own.
        """
        room = self._room(*self._last) if self._last else None
        try:
            # Not `read`, which takes a room that was never written to for a picture.
            if not self._capture.grab():
                return None
            ok, image = self._capture.retrieve(room)
        except cv2.error:  # raised by some builds for a damaged frame
            return None
        if not ok or image is None or not image.size:
            return None
        _refuse(image.shape[1], image.shape[0])  # a stream may change its mind
        self._last = image.shape, image.dtype
        return image  # type: ignore[return-value]


def _refuse(width: int, height: int) -> None:
    if (fault := too_large(width, height)) is not None:
        raise CameraError(f"the camera's picture can't be used: {fault}")


@dataclass(frozen=True)
class Decoded:
    """One picture of a stream, in the order in which pictures are shown.

    Args:
        image: BGR; None where the decoder gave none.
        arrived_ns: Monotonic, when its data were there.
        stamp_ms: The stream's own time stamp.
        picture: `I`, `P` or `B`, as it was predicted; `?` where that is not known.
        key: Whether no later picture needs one before this.
        damage: What the reader or the decoder saw missing or wrong in it.
        waited: Whether its data were waited for: nothing newer lay there.
        alone: Whether neither this picture nor the next ones refer to another (JPEG).
    """

    image: Image | None
    arrived_ns: int
    stamp_ms: float | None = None
    picture: str = "?"
    key: bool = False
    damage: str | None = None
    waited: bool = True
    alone: bool = False


class StreamReader(ABC):
    """Reads and decodes one stream; made open, used by one thread, closed once."""

    fps: float | None = None
    """What the stream says of its frame rate; may be wrong."""

    not_seen: str | None = None
    """What this reader can't see of a damaged stream, in a sentence for the operator."""

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


def blank(size: tuple[int, int]) -> Image:
    """Returns the black picture that stands for one that can't be decoded.

    Args:
        size: Height and width.
    """
    return np.zeros((*size, 3), np.uint8)


_STEPS = (256, 16, 1)
"""Every so many rows are compared, one after another: a few tell a sensor's noise at once, every
16th meets each block of a codec, and only all of them are the same picture."""


class FreezeDetector:
    """Compares each frame of a live source with the one before, pixel by pixel.

    What a sensor sees always has noise, so one changed pixel is enough to be alive. It is kept
    while a source is opened again: pixels from before an outage are old ones.

    Args:
        last: The frame before the first one, where an earlier process saw it.
        since_ns: Stamp of the first frame with those pixels.
    """

    def __init__(self, last: Image | None = None, since_ns: int = 0) -> None:
        self._last: Image = np.empty((0, 0), np.uint8) if last is None else last
        self._since_ns = since_ns

    def seconds(self, frame: Frame) -> float:
        """Takes the next frame, whose pixels must not be written to afterwards.

        Returns:
            How long pixels have been identical, by the frames' stamps; 0 for a changed picture.
        """
        last, self._last = self._last, frame.image
        if all(np.array_equal(frame.image[::step], last[::step]) for step in _STEPS):
            return max(0.0, (frame.captured_ns - self._since_ns) / 1e9)
        self._since_ns = frame.captured_ns
        return 0.0


def whole_or_partial(data: bytes) -> tuple[Image | None, str | None]:
    """Decodes a JPEG strictly, and a damaged one as far as it goes.

    Returns:
        The picture, or None where nothing of it can be decoded; and what is wrong with it, or None.
    """
    try:
        return decode_jpeg(data), None
    except ImageReadError as error:
        damage = error.cause
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
        if too_large(width, height) is not None:
            return None, damage
        partial: Image = simplejpeg.decode_jpeg(data, "BGR", strict=False)
    except (ValueError, MemoryError):
        return None, damage
    return partial, damage
