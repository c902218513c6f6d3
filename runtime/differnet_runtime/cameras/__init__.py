"""Where frames come from: one class a kind of source, chosen by how the source is written."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from ..config.grammar import ACCEPTED, check_source, redact
from ..config.models import CameraConfig
from ..errors import CameraError
from ..files import SUFFIXES
from ..sentences import sentence
from .base import Camera
from .files import FilesCamera, Newest, folder_camera
from .opencv import OpenCvCamera
from .sources import locate, open_live
from .video import VideoCamera

__all__ = ["Camera", "FilesCamera", "OpenCvCamera", "folder_camera", "open_camera", "redact"]


def open_camera(source: str) -> Camera:
    """Opens a source of frames for a command: as a station does, but a folder or video once.

    Args:
        source: A device, the URL of a stream, a pipeline, a folder of pictures, a picture or a
            video file, as `config.grammar` says.

    Raises:
        CameraError: It is none of these, or can't be opened.
    """
    try:
        check_source(source)
        config = locate(CameraConfig(source=source))
    except ValueError as error:
        # Not "from error": pydantic's own text shows the source, and its password.
        cause = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise CameraError(f"{redact(source)!r}: {cause}. A source is {ACCEPTED}") from None
    if config.kind in ("folder", "video"):
        return _open_path(Path(source), config)
    camera = open_live(config)
    # A device has a buffer of one frame, and controls that no other thread may touch.
    return camera if config.kind == "device" else Newest(camera)


def _open_path(path: Path, config: CameraConfig) -> Camera:
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except OSError as error:
        raise CameraError(f"{path}: {error.strerror or error}") from error
    if is_folder:
        return folder_camera(path)
    if not is_file:
        raise CameraError(sentence("source_missing", source=redact(str(path)), kinds=ACCEPTED))
    picture = path.suffix.lower() in SUFFIXES
    return FilesCamera([path], str(path)) if picture else VideoCamera(config)
