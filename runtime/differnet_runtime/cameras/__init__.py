"""Where frames come from: one class a kind of source, chosen by how the source is written."""

from __future__ import annotations

from pathlib import Path

from differnet_runtime.errors import CameraError
from differnet_runtime.images import SUFFIXES

from .base import Camera
from .files import FilesCamera, folder_camera
from .opencv import OpenCvCamera
from .redaction import redact

__all__ = ["Camera", "FilesCamera", "OpenCvCamera", "folder_camera", "open_camera", "redact"]

SCHEMES = ("rtsp://", "rtsps://", "http://", "https://")
DEVICES = ("/dev/video", "/dev/v4l/")


def open_camera(source: str) -> Camera:
    """Opens a source of frames.

    Args:
        source: A folder of pictures, a picture, a video file, a device (`0`, `/dev/video0`) or
            the URL of a stream.

    Raises:
        CameraError: It is none of these, or can't be opened.
    """
    if source.lower().startswith(SCHEMES):
        return OpenCvCamera(source, "url")
    path = Path(source)
    if source and path.is_dir():
        return folder_camera(path)
    if path.is_file():
        picture = path.suffix.lower() in SUFFIXES
        return FilesCamera([path], source) if picture else OpenCvCamera(source, "file")
    if source.isdecimal() or source.startswith(DEVICES):
        return OpenCvCamera(source, "device")
    raise CameraError(
        f"{redact(source)!r} is no source of frames that exists. A source is a folder of pictures, "
        f"a picture or video file, a device (0 or /dev/video0) or a URL ({', '.join(SCHEMES)})."
    )
