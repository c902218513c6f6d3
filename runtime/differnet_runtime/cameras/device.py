"""Cameras attached to this machine (V4L2, USB): opened, locked to their settings, and read.

A model learns how good parts look at one setting. A camera that adjusts exposure, gain or white
balance by itself between training and inspection makes good parts look different.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from ..config.grammar import redact
from ..config.models import CameraConfig, PixelFormat
from ..errors import CameraError, ImageReadError
from ..records import Frame, Image
from ..sentences import sentence
from .base import (
    Camera,
    Controls,
    GetBuffer,
    Setting,
    convert,
    decode_partial_jpeg,
    no_buffer,
)
from .opencv import CaptureReader

_LINUX = sys.platform == "linux"
_MJPG = "MJPG"
_FOURCC: dict[PixelFormat, str] = {
    "auto": _MJPG,
    "mono": "GREY",
    "bayer_rggb": "RGGB",
    "bayer_bggr": "BA81",
    "bayer_grbg": "GRBG",
    "bayer_gbrg": "GBRG",
}
"""V4L2's names. Uncompressed colour fills a USB bus with two cameras, MJPG with many."""


class DeviceCamera(Camera):
    """Reads a camera device through OpenCV.

    JPEGs are decoded here, strictly, where the driver hands them out as they are. A frame that
    can't be decoded is reported once a later one could be.

    Args:
        config: The camera's configuration; its source is an index or a path in /dev.
        get_buffer: Where frames may be read into.

    Raises:
        CameraError: The device can't be opened.

    Example:
        >>> camera = DeviceCamera(CameraConfig(source="0", kind="device", exposure=80))
    """

    live = True

    def __init__(self, config: CameraConfig, get_buffer: GetBuffer = no_buffer) -> None:
        # In seconds; OpenCV reads it once, before the first device is opened.
        os.environ["OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT"] = str(max(1, round(config.stall_s)))
        source, self._config, self.source = config.source, config, redact(config.source)
        fourcc = _FOURCC[config.format]
        self._jpegs = fourcc == _MJPG
        capture = self.controls = cv2.VideoCapture(
            int(source) if source.isdecimal() else source, cv2.CAP_V4L2 if _LINUX else cv2.CAP_ANY
        )
        self._reader = CaptureReader(
            capture,
            no_buffer if self._jpegs else get_buffer,
            sentence("device_not_opened", source=self.source),
        )
        # By default USB cameras send YUYV: sixteen times the data, and fewer frames.
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*fourcc))
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        if not self._jpegs or _LINUX:
            capture.set(cv2.CAP_PROP_CONVERT_RGB, 0)  # OpenCV's decoder fills gaps without a word
        self.settings = tuple(
            apply_settings(
                capture,
                fourcc=fourcc,
                form={"width": config.width, "height": config.height, "fps": config.fps},
                wanted={
                    "exposure": config.exposure,
                    "gain": config.gain,
                    "white_balance": config.white_balance,
                },
            )
        )
        self._waiting: Image | None = None
        self._damage: str | None = None

    def read(self) -> Frame | None:
        """Waits for the next frame; see `Camera.read`."""
        image, failures = self._waiting, 0
        if image is None:
            image, failures = self._reader.read_on(self._decode)
        if image is None:
            raise CameraError(sentence("device_ended", source=self.source, frames=self._index))
        name, index = self._next_name()
        self._waiting = image if failures else None
        if failures:
            raise ImageReadError(name, f"{failures} frame(s) can't be decoded")
        stamps = time.monotonic_ns(), time.time()
        damage, self._damage = self._damage, None
        return Frame(convert(image, self._config.format), name, index, *stamps, damage=damage)

    def _decode(self, image: Image) -> Image | None:
        """Decodes a JPEG, or YUYV of a camera without MJPG; returns other pixels as they are."""
        if not self._jpegs:
            return image
        if image.ndim == 3 and image.shape[2] == 2:
            return cv2.cvtColor(image, cv2.COLOR_YUV2BGR_YUYV).astype(np.uint8, copy=False)
        if image.ndim == 3 and image.shape[2] != 1:
            return image
        decoded, self._damage = decode_partial_jpeg(image.tobytes())
        return decoded

    def close(self) -> None:
        """Releases the device; never call it while another thread reads (OpenCV crashes)."""
        self._reader.close()


@dataclass(frozen=True)
class _Control:
    name: str
    value: int
    automatic: int | None = None
    manual: float = 0.0


_CONTROLS = (
    _Control(
        "exposure",
        cv2.CAP_PROP_EXPOSURE,
        cv2.CAP_PROP_AUTO_EXPOSURE,
        # V4L2's menu entry for manual exposure; other systems' drivers take a quarter.
        1.0 if _LINUX else 0.25,
    ),
    _Control("gain", cv2.CAP_PROP_GAIN),
    _Control("white_balance", cv2.CAP_PROP_WB_TEMPERATURE, cv2.CAP_PROP_AUTO_WB),
)

_FORM = {  # the size before the rate: a device offers rates by size
    "width": cv2.CAP_PROP_FRAME_WIDTH,
    "height": cv2.CAP_PROP_FRAME_HEIGHT,
    "fps": cv2.CAP_PROP_FPS,
}


def lock_settings(controls: Controls, wanted: Mapping[str, float | None]) -> list[Setting]:
    """Switches automatic control off and keeps the current values, or sets those requested.

    Args:
        controls: The opened device, after automatic control has settled.
        wanted: Requested values by setting name, in the driver's units; where a name is missing
            or None, the current value is kept.

    Returns:
        One entry per setting, with what the driver refused.
    """
    # All values are read first: switching one automatic off can move the others.
    current = {control.name: _value(controls, control.value) for control in _CONTROLS}
    requested = {**current, **{name: v for name, v in wanted.items() if v is not None}}
    return [_lock(controls, control, requested[control.name]) for control in _CONTROLS]


def apply_settings(
    controls: Controls,
    *,
    fourcc: str,
    form: Mapping[str, float | None],
    wanted: Mapping[str, float | None],
) -> list[Setting]:
    """Sets the requested values, leaves all others alone, and reads back what the camera reports.

    Args:
        controls: The opened device, from which the pixel format was requested already.
        fourcc: Four letters of that pixel format.
        form: `width` and `height` in pixels, `fps` in Hz; None leaves the choice to the camera.
        wanted: `exposure`, `gain` and `white_balance` in the driver's units, likewise.
    """
    return [
        *(_set(controls, name, prop, form.get(name)) for name, prop in _FORM.items()),
        _check_pixel_format(controls, fourcc),
        *(
            Setting(control.name, None, _value(controls, control.value))
            if wanted.get(control.name) is None
            else _lock(controls, control, wanted[control.name])
            for control in _CONTROLS
        ),
    ]


def _set(controls: Controls, name: str, prop: int, requested: float | None) -> Setting:
    if requested is None:
        return Setting(name, None, _value(controls, prop))
    controls.set(prop, requested)
    actual = _value(controls, prop)
    return Setting(name, requested, actual, _difference(name, requested, actual))


def _check_pixel_format(controls: Controls, fourcc: str) -> Setting:
    requested = float(cv2.VideoWriter.fourcc(*fourcc))
    actual = _value(controls, cv2.CAP_PROP_FOURCC)
    if actual == requested:
        return Setting("fourcc", requested, actual)
    letters = (
        "none" if actual is None else repr(int(actual).to_bytes(4, "little").decode("latin-1"))
    )
    warning = sentence("pixel_format_other", requested=fourcc, actual=letters)
    return Setting("fourcc", requested, actual, warning)


def _lock(controls: Controls, control: _Control, requested: float | None) -> Setting:
    name, refusals = control.name, []
    if control.automatic is not None and not controls.set(control.automatic, control.manual):
        refusals.append(sentence("setting_automatic", name=name))
    if requested is None:
        refusals.append(sentence("setting_absent", name=name))
    elif not controls.set(control.value, requested):
        refusals.append(sentence("setting_refused", name=name, requested=requested))
    actual = _value(controls, control.value)
    if refusals or requested is None or actual is None:
        return Setting(name, requested, actual, "; ".join(refusals) or None)
    # A driver of whole numbers makes 1.5 to 1 or 2.
    rounded = abs(actual - requested) <= 0.5
    warning = None if rounded else _difference(name, requested, actual)
    return Setting(name, requested, actual, warning)


def _difference(name: str, requested: float, actual: float | None) -> str | None:
    """Returns a warning where a value is not as requested, apart from rounding."""
    if actual is not None and abs(actual - requested) < 0.5:
        return None
    reported = "no value" if actual is None else f"{actual:g}"
    return sentence("setting_other", name=name, requested=requested, actual=reported)


def _value(controls: Controls, prop: int) -> float | None:
    value = controls.get(prop)
    # OpenCV reports -1 for what a driver does not know.
    return value if math.isfinite(value) and value != -1.0 else None
