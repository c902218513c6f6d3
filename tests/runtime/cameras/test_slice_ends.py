"""Wrong bytes within H.265's pictures: seen by where slices end, or by check sums."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from benchmarks.stream_kinds import reference_of
from differnet_runtime.cameras import h265
from differnet_runtime.cameras.base import Camera
from differnet_runtime.cameras.stream import StreamCamera
from differnet_runtime.cameras.video import VideoCamera
from differnet_runtime.config.models import CameraConfig
from tests.fakes.clips import Clip
from tests.fakes.damaged_streams import Damage, damaged, file_of, kinds, units_of
from tests.servers import require_library

GOP, SHARE = 10, 0.05
ONE_SLICE = Clip(frames=120, gop=GOP, codec="h265", extra=":wpp=0:ctu=16:min-cu-size=8")
"""As most cameras send it: nothing marks where a row of blocks begins."""
SUMMED = Clip(frames=120, gop=GOP, codec="h265", slices=4, extra=":hash=1")


def config(path: Path, **options: object) -> CameraConfig:
    return CameraConfig.model_validate({"source": str(path), "kind": "video", **options})


def judged(camera: Camera) -> dict[int, np.ndarray]:
    """Returns the frames that are handed out as whole, by their place."""
    with camera:
        frames = [frame for frame in iter(camera.read, None) if frame is not None]
    return {frame.index: frame.image for frame in frames if frame.damage is None}


def agree(clip: Clip, damage: Damage, path: Path, **options: object) -> None:
    """Damages a clip; no frame with a wrong pixel may be judged, and all others must."""
    stream = damaged(units_of(clip), damage, SHARE, GOP, 7)
    found = judged(VideoCamera(config(file_of(stream, clip, path), **options)))
    (whole,) = reference_of(clip).pictures.values()
    assert stream.damaged
    assert [k for k, image in found.items() if not np.array_equal(image, whole[k])] == []
    assert stream.sound() <= set(found)


@pytest.mark.parametrize("kind", ["cut", "hole", "wrong data"])
def test_a_slice_that_ends_in_the_wrong_place_is_damaged(kind: str, tmp_path: Path) -> None:
    require_library("libde265.so.0", "libde265-0")
    agree(ONE_SLICE, kinds("h265")[kind], tmp_path / "clip.mp4")


def test_a_wrong_check_sum_is_damage_where_an_encoder_sends_them(tmp_path: Path) -> None:
    def in_the_middle(unit: bytes, chance: random.Random) -> bytes:
        """Leaves the sum as it is, which comes last."""
        at = len(unit) // 2 + chance.randrange(20)
        return unit[:at] + b"\x55" * 8 + unit[at + 8 :]

    agree(SUMMED, in_the_middle, tmp_path / "clip.mp4", check_h265=False)


@pytest.mark.parametrize("extra", ["", ":open-gop=1", ":wpp=0:ctu=32", ":hash=1"])
def test_pictures_predicted_from_both_sides_are_whole(extra: str) -> None:
    clip = Clip(frames=60, gop=12, bframes=3, codec="h265", extra=extra)
    found = judged(VideoCamera(config(clip.folder / "clip.mp4")))
    assert sorted(found) == list(range(60))


def test_without_the_library_one_warning_says_what_is_not_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = Clip(frames=60, codec="h265").folder / "clip.mp4"
    monkeypatch.setattr(h265, "_LIBRARY", "libde265-which-is-not-here.so")
    stream = config(path).model_copy(update={"kind": "stream"})
    for camera in (VideoCamera(config(path)), StreamCamera(stream)):
        with camera:
            assert camera.read() is not None
            (setting,) = camera.settings
            assert "apt-get install libde265-0" in (setting.warning or "")
    with VideoCamera(config(path, check_h265=False)) as silent:
        assert silent.settings == ()
    with VideoCamera(config(Clip(frames=60).folder / "clip.mp4")) as other:
        assert other.settings == ()
