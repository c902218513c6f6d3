"""What a camera's `source` names, and the one factory that opens it."""

from __future__ import annotations

import contextlib
from pathlib import Path

from pydantic import ValidationError

from ..config.grammar import (
    ACCEPTED,
    ON_DISK,
    PREFIXES,
    check_source,
    kind_of,
    redact,
    redact_text,
    with_coded_login,
)
from ..config.models import CameraConfig
from ..errors import CameraError, ConfigError
from ..files import SUFFIXES, os_errors
from ..images import say_passed_over
from ..sentences import sentence
from .base import Camera, GetBuffer, Newest, no_buffer
from .files import FilesCamera, Remembered, folder_camera


def locate(config: CameraConfig) -> CameraConfig:
    """Returns the configuration with its kind resolved, and the source as libraries need it."""
    kind = config.kind if config.kind != "auto" else kind_of(config.source)
    source = config.source.removeprefix(PREFIXES.get(kind, ""))
    if kind == "stream":
        source = with_coded_login(source)
    elif kind in ON_DISK:
        source = str(Path(source).absolute())
    return config.model_copy(update={"kind": kind, "source": source})


def is_live(config: CameraConfig) -> bool:
    """Returns whether frames arrive by themselves, so that only the newest one counts."""
    return config.kind not in ON_DISK or (config.kind == "video" and config.paced)


def describe(config: CameraConfig) -> str:
    """Returns the source without user names, passwords and tokens."""
    return redact(config.source)


def hidden(text: str, config: CameraConfig) -> str:
    """Returns a text that may quote the source, without user names, passwords and tokens."""
    return describe(config).join(redact_text(part) for part in text.split(config.source))


def refuse_commands(name: str, config: CameraConfig) -> None:
    """Refuses commands to a camera whose source is not live.

    A picture file does not tell for which command it was taken, so one that came too late would
    be judged as the next part.

    Raises:
        ConfigError: The trigger is "command", and the source is files.
    """
    if config.trigger == "command" and not is_live(locate(config)):
        raise ConfigError(
            f'camera.{name}.trigger: "command" needs a live source, and {describe(config)} is not '
            "one. Let it run free: every picture is judged, and its name is in the event"
        )


def refuse_leaving(name: str, config: CameraConfig) -> None:
    """Refuses to move or delete anything but the pictures of a folder.

    Raises:
        ConfigError: `after` is set for another source.
    """
    path = Path(config.source)
    single = path.suffix.lower() in SUFFIXES and not path.is_dir()
    if config.after != "keep" and (single or locate(config).kind != "folder"):
        raise ConfigError(
            f'camera.{name}.after: "{config.after}" is for the pictures of a folder, but '
            f"{describe(config)} is not a folder. Leave it out, or give the folder as the source"
        )


def open_camera(source: str) -> Camera:
    """Opens a source of frames for a command: as a station does, but a folder or video once.

    Args:
        source: A device, the URL of a stream, a pipeline, a folder of pictures, a picture or a
            video file, as `config.grammar` says.

    Raises:
        CameraError: It is none of these, or can't be opened.

    Example:
        >>> with open_camera("/dev/video0") as camera:
        ...     frame = camera.read()
    """
    try:
        check_source(source)
        config = locate(CameraConfig(source=source))
    except ValueError as error:
        # Not "from error": pydantic's own text shows the source, and its password.
        cause = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise CameraError(f"{redact(source)!r}: {cause}. A source is {ACCEPTED}") from None
    if config.kind in ON_DISK:
        return _open_path(Path(source), config)
    camera = open_live(config)
    # A device has a buffer of one frame, and controls that no other thread may touch.
    return camera if config.kind == "device" else Newest(camera)


def _open_path(path: Path, config: CameraConfig) -> Camera:
    with os_errors(CameraError, path):
        is_folder, is_file = path.is_dir(), path.is_file()
    if is_folder:
        return folder_camera(path)
    if not is_file:
        raise CameraError(sentence("source_missing", source=redact(str(path)), kinds=ACCEPTED))
    if path.suffix.lower() in SUFFIXES:
        return FilesCamera([path], str(path))
    from .video import VideoCamera

    return VideoCamera(config)


def open_source(
    config: CameraConfig, seen: Remembered, get_buffer: GetBuffer = no_buffer
) -> Camera:
    """Opens a station's camera; may take seconds.

    Args:
        config: The camera's configuration, as `locate` returns it.
        seen: Pictures of a folder, or frames of a video, to leave out.
        get_buffer: Where frames of a live source may be read into.

    Raises:
        CameraError: It can't be opened.
    """
    path = Path(config.source)
    if config.kind == "folder":
        from .folder import WatchedFolder

        with contextlib.suppress(OSError):  # a folder that is not there yet is waited for
            say_passed_over(path)
        return WatchedFolder(path, config.format, seen, config.after)
    if config.kind == "video" and not config.paced:
        from .video import RememberedVideo, VideoCamera

        return RememberedVideo(VideoCamera(config), path, seen)
    return open_live(config, get_buffer)


def open_live(config: CameraConfig, get_buffer: GetBuffer = no_buffer) -> Camera:
    """Opens a camera whose frames arrive by themselves; may take seconds.

    Args:
        config: The camera's configuration, as `locate` returns it.
        get_buffer: Where frames may be read into.

    Raises:
        CameraError: It can't be opened.
    """
    if config.kind == "stream":
        from .stream import StreamCamera

        return StreamCamera(config, get_buffer)
    if config.kind == "device":
        from .device import DeviceCamera

        return DeviceCamera(config, get_buffer)
    if config.kind == "gstreamer":
        from .gstreamer import PipelineCamera

        return PipelineCamera(config, get_buffer)
    from .video import PacedVideo

    return PacedVideo(config, get_buffer)
