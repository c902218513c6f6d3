"""Video files for a station: every frame once, or at their own speed, again and again."""

from __future__ import annotations

import time
from dataclasses import replace

from ..config.models import CameraConfig
from ..errors import CameraError, ImageReadError
from ..records import Frame
from .base import Camera, Room, Setting, convert, no_room
from .opencv import OpenCvCamera

_USUAL_FPS = 25.0


class VideoCamera(Camera):
    """Gives every frame of a video file once.

    Args:
        config: Of the camera.
        skip: How many were given already.
        room: Where frames may be read into.

    Raises:
        CameraError: The file can't be opened.
    """

    live = False

    def __init__(self, config: CameraConfig, skip: int = 0, room: Room = no_room) -> None:
        self._config = config
        self._video, self.fps = _opened(config, room)
        self.length, self.settings = self._video.length, self._video.settings
        while skip > 0 and self._skipped():
            skip -= 1

    def _skipped(self) -> bool:
        try:
            return self._video.read() is not None
        except ImageReadError:
            return True

    def read(self) -> Frame | None:
        """Reads the next frame; see `Camera.read`."""
        frame = self._video.read()
        if frame is None:
            return None
        return replace(frame, image=convert(frame.image, self._config.format))

    def close(self) -> None:
        """Releases the file."""
        self._video.close()

    def describe(self) -> str:
        """Returns the path."""
        return self._video.describe()


class PacedVideo(Camera):
    """Plays a video file as a camera would show it; at its end it starts again.

    Args:
        config: Of the camera; its `fps` is used in place of the file's.
        room: Where frames may be read into.

    Raises:
        CameraError: The file can't be opened.
    """

    live = True

    def __init__(self, config: CameraConfig, room: Room = no_room) -> None:
        self._config, self._room = config, room
        self._video = VideoCamera(config, room=room)
        self.settings = self._video.settings
        self._interval_s = 1 / (config.fps or self._video.fps or _USUAL_FPS)
        self._due_s = time.monotonic()
        self._index = 0

    def read(self) -> Frame | None:
        """Waits for the next frame's time; see `Camera.read`."""
        frame = self._video.read()
        if frame is None:
            self._again()
            frame = self._video.read()
        if frame is None:
            raise CameraError(f"{self.describe()}: the video can't be read from its start again")
        self._due_s = max(self._due_s + self._interval_s, time.monotonic() - self._interval_s)
        time.sleep(max(0.0, self._due_s - time.monotonic()))
        index, self._index = self._index, self._index + 1
        return replace(
            frame,
            name=f"{frame.name.partition('#')[0]}#{index}",
            index=index,
            captured_ns=time.monotonic_ns(),
            captured_at_s=time.time(),
            stream_ms=index * self._interval_s * 1e3,
        )

    def _again(self) -> None:
        self._video.close()
        self._video = VideoCamera(self._config, room=self._room)

    def close(self) -> None:
        """Releases the file."""
        self._video.close()

    def describe(self) -> str:
        """Returns the path."""
        return self._video.describe()


def _opened(config: CameraConfig, room: Room) -> tuple[Camera, float | None]:
    """Opens a file; returns its frame rate, too, where it is known."""
    try:
        from .libav import LibavVideo
    except ImportError:
        from .opencv import not_seen

        opened = OpenCvCamera(config.source, "file", room=room)
        opened.settings = (Setting("decoder", None, None, not_seen()),)
        return opened, opened.fps
    video = LibavVideo(config.source, room, check_h265=config.check_h265)
    return video, video.fps
