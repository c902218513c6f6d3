"""What a capture process gives, source by source."""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from differnet_runtime.capture import process as monitoring
from differnet_runtime.capture.messages import CameraState, FrameSlots
from differnet_runtime.capture.process import CaptureProcess
from differnet_runtime.errors import ImageReadError
from tests.faults.capturing import capture, children, next_frame, take_all, wait_for_state
from tests.runtime.waiting import wait_for
from tests.servers import require


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Twelve frames, each brighter than the last."""
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30.0, (64, 48))
    for number in range(12):
        writer.write(np.full((48, 64, 3), number * 20, np.uint8))
    writer.release()
    return path


def brightness(image: np.ndarray) -> int:
    return round(float(image.mean()) / 20)


def test_a_video_gives_every_frame_in_order_and_ends(video: Path) -> None:
    with capture(video) as process:
        assert not process.live
        frames, errors = take_all(process, 20)
        assert [frame.index for frame in frames] == list(range(12))
        assert [brightness(frame.image) for frame in frames] == list(range(12))
        assert not errors
        status = process.status
        assert (status.state, status.frames) == (CameraState.ENDED, 12)
        assert (status.width, status.height, status.pid) == (64, 48, None)
        assert not process.wait(0.05)  # the end is told once
        assert process.take() is None


def test_frames_are_stamped_after_the_read_just_before_they_are_taken(video: Path) -> None:
    with capture(video) as process:
        for _ in range(4):
            asked_ns = time.monotonic_ns()
            frame = next_frame(process)
            assert frame.captured_ns < time.monotonic_ns()
            assert abs(frame.captured_at_s - time.time()) < 60
            time.sleep(0.1)
        # Not read far ahead: at most while the one before it was looked at.
        assert frame.captured_ns > asked_ns - 1_000_000_000


def test_a_frame_is_its_takers_own(video: Path) -> None:
    with capture(video) as process:
        first = next_frame(process)
        before = first.image.copy()
        for _ in range(5):
            next_frame(process)
        assert np.array_equal(first.image, before)
        first.image[:] = 0


def test_a_paced_video_plays_at_its_speed_again_and_again(video: Path) -> None:
    with capture(video, paced=True) as process:
        assert process.live
        first = next_frame(process)
        last = first
        while last.index < 45:
            last = next_frame(process)
        seconds = (last.captured_ns - first.captured_ns) / 1e9
        assert seconds >= 0.9 * (last.index - first.index) / 30
        assert brightness(last.image) == last.index % 12
        assert process.status.state is CameraState.LIVE


def test_only_the_newest_frame_of_a_live_source_is_given(video: Path) -> None:
    with capture(video, paced=True) as process:
        next_frame(process)
        time.sleep(1.0)
        taken = next_frame(process)
        assert taken.index > 5
        assert time.monotonic_ns() - taken.captured_ns < 1e9
        status = process.status
        assert status.frames >= taken.index
        assert status.fps is not None


def test_a_folder_gives_what_is_there_and_what_comes(tmp_path: Path) -> None:
    grey = np.full((20, 30), 7, np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), grey)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden.png").write_text("no picture")
    with capture(tmp_path, format="mono") as process:
        first = next_frame(process)
        assert (first.name, first.image.shape) == ("a.png", (20, 30))
        cv2.imwrite(str(tmp_path / "b.png"), grey.astype(np.uint16) * 100)
        second = next_frame(process)
        assert (second.name, second.image.dtype) == ("b.png", np.uint16)
        cv2.imwrite(str(tmp_path / "a.png"), grey + 1)  # another picture of the same name
        assert int(next_frame(process).image[0, 0]) == 8
        assert process.status.state is CameraState.LIVE


def test_a_single_picture_is_a_source(tmp_path: Path) -> None:
    path = tmp_path / "part.png"
    cv2.imwrite(str(path), np.zeros((8, 8, 3), np.uint8))
    with capture(path) as process:
        assert next_frame(process).name == "part.png"


@pytest.mark.parametrize(
    ("form", "shape", "head"),
    [
        ("auto", (66, 99, 3), "video/x-raw,width=99,height=66"),
        ("mono", (66, 99), "video/x-raw,format=GRAY8,width=99,height=66"),
        ("bayer_rggb", (66, 100, 3), "video/x-bayer,format=rggb,width=100,height=66"),
    ],
)
def test_a_pipeline_is_a_camera(form: str, shape: tuple[int, ...], head: str) -> None:
    require("gst-launch-1.0")
    source = f"gst:videotestsrc is-live=true pattern=red ! {head},framerate=30/1"
    with capture(source, format=form) as process:
        frame = next_frame(process)
        assert frame.image.shape == shape
        if form != "mono":
            assert np.abs(frame.image[20, 20].astype(int) - (0, 0, 255)).max() <= 8
        assert next_frame(process).index > frame.index


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("gst:nosuchelement", 'no element "nosuchelement"'),
        ("gst:videotestsrc num-buffers=3 ! 'unclosed", "No closing quotation"),
        ("gst:videotestsrc num-buffers=0", "has ended"),
        ("97", "the camera can't be opened"),
        ("/nowhere/clip.mp4", "can't open it as a video"),
        ("/nowhere", "No such file or directory. Look whether it is there"),
    ],
)
def test_what_is_not_there_is_lost_with_a_reason(source: str, says: str) -> None:
    require("gst-launch-1.0")
    with capture(source) as process:
        wait_for_state(process, CameraState.LOST, within_s=30)
        assert says in str(process.status.reason)
        assert process.status.frames == 0


def test_a_pipeline_that_ends_is_started_again() -> None:
    require("gst-launch-1.0")
    source = "gst:videotestsrc is-live=true num-buffers=5 ! video/x-raw,width=64,height=48"
    with capture(source) as process:
        next_frame(process)
        wait_for_state(process, CameraState.LOST)
        assert "the source has ended" in str(process.status.reason)
        wait_for_state(process, CameraState.LIVE)
        assert process.status.reconnects >= 1


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_pipeline_ends_with_its_capture_process(how: str) -> None:
    require("gst-launch-1.0")
    with capture("gst:videotestsrc is-live=true ! video/x-raw,width=64,height=48") as process:
        next_frame(process)
        pid = process.status.pid
        assert pid
        (launched,) = children(pid)
        if how == "killed":
            os.kill(pid, signal.SIGKILL)
        else:
            process.stop()
        wait_for(lambda: not Path(f"/proc/{launched}").exists())


@pytest.mark.parametrize("how", ["stalls", "stopped"])
def test_a_pipeline_may_give_its_sensor_back_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """This one takes up to two seconds to end, as Argus may."""
    require("gst-launch-1.0")
    told = tmp_path / "states"
    monkeypatch.setenv("GST_DEBUG", "GST_STATES:4")
    monkeypatch.setenv("GST_DEBUG_FILE", str(told))
    monkeypatch.setenv("GST_DEBUG_NO_COLOR", "1")
    source = "gst:videotestsrc is-live=true ! video/x-raw,width=8,height=8 ! identity sleep-time="
    stall_s = 0.2 if how == "stalls" else 600
    with capture(f"{source}2000000", stall_s=stall_s) as process:
        next_frame(process)
        if how == "stopped":
            process.stop()
        wait_for(lambda: "<pipeline0> completed state change to NULL" in told.read_text())


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOMEM, "Cannot allocate memory"), ValueError("no descriptor came")]
)
def test_an_unexpected_error_is_told_once_and_the_camera_tried_again(
    error: Exception,
    video: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As when the frames' memory can't be mapped, or its descriptor finds no room."""
    tries = 0

    def mapping(*arguments: int) -> FrameSlots:
        nonlocal tries
        tries += 1
        if tries <= 2:
            raise error
        return FrameSlots(*arguments)

    monkeypatch.setattr(monitoring, "FrameSlots", mapping)
    with capture(video, paced=True) as process:
        wait_for_state(process, CameraState.LOST)
        assert str(error) in str(process.status.reason)
        assert next_frame(process).image.shape == (48, 64, 3)
        assert process.status.state is CameraState.LIVE
        assert process.alive
    assert caplog.text.count("the capture of camera failed") == 1


def test_no_picture_is_lost_by_a_failure_of_the_capture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: int) -> FrameSlots:
        monkeypatch.setattr(monitoring, "FrameSlots", FrameSlots)
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), np.zeros((8, 8, 3), np.uint8))
    monkeypatch.setattr(monitoring, "FrameSlots", failing)
    with capture(tmp_path) as process:
        assert [next_frame(process).name for _ in range(2)] == ["a.png", "b.png"]


def damage_the_fifth(video: Path) -> None:
    data = bytearray(video.read_bytes())
    starts = [at for at in range(len(data)) if data[at : at + 3] == b"\xff\xd8\xff"]
    data[starts[4] : starts[5] - 16] = bytes(starts[5] - 16 - starts[4])
    video.write_bytes(data)


def test_a_damaged_frame_of_a_video_is_told_in_its_turn(video: Path) -> None:
    damage_the_fifth(video)
    with capture(video) as process:
        frames, errors = take_all(process, 20)
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11]
    assert [str(error).partition(" (")[0] for error in errors] == [
        "clip.avi#4: the JPEG is damaged, cut short or of an unsupported kind"
    ]
    assert isinstance(errors[0], ImageReadError)


def next_name(process: CaptureProcess) -> str:
    """Returns the name of the next frame, whether it can be read or not."""
    try:
        return next_frame(process).name
    except ImageReadError as error:
        return error.name


@pytest.mark.parametrize("before", [3, 5, 8])
def test_after_a_crash_every_frame_of_a_damaged_video_still_comes_once(
    video: Path, before: int
) -> None:
    """The crash is before the damaged frame, or after it."""
    damage_the_fifth(video)
    with capture(video) as process:
        seen = [next_name(process) for _ in range(before)]
        pid = process.status.pid
        assert pid
        os.kill(pid, signal.SIGKILL)
        frames, errors = take_all(process, 30)
    seen += [frame.name for frame in frames] + [error.name for error in errors]
    assert sorted(seen) == sorted(f"clip.avi#{number}" for number in range(12))


def test_a_password_is_in_no_argument_and_no_text(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level("DEBUG")
    with capture("rtsp://admin:hunter2@127.0.0.1:9/x") as process:
        wait_for_state(process, CameraState.LOST, within_s=30)
        pid = process.status.pid
        assert b"hunter2" not in Path(f"/proc/{pid}/cmdline").read_bytes()
        assert "hunter2" not in f"{process.status}"
    assert "Connection refused" in caplog.text
    assert "hunter2" not in caplog.text
