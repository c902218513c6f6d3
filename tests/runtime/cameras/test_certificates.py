"""Cameras behind TLS: whose certificate is taken, by each library that reads them."""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from differnet_runtime.cameras.stream import StreamCamera
from differnet_runtime.config.models import CameraConfig
from differnet_runtime.errors import CameraError
from tests.broker import write_certificates
from tests.fakes.http_camera import MULTIPART, TRANSPORT_STREAM, http_camera, part
from tests.servers import require

JPEG = cv2.imencode(".jpg", np.full((48, 64, 3), 90, np.uint8))[1].tobytes()


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_certificates(tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_certificates(tmp_path_factory.mktemp("theirs"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("clip") / "belt.ts"
    source = ("-f", "lavfi", "-i", "testsrc=size=64x48:rate=25", "-frames:v", "75")
    coded = ("-c:v", "libx264", "-g", "10", "-bf", "0", "-f", "mpegts")
    subprocess.run([require("ffmpeg"), "-loglevel", "error", *source, *coded, path], check=True)
    return path.read_bytes()


@pytest.fixture(params=["urllib", "PyAV", "OpenCV"])
def url(
    request: pytest.FixtureRequest, ours: Path, clip: bytes, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """A camera that the named library reads."""
    monkeypatch.delenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", raising=False)
    if request.param == "OpenCV":
        monkeypatch.setitem(sys.modules, "differnet_runtime.cameras.libav", None)
    chunks, kind = [clip], TRANSPORT_STREAM
    if request.param == "urllib":
        chunks, kind = [part(JPEG)] * 20, MULTIPART
    with http_camera(chunks, kind, 0.02, ours) as found:
        yield found


def size_of_a_frame(url: str, **tls: object) -> tuple[int, ...]:
    config = CameraConfig.model_validate({"source": url, **({"tls": tls} if tls else {})})
    with StreamCamera(config) as camera:
        frame = camera.read()
    assert frame is not None
    return frame.image.shape


def test_a_certificate_of_the_named_authority_is_taken(url: str, ours: Path) -> None:
    assert size_of_a_frame(url, ca=ours / "ca.pem") == (48, 64, 3)


def test_any_certificate_is_taken_where_that_is_asked_for(url: str) -> None:
    assert size_of_a_frame(url, verify=False) == (48, 64, 3)


@pytest.mark.parametrize("given", ["none", "another"])
def test_any_other_is_refused_with_what_to_do(url: str, given: str, theirs: Path) -> None:
    with pytest.raises(CameraError, match=r"tls\] ca"):
        size_of_a_frame(url, **({"ca": theirs / "ca.pem"} if given == "another" else {}))


def test_nor_is_one_of_another_name(url: str, ours: Path) -> None:
    with pytest.raises(CameraError):
        size_of_a_frame(url.replace("localhost", "127.0.0.1"), ca=ours / "ca.pem")


def test_a_camera_can_not_lead_to_another_host() -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", "http://localhost:9/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(CameraError, match="another host"):
            size_of_a_frame(f"http://127.0.0.1:{server.server_port}/")
        server.shutdown()


@pytest.mark.parametrize(
    ("source", "tls", "says"),
    [
        ("rtsp://camera/1", {"verify": False}, "https:// and rtsps:// only"),
        ("https://camera/1", {"ca": "camera.pem", "verify": False}, "leave one of them out"),
    ],
)
def test_what_makes_no_sense_is_refused(source: str, tls: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        CameraConfig.model_validate({"source": source, "tls": tls})
