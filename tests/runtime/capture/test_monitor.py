"""What is made of a process that says something, nothing, or ends."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator

import numpy as np
import pytest

from differnet_runtime.capture.child import CaptureLink
from differnet_runtime.capture.messages import CameraState, FrameQueue, Gone, Lost, Opened, Trying
from differnet_runtime.capture.pictures import Pictures
from differnet_runtime.capture.process import CaptureMonitor, CaptureStats
from differnet_runtime.config.models import CameraConfig
from differnet_runtime.errors import ImageReadError
from differnet_runtime.records import Frame


class Process:
    """Stands in for `processes.Child`: this test speaks for the process."""

    said = "401 Unauthorized"

    def __init__(self, live: bool, pictures: Pictures | None = None, **options: object) -> None:
        self.channel, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.link = CaptureLink(self.theirs, live)
        self.queue, self.stats = FrameQueue(live), CaptureStats("a camera")
        self.pictures = pictures or Pictures({"old"})
        self.stats.update(state=CameraState.STARTING)
        options = {"source": "x", "kind": "device" if live else "folder", **options}
        config = CameraConfig(**options)  # type: ignore[arg-type]
        self.monitor = CaptureMonitor(config, live, self.queue, self.stats, self.pictures)

    def death(self) -> str:
        return "the capture process was ended by SIGSEGV"

    def listen(self, times: int = 1) -> bool:
        return all(self.monitor.listen(self) for _ in range(times))  # type: ignore[arg-type]

    def give_frame(self, age_s: float = 0.0) -> None:
        stamp = time.monotonic_ns() - int(age_s * 1e9)
        self.link.frame(Frame(np.zeros((4, 4), np.uint8), "f", 0, stamp, time.time()))


@contextlib.contextmanager
def process(live: bool, pictures: Pictures | None = None, **options: object) -> Iterator[Process]:
    made = Process(live, pictures, **options)
    with made.channel, made.theirs:
        yield made


def test_frames_keep_a_camera_alive() -> None:
    with process(True, stall_s=5.0) as one:
        one.link.send(Opened())
        one.give_frame()
        assert one.listen(3)
        status = one.stats.status
        assert (status.state, status.frames, status.width) == (CameraState.LIVE, 1, 4)


def test_an_old_frame_does_not() -> None:
    with process(True, stall_s=0.3) as one:
        one.link.send(Opened())
        one.give_frame(age_s=0.5)
        assert not one.listen(3)
        assert one.stats.status.state is CameraState.STALLED
        assert one.stats.status.reason == "a camera gives no new frame for 0.3 s"


def test_a_camera_that_gives_few_frames_is_given_time() -> None:
    with process(True, stall_s=0.3, fps=0.5) as one:
        one.give_frame(age_s=3.0)
        assert one.listen(2)


def test_what_it_cannot_open_is_told_with_what_it_said() -> None:
    with process(True) as one:
        one.link.send(Lost(text="a camera can't be opened."))
        assert one.listen()
        status = one.stats.status
        assert status.state is CameraState.LOST
        assert status.reason == "a camera can't be opened. It said: 401 Unauthorized"


def test_a_process_that_ends_is_lost() -> None:
    with process(True) as one:
        one.theirs.close()
        assert not one.listen()
        assert "SIGSEGV" in str(one.stats.status.reason)


def test_what_is_no_message_ends_it() -> None:
    with process(True) as one:
        one.theirs.send(os.urandom(100))
        assert not one.listen()
        assert one.stats.status.state is CameraState.LOST


def die_over_a_picture(pictures: Pictures) -> FrameQueue:
    with process(False, pictures) as one:
        one.link.send(Opened())
        one.link.send(Trying(name="evil.tiff", key="evil.tiff|7|7"))
        assert one.listen(2)
        one.theirs.close()
        assert not one.listen()
        return one.queue


def test_a_picture_that_kills_two_readers_is_named_and_not_read_again() -> None:
    pictures = Pictures({"old"})
    assert not die_over_a_picture(pictures).wait(0.0)
    assert pictures.seen == {"old"}
    queue = die_over_a_picture(pictures)
    assert pictures.seen == {"old", "evil.tiff|7|7"}
    with pytest.raises(ImageReadError, match=r"evil\.tiff: reading it ended .*SIGSEGV"):
        queue.take()


def test_pictures_that_are_gone_are_forgotten() -> None:
    with process(False) as one:
        one.link.send(Gone(keys=("old",)))
        assert one.listen()
        assert not one.pictures.seen


def test_a_folder_without_pictures_may_wait_for_ever() -> None:
    with process(False, stall_s=0.2) as one:
        one.link.send(Opened())
        assert one.listen(5)
        assert one.stats.status.state is CameraState.LIVE


def test_what_a_process_tells_of_its_source_shows_no_password(
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = "rtspsrc location=rtsp://cam/s user-pw=hunter2"
    with process(True, source=source, kind="gstreamer") as one:
        one.link.send(Lost(text=f"gst:{source}: rtsp://u:hunter2@cam/s does not answer"))
        one.link.send(Lost(text=f"{source} is lost"))
        for says in ("cam/s does not answer", "user-pw=*** is lost"):
            assert one.listen()
            assert says in str(one.stats.status.reason)
            assert "hunter2" not in str(one.stats.status.reason)
    assert "hunter2" not in caplog.text
