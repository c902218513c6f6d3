"""PyAV beside OpenCV, which brings an FFmpeg of its own, and a machine without PyAV."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext

from differnet_runtime.cameras.stream import StreamCamera
from differnet_runtime.cameras.video import VideoCamera
from differnet_runtime.config.models import CameraConfig
from differnet_runtime.records import Image
from tests.fakes.clips import Clip


def read(path: Path) -> list[Image]:
    with VideoCamera(CameraConfig(source=str(path), kind="video")) as camera:
        return [frame.image for frame in iter(camera.read, None) if frame is not None]


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_both_decoders_at_once_give_the_same_pixels(codec: str) -> None:
    clip = Clip(frames=60, codec=codec)
    path, by_opencv = clip.folder / "clip.mp4", []

    def decode() -> None:
        capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        while (got := capture.read())[0]:
            by_opencv.append(got[1])
        capture.release()

    thread = threading.Thread(target=decode)
    thread.start()
    by_pyav = read(path)
    thread.join()
    assert len(by_pyav) == len(by_opencv) == 60
    assert all(np.array_equal(*pair) for pair in zip(by_pyav, by_opencv, strict=True))


def test_only_what_reads_a_stream_imports_pyav() -> None:
    code = (
        "import sys, differnet_runtime.station, differnet_runtime.cameras, differnet_runtime.cli\n"
        "import differnet_runtime.cameras.stream, differnet_runtime.cameras.video\n"
        "sys.exit('av' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_pyav_opencv_reads_and_one_warning_says_what_is_not_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clip = Clip(frames=60)
    path = str(clip.folder / "clip.mp4")
    monkeypatch.setitem(sys.modules, "differnet_runtime.cameras.libav", None)
    monkeypatch.setitem(sys.modules, "differnet_runtime.cameras.libav", None)
    stream = StreamCamera(CameraConfig(source=path, kind="stream"))
    video = VideoCamera(CameraConfig(source=path, kind="video"))
    for camera in (stream, video):
        with camera:
            assert camera.read() is not None
            (setting,) = camera.settings
            assert "decoded only in part are not recognised" in (setting.warning or "")
            assert "[streams]" in (setting.warning or "")


def test_a_message_in_the_stream_does_not_turn_its_pictures(tmp_path: Path) -> None:
    """Damaged data may be read as one, and FFmpeg obeys it to the end."""
    clip, path = Clip(frames=60), tmp_path / "turned.h264"
    with av.open(str(clip.folder / "clip.mp4")) as container, path.open("wb") as made:
        stream = container.streams.video[0]
        annexb = BitStreamFilterContext("h264_mp4toannexb", stream)
        units = [bytes(one) for packet in container.demux(stream) for one in annexb.filter(packet)]
        for number, unit in enumerate(units):
            made.write(_turning(unit) if number == 30 else unit)
    pictures = read(path)
    assert len(pictures) == 60
    whole = read(clip.folder / "clip.mp4")
    assert all(np.array_equal(*pair) for pair in zip(pictures, whole, strict=True))


def _turning(unit: bytes) -> bytes:
    """Puts a message before a picture that says to turn it by 90 degrees (D.1.27)."""
    bits = "0" + "0" + "0" + f"{1 << 14:016b}" + "010" + "0" + "1"
    payload = int(bits.ljust(24, "0"), 2).to_bytes(3, "big")
    return b"\0\0\0\1\x06\x2f" + bytes([len(payload)]) + payload + b"\x80" + unit
