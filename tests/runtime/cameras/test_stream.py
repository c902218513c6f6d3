"""Lost access units, judged frame by frame against the clip as it is when nothing is lost."""

import random
from pathlib import Path

import numpy as np
import pytest

from differnet_runtime.cameras.stream import StreamCamera
from differnet_runtime.config.models import CameraConfig
from differnet_runtime.errors import CameraError
from tests.fakes.clips import Clip, number_of

FRAMES, GOP = 300, 30


def read_all(path: Path) -> dict[int, bool]:
    """Returns by number whether each frame that was handed out as whole is whole."""
    whole: dict[int, bool] = {}
    clip = Clip(bframes=2 if "b2" in path.name else 0)
    clean = clip.whole()
    with StreamCamera(CameraConfig(source=str(path), kind="stream")) as camera:
        while True:
            try:
                frame = camera.read()
            except CameraError:
                return whole
            assert frame is not None
            if frame.damage is None:
                number = number_of(frame.image)
                whole[number] = number < FRAMES and np.array_equal(frame.image, clean[number])


@pytest.mark.parametrize("share", [0.01, 0.03, 0.10])
@pytest.mark.parametrize("seed", range(4))
def test_no_damaged_frame_is_handed_out_as_whole(tmp_path: Path, share: float, seed: int) -> None:
    chance = random.Random(seed)
    lost = {unit for unit in range(FRAMES) if chance.random() < share}
    whole = read_all(Clip().losing(lost, tmp_path / "lossy.mp4"))
    assert all(whole.values())
    expected = {n for n in range(FRAMES) if not lost & set(range(n - n % GOP, n + 1))}
    # OpenCV leaves a stream's last frames out where packets are missing.
    assert len(expected & whole.keys()) >= 0.95 * len(expected)
    assert whole.keys() <= expected


@pytest.mark.parametrize("share", [0.01, 0.03, 0.10])
@pytest.mark.parametrize("seed", range(4))
def test_nor_where_frames_are_predicted_from_both_sides(
    tmp_path: Path, share: float, seed: int
) -> None:
    chance = random.Random(seed)
    lost = {unit for unit in range(FRAMES) if chance.random() < share}
    whole = read_all(Clip(bframes=2).losing(lost, tmp_path / "lossy-b2.mp4"))
    assert all(whole.values())
    assert len(whole) > 0.1 * FRAMES


def test_a_whole_stream_is_handed_out_whole(tmp_path: Path) -> None:
    for clip, name in [(Clip(), "whole.mp4"), (Clip(bframes=2), "whole-b2.mp4")]:
        whole = read_all(clip.losing((), tmp_path / name))
        assert all(whole.values())
        assert len(whole) >= FRAMES - 3
