import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import pytest

from differnet_runtime.cameras import Camera, open_camera
from differnet_runtime.cameras.device import DeviceCamera
from differnet_runtime.cameras.stream import StreamCamera
from differnet_runtime.cameras.video import VideoCamera
from differnet_runtime.config.grammar import redact
from differnet_runtime.config.models import CameraConfig
from differnet_runtime.errors import CameraError, ImageReadError

OpenVideo = Callable[[Path], VideoCamera]


def drain(camera: Camera) -> list[int | str]:
    """Reads to the end: brightness per frame, or the cause why there is none."""
    seen: list[int | str] = []
    while True:
        try:
            frame = camera.read()
        except ImageReadError as error:
            seen.append(error.cause)
            continue
        if frame is None:
            return seen
        seen.append(round(float(frame.image.mean())))


@pytest.fixture
def open_video(monkeypatch: pytest.MonkeyPatch) -> OpenVideo:
    """Opens a video where PyAV is not installed."""
    monkeypatch.setitem(sys.modules, "differnet_runtime.cameras.libav", None)
    return lambda path: VideoCamera(CameraConfig(source=str(path), kind="video"))


def test_a_video_is_read_to_its_end(video: Path, open_video: OpenVideo) -> None:
    with open_video(video) as camera:
        assert (camera.live, camera.length) == (False, 12)
        first = camera.read()
        assert first
        assert (first.name, first.index, first.image.shape) == ("clip.avi#0", 0, (48, 64, 3))
        assert drain(camera) == pytest.approx([20 * number for number in range(1, 12)], abs=3)
        assert camera.read() is None


def frame_starts(data: bytes) -> list[int]:
    return [at for at in range(len(data)) if data[at : at + 3] == b"\xff\xd8\xff"]


def test_a_damaged_frame_is_reported_and_the_rest_is_read(
    video: Path, open_video: OpenVideo
) -> None:
    data = bytearray(video.read_bytes())
    starts = frame_starts(data)
    data[starts[4] : starts[5] - 16] = bytes(starts[5] - 16 - starts[4])
    video.write_bytes(data)
    seen = drain(open_video(video))
    assert [item for item in seen if isinstance(item, str)] == ["1 frame(s) can't be decoded"]
    assert isinstance(seen[4], str)
    assert len(seen) == 12
    assert seen[-1] == pytest.approx(220, abs=3)


def test_a_video_cut_short_does_not_end_as_if_it_were_whole(
    video: Path, open_video: OpenVideo
) -> None:
    data = video.read_bytes()
    video.write_bytes(data[: frame_starts(data)[7]])
    seen = drain(open_video(video))
    assert seen[:-1] == pytest.approx([20 * number for number in range(7)], abs=3)
    assert "promises 12 frames and ends after 7" in str(seen[-1])


def test_a_file_that_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(CameraError, match=r"notes\.txt: .*can't open it as a video"):
        open_camera(str(tmp_path / "notes.txt"))


class ScriptedCapture:
    """Stands in for a USB camera: gives what its script says, then nothing."""

    script: ClassVar[list[object]] = []
    opened_with: tuple[object, ...] = ()

    def __init__(self, *arguments: object) -> None:
        type(self).opened_with = arguments
        self.properties: dict[int, float] = {}
        self.released = False

    def isOpened(self) -> bool:  # noqa: N802
        return True

    def set(self, prop: int, value: float) -> bool:
        self.properties[prop] = value
        return True

    def get(self, prop: int) -> float:
        return self.properties.get(prop, -1.0)

    def grab(self) -> bool:
        return True

    def retrieve(self, _buffer: object) -> tuple[bool, object]:
        step = type(self).script.pop(0) if type(self).script else None
        if isinstance(step, Exception):
            raise step
        return step is not None, step

    def release(self) -> None:
        self.released = True


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Callable[..., DeviceCamera]:
    def open_device(*script: object) -> DeviceCamera:
        monkeypatch.setattr(ScriptedCapture, "script", list(script))
        monkeypatch.setattr(cv2, "VideoCapture", ScriptedCapture)
        monkeypatch.setattr(os, "environ", dict(os.environ))
        return DeviceCamera(CameraConfig(source="0", kind="device"))

    return open_device


def plain(value: int) -> np.ndarray:
    return np.full((4, 4, 3), value, np.uint8)


def test_a_device_is_asked_for_compressed_frames_and_a_short_queue(
    device: Callable[..., DeviceCamera],
) -> None:
    camera = device(plain(1))
    assert camera.live
    assert camera.controls is not None
    assert camera.controls.get(cv2.CAP_PROP_FOURCC) == cv2.VideoWriter.fourcc(*"MJPG")
    assert camera.controls.get(cv2.CAP_PROP_BUFFERSIZE) == 1
    assert ScriptedCapture.opened_with[0] == 0


@pytest.mark.parametrize("failure", [None, np.empty((0, 0, 3), np.uint8), cv2.error("broken")])
def test_one_failed_read_is_one_bad_picture_not_a_lost_camera(
    device: Callable[..., DeviceCamera], failure: object
) -> None:
    camera = device(plain(1), failure, failure, plain(2), plain(3))
    assert camera.read()
    with pytest.raises(ImageReadError, match=r"0#1: 2 frame\(s\)"):
        camera.read()
    for value in (2, 3):
        frame = camera.read()
        assert frame
        assert (frame.index, int(frame.image[0, 0, 0])) == (value, value)


def test_jpegs_of_a_device_are_decoded_strictly(device: Callable[..., DeviceCamera]) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (48, 64, 3), np.uint8)
    data = cv2.imencode(".jpg", noise)[1].ravel()
    padded = np.pad(data, (0, 40))
    camera = device(*(one[None] for one in (data, data[: data.size // 2], padded)))
    assert camera.controls is not None
    assert camera.controls.get(cv2.CAP_PROP_CONVERT_RGB) == 0
    frames = [camera.read() for _ in range(3)]
    assert [frame is not None and frame.image.shape for frame in frames] == [(48, 64, 3)] * 3
    damage = [frame.damage for frame in frames if frame is not None]
    assert damage[0] is damage[2] is None
    assert "cut short" in (damage[1] or "")


def test_a_device_without_jpegs_is_read_all_the_same(device: Callable[..., DeviceCamera]) -> None:
    camera = device(np.full((4, 4, 2), 128, np.uint8), plain(9))
    grey, given = camera.read(), camera.read()
    assert grey is not None
    assert given is not None
    assert grey.image.shape == given.image.shape == (4, 4, 3)


def test_a_device_that_stops_is_lost_and_says_so(device: Callable[..., DeviceCamera]) -> None:
    camera = device(plain(1), plain(2))
    camera.read()
    camera.read()
    with pytest.raises(CameraError, match=r"stopped giving frames after 2\..*cable"):
        camera.read()


@pytest.mark.parametrize("source", ["97", "/dev/video97"])
def test_a_missing_device_says_where_to_look(source: str) -> None:
    with pytest.raises(CameraError, match=rf"^{source}: the camera can't be opened.*by-id"):
        open_camera(source)


@pytest.fixture
def stream() -> Iterator[Callable[[int, bool], str]]:
    """Serves frames over HTTP as network cameras do, then stalls or hangs up."""
    server = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()
    threads: list[threading.Thread] = []

    def serve(frames: int, hang_up: bool) -> None:
        peer, _ = server.accept()
        with peer:
            peer.recv(4096)
            peer.sendall(
                b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=next\r\n\r\n"
            )
            for number in range(frames):
                jpeg = cv2.imencode(".jpg", np.full((48, 64, 3), number * 5, np.uint8))[1].tobytes()
                head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                peer.sendall(head.encode() + jpeg + b"\r\n")
            if not hang_up:
                over.wait(20)

    def start(frames: int, hang_up: bool) -> str:
        threads.append(threading.Thread(target=serve, args=(frames, hang_up)))
        threads[-1].start()
        return f"http://operator:hunter2@127.0.0.1:{server.getsockname()[1]}/live.mjpg"

    yield start
    over.set()
    for thread in threads:
        thread.join(10)
    server.close()


@pytest.mark.parametrize(
    ("hang_up", "message"), [(True, "stopped giving frames after 4"), (False, "no new frame for")]
)
def test_a_stream_that_ends_or_stalls_is_lost_and_gives_no_old_frame(
    stream: Callable[[int, bool], str], hang_up: bool, message: str
) -> None:
    source = stream(4, hang_up)
    with StreamCamera(CameraConfig(source=source, kind="stream", stall_s=2)) as camera:
        assert camera.live
        frames = [camera.read() for _ in range(4)]
        with pytest.raises(CameraError, match=message) as caught:
            camera.read()
        names = [frame.name for frame in frames if frame]
        assert "hunter2" not in str(caught.value) + camera.source + "".join(names)
    seen = [float(frame.image.mean()) for frame in frames if frame]
    assert seen == pytest.approx([number * 5 for number in range(4)], abs=3)


def test_a_stream_nobody_serves_is_refused_without_its_password() -> None:
    with pytest.raises(CameraError, match=r"rtsp://\*\*\*@127.*can't be opened") as caught:
        open_camera("rtsp://operator:hunter2@127.0.0.1:9/live")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("rtsp://user:word@host:554/live?channel=1", "rtsp://***@host:554/live?channel=1"),
        ("rtsp://user:w@rd@host/live", "rtsp://***@host/live"),
        ("rtsp://user:w/rd@host/live", "rtsp://***@host/live"),
        ("http://host/v?user=me&password=word&x=1", "http://host/v?user=***&password=***&x=1"),
        ("http://host/v?access_token=abc", "http://host/v?access_token=***"),
        ("rtsp://host/user=admin_password=word.sdp", "rtsp://host/user=***"),
        ("rtsp://host/live", "rtsp://host/live"),
        ("/data/user=me/clip.avi", "/data/user=me/clip.avi"),
    ],
)
def test_credentials_are_never_shown(source: str, shown: str) -> None:
    assert redact(source) == shown
