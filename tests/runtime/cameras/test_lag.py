import time

import pytest

from differnet_runtime.cameras.stream import Lag, StreamCamera
from differnet_runtime.config.models import CameraConfig
from differnet_runtime.errors import CameraError
from tests.fakes.clips import Clip
from tests.fakes.rtsp import rtsp_camera


def test_frames_that_come_as_they_are_taken_are_prompt() -> None:
    lag = Lag()
    assert max(lag.seconds(100 + n / 30, n * 1000 / 30) for n in range(1000)) < 1e-6


def test_a_queue_at_the_start_is_forgotten_once_it_is_read() -> None:
    lag = Lag()
    queued = [lag.seconds(100 + n / 1000, n * 1000 / 30) for n in range(10)]
    assert max(queued) < 1e-6  # nothing promptly read to compare with yet
    assert lag.seconds(100.5, 500) == pytest.approx(0.3 - 0.009, abs=0.01)


def test_reading_at_two_thirds_of_the_rate_falls_behind() -> None:
    lag = Lag()
    behind = [lag.seconds(n / 20, n * 1000 / 30) for n in range(200)]
    assert behind[-1] == pytest.approx(199 / 60, rel=0.05)


def test_days_of_a_clock_that_goes_wrong_are_no_lag() -> None:
    lag = Lag()
    assert max(lag.seconds(n * 1.0002, n * 1000.0) for n in range(0, 400_000, 10)) < 0.01


def test_stamps_that_are_set_anew_are_no_lag_and_hide_none() -> None:
    lag = Lag()
    assert lag.seconds(100, 5000) == 0
    assert lag.seconds(102, 6500) == pytest.approx(0.5, abs=0.01)
    assert lag.seconds(102.1, 0) == pytest.approx(0.5, abs=0.01)
    assert lag.seconds(102.7, 100) == pytest.approx(1.0, abs=0.01)


def test_frames_that_wait_are_stamped_when_they_were_taken() -> None:
    with rtsp_camera(Clip()) as server:
        config = CameraConfig(source=server.url, kind="stream", stall_s=30)
        with StreamCamera(config) as camera:
            frames, read_ns, until = [], [], time.monotonic() + 4
            while time.monotonic() < until:
                frames.append(camera.read())
                read_ns.append(time.monotonic_ns())
                time.sleep(0.1)
    first, last = frames[10], frames[-1]
    assert first is not None
    assert last is not None
    assert first.stream_ms is not None
    assert last.stream_ms is not None
    taken_s = (last.stream_ms - first.stream_ms) / 1e3
    assert (read_ns[-1] - read_ns[10]) / 1e9 > taken_s + 0.5  # they were read ever later
    assert (last.captured_ns - first.captured_ns) / 1e9 == pytest.approx(taken_s, abs=0.2)
    assert last.captured_at_s - first.captured_at_s == pytest.approx(taken_s, abs=0.2)
    assert (read_ns[-1] - last.captured_ns) / 1e9 > 0.5


def read_slowly(camera: StreamCamera) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        camera.read()
        time.sleep(0.1)


def test_a_stream_that_is_read_too_slowly_is_not_read_on() -> None:
    with rtsp_camera(Clip()) as server:
        config = CameraConfig(source=server.url, kind="stream", stall_s=0.5)
        with StreamCamera(config) as camera, pytest.raises(CameraError, match=r"too slowly"):
            read_slowly(camera)
