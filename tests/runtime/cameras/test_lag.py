import time

import pytest

from differnet_runtime.cameras.lag import Lag
from differnet_runtime.cameras.stream import StreamCamera
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
