"""Reads OpenCV's pictures, into memory that is given where there is some."""

from __future__ import annotations

import cv2
import numpy as np

from ..errors import CameraError
from ..records import Image, too_large
from .base import Room


class Reader:
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
