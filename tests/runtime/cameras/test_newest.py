"""A live source that is faster than its reader: only what is new counts, and the end is told."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest

from differnet_runtime.cameras.base import Camera, Newest
from differnet_runtime.errors import CameraError, ImageReadError
from differnet_runtime.records import Frame

Step = Frame | Exception | None
Opened = Callable[..., "tuple[Scripted, Newest]"]


class Scripted(Camera):
    """Gives what a script says, each step when it is let."""

    source = "scripted"
    live = True

    def __init__(self, *steps: Step) -> None:
        self._steps = list(steps)
        self.allowed = threading.Semaphore(0)
        self.reads = threading.Semaphore(0)
        self.closed = threading.Event()
        self.closings = 0

    def let(self, count: int) -> None:
        """Lets so many steps be read, and waits until the next is asked for."""
        for _ in range(count):
            self.allowed.release()
            assert self.reads.acquire(timeout=10)

    def read(self) -> Frame | None:
        self.reads.release()
        assert self.allowed.acquire(timeout=10)
        step = self._steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step

    def close(self) -> None:
        self.closings += 1
        self.closed.set()


def frame(index: int) -> Frame:
    return Frame(np.zeros((4, 4, 3), np.uint8), f"f{index}", index, 0, 0.0)


@pytest.fixture
def opened() -> Opened:
    def start(*steps: Step) -> tuple[Scripted, Newest]:
        script = Scripted(*steps, None)
        camera = Newest(script)
        assert script.reads.acquire(timeout=10)
        return script, camera

    return start


def test_frames_that_nobody_read_are_dropped(opened: Opened) -> None:
    script, camera = opened(*(frame(n) for n in range(6)))
    script.let(3)
    first = camera.read()
    script.let(2)
    second = camera.read()
    assert first is not None
    assert second is not None
    assert (first.index, second.index) == (2, 4)
    script.let(1)
    script.allowed.release()  # the end
    assert camera.read() is not None
    assert camera.read() is None
    assert camera.read() is None
    camera.close()
    assert script.closings == 1


def test_a_lost_source_is_told_after_its_last_frame(opened: Opened) -> None:
    script, camera = opened(frame(0), CameraError("gone"))
    script.let(1)
    script.allowed.release()
    assert camera.read() is not None
    with pytest.raises(CameraError, match="gone"):
        camera.read()
    camera.close()


def test_a_bad_picture_is_told_and_read_on(opened: Opened) -> None:
    script, camera = opened(ImageReadError("f0", "damaged"), frame(1))
    script.let(1)
    with pytest.raises(ImageReadError, match="damaged"):
        camera.read()
    script.let(1)
    assert camera.read() is not None
    script.allowed.release()
    camera.close()
    assert script.closings == 1


def test_a_source_that_is_being_read_is_closed_by_its_reader(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("differnet_runtime.cameras.base._CLOSE_S", 0.0)
    script, camera = opened(frame(0))
    camera.close()
    assert script.closings == 0
    script.allowed.release()
    assert script.closed.wait(10)
    assert script.closings == 1
