"""Opens what a station's configuration names as a camera's source."""

from __future__ import annotations

import contextlib
from pathlib import Path

from ..config.grammar import GST, kind_of, redact, redact_text, with_coded_login
from ..config.models import CameraConfig
from ..errors import ConfigError
from ..files import SUFFIXES
from ..images import say_passed_over
from .base import Camera, Room, no_room
from .files import Remembered


def locate(config: CameraConfig) -> CameraConfig:
    """Returns the configuration with its kind told, and its path or URL as libraries need it."""
    kind = config.kind if config.kind != "auto" else kind_of(config.source)
    source = config.source
    if kind == "gstreamer":
        source = source.removeprefix(GST)
    elif kind == "stream":
        source = with_coded_login(source)
    elif kind in ("video", "folder"):
        source = str(Path(source).absolute())
    return config.model_copy(update={"kind": kind, "source": source})


def is_live(config: CameraConfig) -> bool:
    """Whether frames come by themselves, so that only the newest counts."""
    return config.kind not in ("video", "folder") or (config.kind == "video" and config.paced)


def refuse_commands(name: str, config: CameraConfig) -> None:
    """Refuses commands to a camera whose source is not live.

    A picture file does not tell for which command it was taken, so one that came too late would
    be judged as the next part.

    Raises:
        ConfigError: It is to judge files on command.
    """
    if config.trigger == "command" and not is_live(locate(config)):
        raise ConfigError(
            f'camera.{name}.trigger: "command" needs a live source, and {describe(config)} is not '
            "one. Let it run free: every picture is judged, and its name is in the event"
        )


def refuse_leaving(name: str, config: CameraConfig) -> None:
    """Refuses to move or delete what is no picture in a folder.

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


def describe(config: CameraConfig) -> str:
    """Returns the source without user names, passwords and tokens."""
    return redact(config.source)


def hidden(text: str, config: CameraConfig) -> str:
    """Returns a text that may quote the source, without user names, passwords and tokens."""
    return describe(config).join(redact_text(part) for part in text.split(config.source))


def open_source(
    config: CameraConfig, *, skip: int, seen: Remembered, room: Room = no_room
) -> Camera:
    """Opens a camera; may take seconds.

    Args:
        config: As `locate` returns it.
        skip: Frames of a video to leave out.
        seen: Pictures of a folder to leave out.
        room: Where frames of a live source may be read into.

    Raises:
        CameraError: It can't be opened.
    """
    if config.kind == "folder":
        from .folder import WatchedFolder

        _say_passed_over(Path(config.source))
        return WatchedFolder(Path(config.source), config.format, seen, config.after)
    if config.kind == "video" and not config.paced:
        from .files import RememberedVideo
        from .video import VideoCamera

        return RememberedVideo(VideoCamera(config, skip), Path(config.source), seen)
    return open_live(config, room)


def open_live(config: CameraConfig, room: Room = no_room) -> Camera:
    """Opens a camera whose frames come by themselves; may take seconds.

    Args:
        config: As `locate` returns it.
        room: Where frames may be read into.

    Raises:
        CameraError: It can't be opened.
    """
    if config.kind == "stream":
        from .stream import StreamCamera

        return StreamCamera(config, room)
    if config.kind == "device":
        from .opencv import DeviceCamera

        return DeviceCamera(config, room)
    if config.kind == "gstreamer":
        from .gstreamer import open_pipeline

        return open_pipeline(config, room)
    from .video import PacedVideo

    return PacedVideo(config, room)


def _say_passed_over(folder: Path) -> None:
    """Warns of pictures that are not read; a folder that is not there is waited for elsewhere."""
    with contextlib.suppress(OSError):
        say_passed_over(folder)
