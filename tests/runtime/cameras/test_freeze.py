"""How long pixels have been the same: one that differs anywhere ends it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest

from differnet_runtime.cameras.base import FreezeDetector
from differnet_runtime.records import Frame, Image
from tests.faults.capturing import capture, next_frame
from tests.runtime.waiting import wait_for

SHAPE = (48, 64, 3)
FROZEN_S = 2.0


def noise(seed: int) -> Image:
    return np.random.RandomState(seed).randint(0, 256, SHAPE).astype(np.uint8)


def seconds(freeze: FreezeDetector, image: Image, at_s: float) -> float:
    return freeze.seconds(Frame(image, "f", 0, round(at_s * 1e9), 0.0))


def test_it_is_counted_by_the_stamps_from_the_first_of_them() -> None:
    one = FreezeDetector()
    assert [seconds(one, noise(7), at_s) for at_s in (50, 50.5, 52, 60)] == [0, 0.5, 2, 10]
    assert seconds(one, noise(8), 61) == 0
    assert seconds(one, noise(7), 62) == 0
    assert seconds(one, noise(7), 63) == 1


def test_one_pixel_anywhere_is_a_change() -> None:
    one = FreezeDetector()
    for k, (row, column) in enumerate([(0, 0), (16, 32), (1, 1), (47, 63), (17, 5)]):
        picture = noise(1)
        assert seconds(one, picture, 10 * k) == 0
        assert seconds(one, picture.copy(), 10 * k + 1) == 1
        changed = picture.copy()
        changed[row, column, 2] ^= 1
        assert seconds(one, changed, 10 * k + 2) == 0


def test_another_size_or_depth_is_a_change() -> None:
    one = FreezeDetector()
    black = np.zeros((32, 32), np.uint8)
    pictures = [black, black[:16], np.zeros((32, 32, 3), np.uint8)]
    assert [seconds(one, picture, k) for k, picture in enumerate(pictures)] == [0, 0, 0]


def test_a_freeze_is_known_to_whoever_takes_the_first_frame_after_it(tmp_path: Path) -> None:
    """No frame is taken while the camera freezes: the capture process sees them all."""
    clip, fps = tmp_path / "freezes.avi", 20
    # Lossless: a codec with a bit rate goes on changing a picture that stands still.
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*"FFV1"), fps, SHAPE[1::-1])
    for k in range(40):
        writer.write(noise(k))
    for _ in range(round(FROZEN_S * fps) * 5):
        writer.write(noise(99))
    writer.release()
    with capture(clip, paced=True) as camera:
        first = next_frame(camera)
        assert first.unchanged_s < FROZEN_S
        wait_for(lambda: camera.status.frames >= 45 + round(FROZEN_S * fps))
        frame = next_frame(camera)
        assert frame.unchanged_s >= FROZEN_S
        assert frame.unchanged_s <= (frame.captured_ns - first.captured_ns) / 1e9


def still(path: Path) -> Path:
    """Writes a video of one picture, lossless."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"FFV1"), 20, SHAPE[1::-1])
    for _ in range(20):
        writer.write(noise(99))
    writer.release()
    return path


@pytest.mark.parametrize("depth", ["colour", "grey"])
def test_a_freeze_is_counted_on_when_the_capture_process_starts_anew(
    depth: str, tmp_path: Path
) -> None:
    form = {"grey": {"format": "mono"}}.get(depth, {})
    with capture(still(tmp_path / "frozen.avi"), paced=True, **form) as camera:
        first = next_frame(camera)
        wait_for(lambda: camera.status.frames >= 20)
        pid = camera.status.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: camera.status.pid not in (None, pid))
        while camera.take() is not None:
            pass
        after = next_frame(camera)
        while after.index > first.index + 15:  # still of the first process
            after = next_frame(camera)
        assert after.unchanged_s >= (after.captured_ns - first.captured_ns) / 1e9 - 1e-6


def test_a_camera_that_shows_something_new_after_a_restart_is_not_frozen(tmp_path: Path) -> None:
    clip = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*"FFV1"), 20, SHAPE[1::-1])
    for k in range(400):
        writer.write(noise(k))
    writer.release()
    with capture(clip, paced=True) as camera:
        wait_for(lambda: camera.status.frames >= 20)
        pid = camera.status.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: camera.status.pid not in (None, pid))
        camera.take()
        assert next_frame(camera).unchanged_s == 0
