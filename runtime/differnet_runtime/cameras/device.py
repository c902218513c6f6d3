"""A camera at this machine (V4L2, USB): set as configured, and read back."""

from __future__ import annotations

import os
from dataclasses import replace

from ..config.models import CameraConfig, PixelFormat
from ..records import Frame
from .base import Camera, Room, no_room
from .opencv import MJPG, OpenCvCamera
from .pixels import converted
from .settings import apply_settings

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
        return replace(frame, image=converted(frame.image, self._config.format))

    def close(self) -> None:
        """Releases the device."""
        self._device.close()

    def describe(self) -> str:
        """Returns the device."""
        return self._device.describe()
