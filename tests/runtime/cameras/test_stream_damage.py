"""Every kind of damage, on video files and over HTTP: no damaged frame is handed out as whole.

The short form of `benchmarks.stream_damage`, whose result says what is not asked for here:
wrong bytes in JPEGs that decode anyway.
"""

from __future__ import annotations

import functools
import subprocess
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.stream_kinds import Coded, Jpegs, Way, stream, video, watch
from differnet_runtime.cameras.base import Camera
from differnet_runtime.errors import CameraError, ImageReadError
from tests.fakes.clips import Clip, number_of
from tests.fakes.damaged_streams import JPEG_KINDS, kinds
from tests.fakes.http_camera import MULTIPART, http_camera, part
from tests.servers import require, require_library

FRAMES = 120
WITHIN_H265 = ("h265, cut", "h265, hole", "h265, wrong data", "h265, bytes overwritten")
CODED = [
    f"{place}, {codec}, {kind}"
    for place in ("file mp4", "HTTP-TS")
    for codec in ("h264", "h265")
    for kind in (*kinds(codec), "lost access unit", "resolution changes", "clean", "3.0%")
    if "%" not in kind or place == "HTTP-TS"
]
JPEGS = [
    *(
        f"file avi, mjpeg, {kind}"
        for kind in (*set(JPEG_KINDS) - {"hole", "wrong data"}, "resolution changes", "clean")
    ),
    *(f"HTTP, mjpeg, {kind}" for kind in ("cut", "zeros", "resolution changes")),
]
OVERWRITTEN = [f"file mp4, {codec}, bytes overwritten" for codec in ("h264", "h265")]
WAYS = [*CODED, *OVERWRITTEN, *sorted(JPEGS)]


@functools.cache
def ways(kind: str) -> dict[str, Way]:
    folder = Path(tempfile.mkdtemp(prefix="differnet-damaged-"))
    made = Jpegs(folder, FRAMES, 60) if kind == "mjpeg" else Coded(kind, folder, FRAMES)
    return made.ways()


@pytest.mark.parametrize("name", WAYS)
def test_no_damaged_frame_is_handed_out(name: str) -> None:
    require("ffmpeg")
    if name.endswith(WITHIN_H265):
        require_library("libde265.so.0", "libde265-0")
    kind = name.split(", ")[1]
    (run,) = [run for way, run in ways(kind).items() if way.startswith(name)][:1]
    seen, result = run()
    assert seen.wrong == []
    # At such a loss few whole pictures are left here; JPEGs that wait get old, and are dropped.
    few = "3.0%" in name or name.startswith("HTTP, mjpeg")
    assert result["whole_judged_share"] >= (0.5 if few else 0.95)
    assert result["damaged_frames"] > 0 or "clean" in name or "changes" in name
    if "clean" in name or "changes" in name:
        assert seen.reasons == {}


def frames_of(camera: Camera) -> list[tuple[int, str | None]]:
    """Returns number and damage of all frames up to the end."""
    found: list[tuple[int, str | None]] = []
    with camera:
        while True:
            try:
                frame = camera.read()
            except (CameraError, ImageReadError) as error:
                return [*found, (-1, str(error))]
            if frame is None:
                return found
            found.append((number_of(frame.image), frame.damage))


@pytest.mark.parametrize("suffix", ["mp4", "ts", "mkv"])
@pytest.mark.parametrize("start_s", ["0.5", "1.03"])
def test_a_clip_trimmed_by_stream_copy_is_no_damaged_one(
    tmp_path: Path, suffix: str, start_s: str
) -> None:
    clip, path = Clip(bframes=2), tmp_path / f"trimmed.{suffix}"
    command = [require("ffmpeg"), "-loglevel", "error", "-ss", start_s, "-i"]
    trim = [str(clip.folder / "clip.mp4"), "-t", "3.3", "-c", "copy", str(path)]
    subprocess.run([*command, *trim], check=True)
    frames = frames_of(video(path))
    assert len(frames) > 90
    assert {damage for _, damage in frames} == {None}


@pytest.mark.parametrize(
    ("before", "between"),
    [
        (b"junk\r\n", b""),
        (b"", b"\r\n\r\n"),
        (b"", b"some text of a camera\r\n"),
        (b"", np.random.default_rng(1).bytes(300)),
        (b"--other\r\nContent-Type: text/plain\r\n\r\nhello\r\n", b"--"),
    ],
)
def test_junk_between_the_parts_of_a_camera_is_passed_over(before: bytes, between: bytes) -> None:
    clip = Clip(frames=20)
    jpegs = [cv2.imencode(".jpg", clip.picture(n))[1].tobytes() for n in range(20)]
    chunks = [before, *(piece for jpeg in jpegs for piece in (part(jpeg), between))]
    with http_camera(chunks, MULTIPART, 0.01) as url:
        frames = frames_of(stream(url))
    assert frames[:-1] == [(number, None) for number in range(20)]
    assert "stopped giving frames after 20" in (frames[-1][1] or "")


@pytest.mark.parametrize("told", [None, 100, 10_000_000, "none"])
def test_a_length_that_is_wrong_is_damage_and_a_missing_one_is_none(told: int | str | None) -> None:
    clip = Clip(frames=8)
    jpegs = [cv2.imencode(".jpg", clip.picture(n))[1].tobytes() for n in range(8)]
    parts = [part(jpeg, told if isinstance(told, int) else None) for jpeg in jpegs]
    if told == "none":
        parts = [b"--frame\r\nContent-Type: image/jpeg\r\n\r\n" + jpeg + b"\r\n" for jpeg in jpegs]
    with http_camera([*parts, b"--frame--\r\n"], MULTIPART, 0.02) as url:
        frames = frames_of(stream(url))[:-1]
    whole = told in (None, "none")
    assert [number for number, damage in frames if damage is None] == list(range(8 * whole))


def test_a_stream_joined_in_its_middle_gives_nothing_before_a_key_frame(tmp_path: Path) -> None:
    coded = Coded("h265", tmp_path, FRAMES)
    coded.ts("clean", coded.made["clean"])
    data = (tmp_path / "h265-clean.ts").read_bytes()
    later = data[: 188 * 3] + data[len(data) // 3 // 188 * 188 :]
    with http_camera([later], "video/mp2t") as url:
        seen = watch(stream(url), coded.reference, FRAMES, FRAMES)
    assert seen.wrong == []
    assert min(seen.handed) % 10 == 0
    assert len(seen.handed) >= FRAMES // 2
