"""Any GStreamer pipeline: CSI sensors, GigE Vision by `aravissrc`, hardware decoders.

Through OpenCV where its build has GStreamer (JetPack's has); the packages of the index have not,
and there a process (`gst_launch`) writes raw pictures into a pipe. Nothing is given to a shell, and
no pipeline stands on a command line.
"""

from __future__ import annotations

import time

import cv2

from ..config.models import CameraConfig
from ..errors import CameraError
from ..records import Frame, Image
from ..redaction import redact
from ..sentences import sentence
from .base import Camera, Room, no_room
from .pipe import Pipe
from .pixels import converted
from .reading import Reader

_WHOLE = "identity drop-buffer-flags=corrupted ! "
"""Decoders and demuxers mark a buffer that is not whole; those that don't, don't know."""
_SINK = "appsink drop=true max-buffers=1 sync=false"
_ATTEMPTS = 10


def open_pipeline(config: CameraConfig, room: Room = no_room) -> Camera:
    """Opens a pipeline, whose frames may be read into the room.

    Raises:
        CameraError: It can't be, or neither way is there.
    """
    kind = OpenCvPipeline if _opencv_has_gstreamer() else PipePipeline
    return kind(config, room)


def _opencv_has_gstreamer() -> bool:
    lines = (line.split() for line in cv2.getBuildInformation().splitlines())
    return any(words[:2] == ["GStreamer:", "YES"] for words in lines)


def head(config: CameraConfig) -> str:
    """Returns what drops damaged pictures and converts the others to those we read, as text."""
    return _WHOLE + _converted(config)


def _converted(config: CameraConfig) -> str:
    if config.format.startswith("bayer"):
        return "capsfilter name=differnet caps=video/x-bayer"
    if config.format == "mono":
        return "videoconvert ! capsfilter name=differnet caps=video/x-raw,format={GRAY16_LE,GRAY8}"
    return "videoconvert ! capsfilter name=differnet caps=video/x-raw,format=BGR"


class _Pipeline(Camera):
    live = True

    def __init__(self, config: CameraConfig) -> None:
        self._config = config
        self._index = 0

    def _frame(self, image: Image) -> Frame:
        stamps = time.monotonic_ns(), time.time()
        index, self._index = self._index, self._index + 1
        picture = converted(image, self._config.format)
        return Frame(picture, f"{self.describe()}#{index}", index, *stamps)

    def describe(self) -> str:
        """Returns the pipeline without passwords."""
        return redact(f"gst:{self._config.source}")


class PipePipeline(_Pipeline):
    """A pipeline run by `gst_launch`.

    Args:
        config: The camera's configuration.
        room: Where frames may be read into.

    Raises:
        CameraError: It can't be started, or gives no picture.
    """

    def __init__(self, config: CameraConfig, room: Room) -> None:
        super().__init__(config)
        self._pipe = Pipe(config.source, head(config), self.describe(), room)

    def read(self) -> Frame | None:
        """Waits for the next frame; see `Camera.read`."""
        image = self._pipe.read()
        return None if image is None else self._frame(image)

    def close(self) -> None:
        """Ends the pipeline."""
        self._pipe.close()


class OpenCvPipeline(_Pipeline):
    """A pipeline run inside OpenCV.

    Args:
        config: The camera's configuration.
        room: Where frames may be read into.

    Raises:
        CameraError: It can't be opened.
    """

    def __init__(self, config: CameraConfig, room: Room) -> None:
        super().__init__(config)
        text = f"{config.source} ! {head(config)} ! {_SINK}"
        self._capture = cv2.VideoCapture(text, cv2.CAP_GSTREAMER)
        if not self._capture.isOpened():
            self._capture.release()
            raise CameraError(
                f"{self.describe()}: the pipeline can't be started. Try it with "
                "`gst-launch-1.0 -v PIPELINE ! fakesink`."
            )
        self._reader = Reader(self._capture, room)

    def read(self) -> Frame | None:
        """Waits for the next frame; see `Camera.read`."""
        for _ in range(_ATTEMPTS):
            image = self._reader.read()
            if image is not None:
                return self._frame(image)
        raise CameraError(sentence("pipeline_ended", source=self.describe(), frames=self._index))

    def close(self) -> None:
        """Ends the pipeline."""
        self._capture.release()
