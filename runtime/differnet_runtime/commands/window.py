"""Windows, where this OpenCV and this machine have them."""

from __future__ import annotations

import os
import sys

import cv2

from differnet_runtime.errors import DataError, OutputError
from differnet_runtime.installation import advice
from differnet_runtime.metadata import Region
from differnet_runtime.records import Image


def _hint() -> str:
    return (
        "Windows need a desktop and OpenCV with a window: `pip uninstall opencv-python-headless` "
        f"first. {advice('opencv')}"
    )


class Window:
    """A window that shows pictures.

    Args:
        title: Its title.
        instead: What to do where there are no windows; the end of the error's message.

    Raises:
        OutputError: There are no windows here.
    """

    def __init__(self, title: str, instead: str) -> None:
        self._title = title
        # With a desktop missing, some builds of OpenCV end the whole process.
        if sys.platform == "linux" and not (
            os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        ):
            raise OutputError(f"no window can be opened: there is no desktop. {_hint()} {instead}")
        try:
            cv2.namedWindow(title, cv2.WINDOW_NORMAL)
        except cv2.error as error:
            raise OutputError(
                f"no window can be opened: this OpenCV is built without. {_hint()} {instead}"
            ) from error

    def show(self, picture: Image) -> bool:
        """Shows a picture; returns False once the user has pressed q."""
        cv2.imshow(self._title, picture)
        return cv2.waitKey(1) & 0xFF != ord("q")

    def choose_region(self, picture: Image) -> Region:
        """Lets the user drag a rectangle, Enter accepts it.

        Raises:
            DataError: None was chosen, or it is too small.
        """
        x, y, width, height = cv2.selectROI(self._title, picture, showCrosshair=False)
        if min(width, height) < 8:
            raise DataError(
                f"no region was chosen, or it is too small ({width} x {height} pixels, at least "
                "8 x 8 are needed). Drag a rectangle and press Enter, or give it with --roi."
            )
        return Region(x=x, y=y, width=width, height=height)

    def close(self) -> None:
        """Closes the window."""
        cv2.destroyWindow(self._title)
