"""A GStreamer pipeline in a process, its raw pictures in a pipe."""

from __future__ import annotations

import contextlib
import ctypes
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

import numpy as np

from ..errors import CameraError
from ..records import Image, too_large
from ..redaction import redact_text
from ..sentences import sentence
from . import gst_launch
from .base import Room

_LAUNCH = (sys.executable, "-I", str(Path(gst_launch.__file__).absolute()))
_OPEN_S = 20.0
END_S = 5.0
"""A pipeline that is ended gets so long to give its sensor back; Argus needs that."""
_LAST_S = 1.0
_PR_SET_PDEATHSIG = 1
_ALIGNED = 4
"""GStreamer's rows start at multiples of so many bytes."""
_LIBC = ctypes.CDLL(None)


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
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
