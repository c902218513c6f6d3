from pathlib import Path

import pytest

from differnet_runtime.cameras.sources import describe, is_live, locate
from differnet_runtime.config.models import CameraConfig


def kind(source: str, **options: object) -> str:
    return locate(CameraConfig(source=source, **options)).kind  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("0", "device"),
        ("/dev/v4l/by-id/usb-camera", "device"),
        ("rtsp://host/path", "stream"),
        ("HTTP://host/a.mjpg", "stream"),
        ("gst:aravissrc ! video/x-bayer", "gstreamer"),
        ("/not/mounted/yet", "folder"),
        ("/not/there/clip.mp4", "video"),
        ("/not/there/part.png", "folder"),
    ],
)
def test_a_source_is_known_by_how_it_is_written(source: str, expected: str) -> None:
    assert kind(source) == expected


def test_a_path_is_known_by_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "v1.2").mkdir()
    (tmp_path / "clip").touch()
    assert kind(str(tmp_path / "v1.2")) == "folder"
    assert kind(str(tmp_path / "clip")) == "video"
    monkeypatch.chdir(tmp_path)
    found = locate(CameraConfig(source="clip"))
    assert found.source == str(tmp_path / "clip")  # the process that reads it lives elsewhere


def test_a_kind_that_is_given_counts() -> None:
    assert kind("videotestsrc", kind="gstreamer") == "gstreamer"
    assert locate(CameraConfig(source="gst:videotestsrc")).source == "videotestsrc"


@pytest.mark.parametrize(
    ("source", "paced", "live"),
    [
        ("0", False, True),
        ("clip.mp4", False, False),
        ("clip.mp4", True, True),
        ("folder", False, False),
        ("gst:x", False, True),
        ("rtsp://x", False, True),
    ],
)
def test_what_is_live(source: str, paced: bool, live: bool) -> None:
    assert is_live(locate(CameraConfig(source=source, paced=paced))) is live


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("rtsp://u:p@host/x", "rtsp://***@host/x"),
        ("http://host/x?token=abc", "http://host/x?token=***"),
        (
            "gst:rtspsrc location=rtsp://u:p@host/x user-id=bob user-pw=abc ! decodebin",
            "rtspsrc location=rtsp://***@host/x user-id=*** user-pw=*** ! decodebin",
        ),
        ("/a/folder", "/a/folder"),
    ],
)
def test_no_password_is_shown(source: str, shown: str) -> None:
    assert describe(locate(CameraConfig(source=source))) == shown
