"""A GStreamer pipeline in a process, its raw pictures in a pipe.

Any GStreamer pipeline: CSI sensors, GigE Vision by `aravissrc`, hardware decoders.

Through OpenCV where its build has GStreamer (JetPack's has); the packages of the index have not,
and there a process (`gst_launch`) writes raw pictures into a pipe. Nothing is given to a shell, and
no pipeline stands on a command line.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import shlex
import signal
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..config.grammar import redact, redact_text
from ..config.models import CameraConfig
from ..errors import CameraError
from ..processes import die_with_parent
from ..records import Frame, Image, too_large
from ..sentences import sentence
from . import gst_launch
from .base import Camera, CaptureReader, Room, convert, no_room

_LAUNCH = (sys.executable, "-I", str(Path(gst_launch.__file__).absolute()))
_OPEN_S = 20.0
END_S = 5.0
"""A pipeline that is ended gets so long to give its sensor back; Argus needs that."""
_LAST_S = 1.0
_ALIGNED = 4
"""GStreamer's rows start at multiples of so many bytes."""


@dataclass(frozen=True)
class Caps:
    """What the pictures in the pipe are.

    Args:
        height: In pixels.
        width: Likewise.
        channels: 1 or 3.
        depth: Bytes of a value.
    """

    height: int
    width: int
    channels: int
    depth: int

    @property
    def row(self) -> int:
        """Bytes of a row."""
        return self.width * self.channels * self.depth

    @property
    def stride(self) -> int:
        """Bytes of a row with what fills it up."""
        return -(-self.row // _ALIGNED) * _ALIGNED

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the picture, as `records.Image` has it."""
        return (self.height, self.width, 3) if self.channels == 3 else (self.height, self.width)

    @classmethod
    def read(cls, line: str) -> Caps | None:
        """Reads them from a line of `gst_launch`; None if it says nothing of them."""
        if not line.startswith(gst_launch.CAPS):
            return None
        fields = dict(re.findall(r"(\w+)=\(\w+\)([\w.-]+)", line))
        if not {"width", "height", "format"} <= fields.keys():
            return None
        form = fields["format"]
        return cls(
            int(fields["height"]),
            int(fields["width"]),
            3 if form == "BGR" else 1,
            2 if form == "GRAY16_LE" else 1,
        )

    def image(self, data: memoryview) -> Image:
        """Returns the picture in a frame's bytes."""
        rows = np.frombuffer(data, np.uint8).reshape(self.height, self.stride)
        values = rows[:, : self.row]
        if self.depth == 2:
            return np.ascontiguousarray(values).view("<u2").astype(np.uint16, copy=False)
        return np.ascontiguousarray(values).reshape(self.shape)


class Pipe:
    """Runs a pipeline.

    Args:
        pipeline: Without its sink.
        head: What converts its pictures, with a capsfilter named `differnet`.
        title: For messages.
        room: Where pictures may be read into.

    Raises:
        CameraError: It can't be run.
    """

    def __init__(self, pipeline: str, head: str, title: str, room: Room) -> None:
        self._title, self._room = title, room
        self._errors: deque[str] = deque(maxlen=3)
        self._text = b""
        self._caps: Caps | None = None
        data, sink = os.pipe()
        try:
            words = [*shlex.split(pipeline), "!", *head.split(), "!", "fdsink", f"fd={sink}"]
            words.append("sync=false")
            self._process = subprocess.Popen(  # noqa: S603 - this Python, our own module
                _LAUNCH,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(sink,),
                preexec_fn=_end_with_parent,  # noqa: PLW1509 - this process has one thread
            )
        except (OSError, ValueError) as error:
            os.close(data)
            raise CameraError(sentence("pipeline_not_started", source=title, why=error)) from error
        finally:
            os.close(sink)
        self._data = data
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError), self._process.stdin as given:  # it may have ended
            given.write("\0".join(words).encode())
        self._told = self._process.stdout.fileno()
        os.set_blocking(self._told, False)
        os.set_blocking(self._data, False)
        try:
            self._wait_for_caps()
        except (CameraError, SystemExit):  # the latter where this process shall end
            self.close()
            raise

    def _wait_for_caps(self) -> None:
        until = time.monotonic() + _OPEN_S
        while self._caps is None:
            self._listen(0.2)
            if self._caps is None and self._process.poll() is not None:
                self._listen(0.0)
                raise self._ended("the pipeline can't be started")
            if time.monotonic() > until:
                raise self._ended(f"the pipeline gives no picture within {_OPEN_S:g} s")
        if (fault := too_large(self._caps.width, self._caps.height)) is not None:
            raise self._ended(f"the pipeline's picture can't be used: {fault}")

    def read(self) -> Image | None:
        """Waits for the next picture; None where the pipeline came to its end in order.

        Raises:
            CameraError: The pipeline broke off, or its pictures have another form now.
        """
        caps = self._caps
        assert caps is not None
        image = None
        if caps.stride == caps.row:
            image = self._room(caps.shape, np.dtype(np.uint16 if caps.depth == 2 else np.uint8))
        memory = memoryview(bytearray(caps.stride * caps.height)) if image is None else image.data
        data, at = memory.cast("B"), 0
        while at < len(data):
            poll = select.poll()
            poll.register(self._data, select.POLLIN)
            poll.register(self._told, select.POLLIN)
            ready = {descriptor for descriptor, _ in poll.poll()}
            if self._told in ready:
                self._listen(0.0)
            if self._data in ready:
                with contextlib.suppress(BlockingIOError):
                    got = os.readv(self._data, [data[at:]])
                    if got == 0 and at == 0 and self._in_order():
                        return None
                    if got == 0:
                        raise self._ended("the pipeline has ended")
                    at += got
        self._listen(0.0)  # a new form is told before its first picture is in the pipe
        if self._caps != caps:
            raise CameraError(f"{self._title}: the pictures' size changed; it is opened again")
        return caps.image(data) if image is None else image

    def _listen(self, timeout_s: float) -> None:
        poll = select.poll()
        poll.register(self._told, select.POLLIN)
        if not poll.poll(timeout_s * 1e3):
            return
        try:
            got = os.read(self._told, 1 << 16)
        except BlockingIOError:
            return
        if not got:
            time.sleep(0.01)  # it has ended; the data say so too
        *lines, self._text = (self._text + got).split(b"\n")
        for line in lines:
            text = line.decode("utf-8", "replace").strip()
            self._caps = Caps.read(text) or self._caps
            if text.startswith(gst_launch.ERROR) or "error" in text.lower():
                self._errors.append(text)

    def _in_order(self) -> bool:
        """Whether the process has ended by itself and without an error."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(_LAST_S) == 0 and not self._errors
        return False

    def _ended(self, what: str) -> CameraError:
        told = f" It says: {redact_text(' | '.join(self._errors))}" if self._errors else ""
        return CameraError(f"{self._title}: {what}.{told}")

    def close(self) -> None:
        """Ends the pipeline, in order if it can (some sensors need that), else at once."""
        os.close(self._data)
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def _end_with_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    die_with_parent()


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


class _PipelineCamera(Camera):
    live = True

    def __init__(self, config: CameraConfig) -> None:
        self._config = config
        self._index = 0

    def _frame(self, image: Image) -> Frame:
        stamps = time.monotonic_ns(), time.time()
        index, self._index = self._index, self._index + 1
        picture = convert(image, self._config.format)
        return Frame(picture, f"{self.describe()}#{index}", index, *stamps)

    def describe(self) -> str:
        """Returns the pipeline without passwords."""
        return redact(f"gst:{self._config.source}")


class PipePipeline(_PipelineCamera):
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


class OpenCvPipeline(_PipelineCamera):
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
        self._reader = CaptureReader(self._capture, room)

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
