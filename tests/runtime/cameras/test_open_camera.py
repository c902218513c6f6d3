"""What a command opens for each way to write a source."""

from __future__ import annotations

import base64
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from differnet_runtime.cameras import FilesCamera, open_camera
from differnet_runtime.cameras.video import VideoCamera
from differnet_runtime.errors import CameraError
from differnet_runtime.images import read_image, write_image
from tests.drawn import draw_part
from tests.servers import require

PASSWORD = "p#a@s:s?w %o/rd"


def test_the_kind_follows_from_the_source(pictures: Callable[..., Path], video: Path) -> None:
    folder = pictures(1, 2)
    assert open_camera(str(folder)).length == 2
    one = open_camera(str(folder / "000.png"))
    assert isinstance(one, FilesCamera)
    assert one.length == 1
    with open_camera(str(video)) as camera:
        assert isinstance(camera, VideoCamera)


@pytest.mark.parametrize("ending", [".jfif", ".jpe", ".JPG", ".jp2"])
def test_pictures_of_rare_endings_are_taken(tmp_path: Path, ending: str) -> None:
    write_image(tmp_path / "a.jpg", draw_part(1))
    if ending == ".jp2":
        write_image(tmp_path / "a.jp2", draw_part(1))
    else:
        shutil.copy(tmp_path / "a.jpg", tmp_path / f"b{ending}")
        (tmp_path / "a.jpg").unlink()
    with open_camera(str(tmp_path)) as camera:
        frame = camera.read()
    assert frame is not None
    assert frame.image.shape == draw_part(1).shape


@pytest.mark.parametrize(
    "source",
    ["nowhere/at/all", "", "ftp://me:word@host/a", "-1", "x" * 5000, "/" + "x" * 3000 + "/a"],
)
def test_anything_else_is_refused_in_a_line(source: str) -> None:
    with pytest.raises(CameraError) as caught:
        open_camera(source)
    assert "me:word" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_does_not_exist_is_refused_with_what_is_accepted() -> None:
    with pytest.raises(CameraError, match=r"/dev/video0.*rtsp://.*gst:.*folder.*picture.*video"):
        open_camera("nowhere/at/all")


@pytest.mark.parametrize(
    "source", ["admin:hunter2@10.0.0.7/live", "rtsp://admin:hunter#2", "http://a:hunter2@"]
)
def test_a_url_written_wrongly_is_refused_without_its_password(source: str) -> None:
    with pytest.raises(CameraError) as caught:
        open_camera(source)
    assert "hunter" not in str(caught.value)


def test_a_folder_named_like_a_device_is_written_as_a_path(
    pictures: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pictures(1, folder="7").parent)
    assert open_camera("./7").length == 1


def test_a_pipeline_is_read_to_its_end(tmp_path: Path) -> None:
    require("gst-launch-1.0")
    part = cv2.resize(draw_part(2), (160, 120))
    write_image(tmp_path / "part.png", part)
    source = f"gst:filesrc location={tmp_path}/part.png ! pngdec"
    with open_camera(source) as camera:
        frame = camera.read()
        assert camera.read() is None
    assert frame is not None
    np.testing.assert_array_equal(frame.image, read_image(tmp_path / "part.png"))


def test_the_newest_picture_of_a_pipeline_is_given() -> None:
    require("gst-launch-1.0")
    source = "gst:videotestsrc is-live=true ! video/x-raw,width=64,height=48,framerate=100/1"
    with open_camera(source) as camera:
        indices = [frame.index for _ in range(5) if (frame := camera.read())]
        assert camera.live
    assert indices == sorted(set(indices))


@pytest.fixture
def guarded() -> Iterator[tuple[str, list[str]]]:
    """A network camera that shows its picture to one user only; its port, and who asked."""
    asked: list[str] = []
    wanted = "Basic " + base64.b64encode(f"admin:{PASSWORD}".encode()).decode()
    jpeg = cv2.imencode(".jpg", draw_part(3))[1].tobytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = self.headers.get("Authorization", "")
            asked.append(given)
            if given != wanted:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="camera"')
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
            self.end_headers()
            head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            for _ in range(40):
                self.wfile.write(head.encode() + jpeg + b"\r\n")

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("written", [PASSWORD, "p%23a%40s%3As%3Fw%20%25o%2Frd"])
def test_a_password_of_any_characters_reaches_the_camera(
    guarded: tuple[str, list[str]], written: str
) -> None:
    host, _ = guarded
    with open_camera(f"http://admin:{written}@{host}/live.mjpg") as camera:
        frame = camera.read()
        assert frame is not None
        assert frame.image.shape == draw_part(3).shape
        assert "admin" not in frame.name + camera.source
