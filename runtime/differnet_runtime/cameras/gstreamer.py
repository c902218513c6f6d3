"""Any GStreamer pipeline as a camera: CSI sensors, GigE Vision by `aravissrc`, hardware decoders.

OpenCV runs it where its build has GStreamer, as JetPack's has; the builds on PyPI have not, and
there a process (`gst_launch`) writes raw pictures into a pipe. No shell is involved, and no
pipeline stands on a command line.
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
from math import prod
from pathlib import Path

import cv2
import numpy as np

from ..config.grammar import redact, redact_text
from ..config.models import CameraConfig, PixelFormat
from ..errors import CameraError
from ..picture_files import too_large
from ..processes import die_with_parent
from ..records import Frame, Image
from ..sentences import sentence
from . import gst_launch
from .base import Camera, GetBuffer, convert, no_buffer
from .opencv import CaptureReader

END_S = 5.0
"""Time in seconds for a pipeline to give its sensor back when it is closed; Argus needs that."""
_OPEN_S = 20.0
_EXIT_S = 1.0
_LAUNCH = (sys.executable, "-I", str(Path(gst_launch.__file__).absolute()))
_ROW_ALIGNMENT = 4
"""GStreamer's rows start at multiples of this number of bytes."""


class PipelineCamera(Camera):
    """Reads the pictures of a GStreamer pipeline.

    Args:
        config: The camera's configuration; its source is the pipeline, without a sink.
        get_buffer: Where frames may be read into.

    Raises:
        CameraError: The pipeline can't be started, or gives no picture.

    Example:
        >>> camera = PipelineCamera(CameraConfig(source="nvarguscamerasrc", kind="gstreamer"))
    """

    live = True

    def __init__(self, config: CameraConfig, get_buffer: GetBuffer = no_buffer) -> None:
        self._format, self.source = config.format, redact(f"gst:{config.source}")
        build = (line.split() for line in cv2.getBuildInformation().splitlines())
        opencv = any(words[:2] == ["GStreamer:", "YES"] for words in build)
        pipeline = f"{config.source} ! {_converter(config.format)}"
        self._pipe = (OpenCvPipe if opencv else PipelineProcess)(pipeline, self.source, get_buffer)

    def read(self) -> Frame | None:
        """Waits for the next frame; see `Camera.read`."""
        image = self._pipe.read()
        if image is None:
            return None
        stamps = time.monotonic_ns(), time.time()
        return Frame(convert(image, self._format), *self._next_name(), *stamps)

    def close(self) -> None:
        """Ends the pipeline."""
        self._pipe.close()


def _converter(pixels: PixelFormat) -> str:
    """Returns the elements that drop damaged pictures and convert the others to what we read."""
    # Decoders and demuxers mark a buffer that is not whole; those that don't, don't know.
    drop, caps = (
        "identity drop-buffer-flags=corrupted",
        f"capsfilter name={gst_launch.FILTER} caps=",
    )
    if pixels.startswith("bayer"):
        return f"{drop} ! {caps}video/x-bayer"
    formats = "{GRAY16_LE,GRAY8}" if pixels == "mono" else "BGR"
    return f"{drop} ! videoconvert ! {caps}video/x-raw,format={formats}"


class OpenCvPipe:
    """A pipeline run inside OpenCV.

    Args:
        pipeline: The pipeline without its sink, as text.
        title: The camera's name in messages.
        get_buffer: Where pictures may be read into.

    Raises:
        CameraError: It can't be started.
    """

    def __init__(self, pipeline: str, title: str, get_buffer: GetBuffer) -> None:
        sink = "appsink drop=true max-buffers=1 sync=false"
        self._title, self._count = title, 0
        self._reader = CaptureReader(
            cv2.VideoCapture(f"{pipeline} ! {sink}", cv2.CAP_GSTREAMER),
            get_buffer,
            f"{title}: the pipeline can't be started. Try it with "
            "`gst-launch-1.0 -v PIPELINE ! fakesink`.",
        )

    def read(self) -> Image:
        """Waits for the next picture.

        Raises:
            CameraError: The pipeline gives none any more.
        """
        image, _ = self._reader.read_on()
        if image is None:
            raise CameraError(sentence("pipeline_ended", source=self._title, frames=self._count))
        self._count += 1
        return image

    def close(self) -> None:
        """Ends the pipeline."""
        self._reader.close()


class PipelineProcess:
    """A pipeline run by `gst_launch`, whose raw pictures come through a pipe.

    Args:
        pipeline: The pipeline without its sink, as text, with a capsfilter named `differnet`.
        title: The camera's name in messages.
        get_buffer: Where pictures may be read into.

    Raises:
        CameraError: It can't be started, or gives no picture.
    """

    def __init__(self, pipeline: str, title: str, get_buffer: GetBuffer) -> None:
        self._title, self._get_buffer = title, get_buffer
        self._errors: deque[str] = deque(maxlen=3)
        self._text = b""
        self._caps: Caps | None = None
        self._data, sink = os.pipe()
        try:
            words = [*shlex.split(pipeline), "!", "fdsink", f"fd={sink}", "sync=false"]
            self._process = subprocess.Popen(  # noqa: S603 - this Python, our own module
                _LAUNCH,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(sink,),
                preexec_fn=_end_with_parent,  # noqa: PLW1509 - this process has one thread
            )
        except (OSError, ValueError) as error:
            os.close(self._data)
            raise CameraError(sentence("pipeline_not_started", source=title, why=error)) from error
        finally:
            os.close(sink)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError), self._process.stdin as given:  # it may have ended
            given.write("\0".join(words).encode())
        self._output = self._process.stdout.fileno()
        os.set_blocking(self._output, False)
        os.set_blocking(self._data, False)
        try:
            self._wait_for_caps()
        except (CameraError, SystemExit):  # the latter where the capture process is ended
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
        if (fault := too_large(*self._caps.shape[1::-1])) is not None:
            raise self._ended(f"the pipeline's picture can't be used: {fault}")

    def read(self) -> Image | None:
        """Waits for the next picture; None where the pipeline ended without an error.

        Raises:
            CameraError: The pipeline broke off, or the form of its pictures changed.
        """
        caps, image = self._caps, None
        assert caps is not None
        if caps.stride == caps.row:
            image = self._get_buffer(caps.shape, caps.dtype)
        memory = memoryview(bytearray(caps.stride * caps.shape[0])) if image is None else image.data
        data, at = memory.cast("B"), 0
        while at < len(data):
            ready = _readable(None, self._data, self._output)
            if self._output in ready:
                self._listen(0.0)
            if self._data in ready:
                with contextlib.suppress(BlockingIOError):
                    got = os.readv(self._data, [data[at:]])
                    if got == 0 and at == 0 and self._has_ended_well():
                        return None
                    if got == 0:
                        raise self._ended("the pipeline has ended")
                    at += got
        self._listen(0.0)  # a new form is announced before its first picture is in the pipe
        if self._caps != caps:
            raise CameraError(f"{self._title}: the pictures' size changed; it is opened again")
        return caps.image(data) if image is None else image

    def _listen(self, timeout_s: float) -> None:
        """Reads the lines that the process has written: the form of its pictures, and errors."""
        if not _readable(timeout_s, self._output):
            return
        try:
            got = os.read(self._output, 1 << 16)
        except BlockingIOError:
            return
        if not got:
            time.sleep(0.01)  # it has ended, which the pipe will show too
        *lines, self._text = (self._text + got).split(b"\n")
        for line in lines:
            text = line.decode("utf-8", "replace").strip()
            self._caps = Caps.parse(text) or self._caps
            if text.startswith(gst_launch.ERROR) or "error" in text.lower():
                self._errors.append(text)

    def _has_ended_well(self) -> bool:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(_EXIT_S) == 0 and not self._errors
        return False

    def _ended(self, what: str) -> CameraError:
        said = f" It says: {redact_text(' | '.join(self._errors))}" if self._errors else ""
        return CameraError(f"{self._title}: {what}.{said}")

    def close(self) -> None:
        """Interrupts the pipeline, as some sensors need it, and kills it after `END_S`."""
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


def _readable(timeout_s: float | None, *descriptors: int) -> set[int]:
    """Waits until one of the descriptors can be read; returns those that can."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return {ready for ready, _ in poll.poll(None if timeout_s is None else timeout_s * 1e3)}


@dataclass(frozen=True)
class Caps:
    """The form of the pictures in the pipe.

    Args:
        shape: `(H, W, 3)` or `(H, W)`.
        dtype: uint8 or uint16.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]

    @property
    def row(self) -> int:
        """Bytes of a row."""
        return prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def stride(self) -> int:
        """Bytes of a row with its padding."""
        return -(-self.row // _ROW_ALIGNMENT) * _ROW_ALIGNMENT

    @classmethod
    def parse(cls, line: str) -> Caps | None:
        """Parses a line of `gst_launch`; None if it is about something else."""
        fields = dict(re.findall(r"(\w+)=\(\w+\)([\w.-]+)", line))
        if not line.startswith(gst_launch.CAPS) or not {"width", "height", "format"} <= set(fields):
            return None
        size = int(fields["height"]), int(fields["width"])
        shape = (*size, 3) if fields["format"] == "BGR" else size
        return cls(shape, np.dtype("uint16" if fields["format"] == "GRAY16_LE" else "uint8"))

    def image(self, data: memoryview) -> Image:
        """Returns the image in a picture's bytes, without the padding of its rows."""
        rows = np.frombuffer(data, np.uint8).reshape(-1, self.stride)
        image: Image = np.ascontiguousarray(rows[:, : self.row]).view(self.dtype)
        return image.reshape(self.shape)
