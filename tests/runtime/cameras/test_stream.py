"""Lost access units, judged frame by frame against the clip as it is when nothing is lost."""

import functools
import http.server
import random
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from differnet_runtime.cameras.stream import StreamCamera
from differnet_runtime.config.models import CameraConfig
from differnet_runtime.errors import CameraError
from tests.fakes.clips import Clip, number_of

FRAMES, GOP = 300, 30
FLASHES = Clip(gop=60, flashes=True)
SEEDS = [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 40))]


@functools.cache
def clean_frames(clip: Clip) -> list[np.ndarray]:
    return clip.whole()


def read_lossy(clip: Clip, lost: set[int], folder: Path) -> dict[int, bool]:
    """Reads the clip without the access units that are lost."""
    return read_all(clip, clip.losing(lost, folder / "lossy.mp4"))


def read_all(clip: Clip, path: Path) -> dict[int, bool]:
    """Returns by number whether each frame that was handed out as whole is whole."""
    whole: dict[int, bool] = {}
    clean = clean_frames(clip)
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
@pytest.mark.parametrize("seed", SEEDS)
def test_no_damaged_frame_is_handed_out_as_whole(tmp_path: Path, share: float, seed: int) -> None:
    chance = random.Random(seed)
    lost = {unit for unit in range(FRAMES) if chance.random() < share}
    whole = read_lossy(Clip(), lost, tmp_path)
    assert all(whole.values())
    expected = {n for n in range(FRAMES) if not lost & set(range(n - n % GOP, n + 1))}
    # OpenCV leaves a stream's last frames out where packets are missing.
    assert len(expected & whole.keys()) >= 0.95 * len(expected)
    assert whole.keys() <= expected


@pytest.mark.parametrize("share", [0.01, 0.03, 0.10])
@pytest.mark.parametrize("seed", SEEDS)
def test_nor_where_frames_are_predicted_from_both_sides(
    tmp_path: Path, share: float, seed: int
) -> None:
    chance = random.Random(seed)
    lost = {unit for unit in range(FRAMES) if chance.random() < share}
    whole = read_lossy(Clip(bframes=2), lost, tmp_path)
    assert all(whole.values())
    assert len(whole) > 0.05 * FRAMES


@pytest.mark.parametrize("share", [0.01, 0.03, 0.10])
@pytest.mark.parametrize("seed", SEEDS)
def test_nor_where_pictures_that_need_no_other_are_no_new_start(
    tmp_path: Path, share: float, seed: int
) -> None:
    """A flash is a picture of its own (I), after which those before it are used again."""
    pictures = FLASHES.pictures()
    assert pictures.count("I") > pictures.count("K")
    chance = random.Random(seed)
    lost = {unit for unit in range(FRAMES) if chance.random() < share}
    whole = read_lossy(FLASHES, lost, tmp_path)
    assert all(whole.values())
    assert len(whole) > 0.05 * FRAMES


def test_a_whole_stream_is_handed_out_whole(tmp_path: Path) -> None:
    for clip, least in [(Clip(), FRAMES), (Clip(bframes=2), FRAMES - GOP - 2), (FLASHES, FRAMES)]:
        whole = read_lossy(clip, set(), tmp_path)
        assert all(whole.values())
        assert len(whole) >= least


@pytest.mark.parametrize("clip", [Clip(), Clip(bframes=2), FLASHES], ids=["P", "B", "flashes"])
@pytest.mark.parametrize("first", [1, 16])
def test_a_stream_that_is_joined_later_starts_with_a_key_frame(
    tmp_path: Path, clip: Clip, first: int
) -> None:
    whole = read_lossy(clip, set(range(first)), tmp_path)
    assert all(whole.values())
    assert len(whole) > FRAMES / 2


class Mjpeg(http.server.BaseHTTPRequestHandler):
    """A camera that sends JPEG after JPEG; so many, then nothing."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for number in range(12):
            image = np.full((48, 64, 3), number * 20, np.uint8)
            data = cv2.imencode(".jpg", image)[1].tobytes()
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            self.wfile.write(head.encode() + data + b"\r\n")
            time.sleep(0.03)

    def log_message(self, *_: object) -> None:
        pass


def test_a_camera_that_sends_jpegs_over_http() -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mjpeg) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            url = f"http://u:secret@127.0.0.1:{server.server_port}/video"
            with StreamCamera(CameraConfig(source=url, kind="stream")) as camera:
                frames = [camera.read() for _ in range(12)]
                with pytest.raises(CameraError, match=r"\*\*\*@.*stopped giving frames"):
                    camera.read()
        finally:
            server.shutdown()
            serving.join()
    seen = [(round(float(f.image.mean()) / 20), f.damage) for f in frames if f is not None]
    assert seen == [(number, None) for number in range(12)]


@pytest.mark.parametrize("source", ["http://host/video", "rtsps://host/live", "0"])
def test_only_rtsp_has_a_transport(source: str) -> None:
    CameraConfig(source="rtsp://host/live", transport="udp")
    with pytest.raises(ValueError, match=r'transport = "udp" is for rtsp:// only'):
        CameraConfig(source=source, transport="udp")
