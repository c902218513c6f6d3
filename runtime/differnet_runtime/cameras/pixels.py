"""Grey pixels as a camera sends them: mono, or a colour mosaic that has to be filled in."""

from __future__ import annotations

import cv2

from ..config.models import PixelFormat
from ..errors import CameraError
from ..records import Image

_BAYER = {
    # OpenCV names a mosaic by the second row's second and third pixel, everyone else by its
    # first two pixels: what cameras call RGGB is OpenCV's BayerBG.
    "bayer_rggb": cv2.COLOR_BayerBG2BGR,
    "bayer_bggr": cv2.COLOR_BayerRG2BGR,
    "bayer_grbg": cv2.COLOR_BayerGB2BGR,
    "bayer_gbrg": cv2.COLOR_BayerGR2BGR,
}


def converted(image: Image, pixels: PixelFormat) -> Image:
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
