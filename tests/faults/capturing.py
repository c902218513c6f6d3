"""What the fault tests of cameras share: a capture process, and what a test waits for."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from differnet_runtime.capture.messages import CameraState
from differnet_runtime.capture.process import CaptureProcess
from differnet_runtime.config.models import CameraConfig
from differnet_runtime.errors import ImageReadError
from differnet_runtime.records import Frame


@contextlib.contextmanager
def capture(source: str | Path, **options: Any) -> Iterator[CaptureProcess]:
    """Starts the capture of a camera, and ends it."""
    process = CaptureProcess("camera", CameraConfig(source=str(source), **options))
    process.start()
    try:
        yield process
    finally:
        process.stop()


def next_frame(process: CaptureProcess, within_s: float = 15.0, *, whole: bool = True) -> Frame:
    """Takes frames until one comes that may be judged."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if process.wait(0.05):
            frame = process.take()
            if frame is not None and (frame.damage is None or not whole):
                return frame
    raise AssertionError(f"no frame within {within_s:g} s: {process.status}")


def wait_for_state(process: CaptureProcess, *states: CameraState, within_s: float = 15.0) -> float:
    """Waits for a state; returns the seconds that it took."""
    begun = time.monotonic()
    while process.status.state not in states:
        if time.monotonic() - begun > within_s:
            raise AssertionError(f"not {states} within {within_s:g} s: {process.status}")
        time.sleep(0.01)
    return time.monotonic() - begun


def take_all(process: CaptureProcess, within_s: float) -> tuple[list[Frame], list[ImageReadError]]:
    """Takes everything up to the end of the source."""
    frames: list[Frame] = []
    errors: list[ImageReadError] = []
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if not process.wait(0.05):
            continue
        try:
            frame = process.take()
        except ImageReadError as error:
            errors.append(error)
            continue
        if frame is None:
            return frames, errors
        frames.append(frame)
    raise AssertionError(f"no end within {within_s:g} s: {process.status}")


def open_files() -> int:
    """Returns how many descriptors this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


def memory_kib(pid: int) -> int:
    """Returns a process's resident memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError(f"process {pid} has no memory")


def children(pid: int | str = "self") -> set[int]:
    """Returns the processes that a process has started and not yet reaped."""
    found: set[int] = set()
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            found |= {int(pid) for pid in (thread / "children").read_text().split()}
    return found
