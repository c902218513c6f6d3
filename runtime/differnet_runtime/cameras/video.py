"""Video files: every frame once, or at their own speed again and again, as a camera would."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..config.models import CameraConfig
from ..errors import CameraError, ImageReadError
from ..records import Frame, Origin
from ..text import file_name
from .base import Camera, Decoded, GetBuffer, StreamReader, convert, no_buffer
from .files import Remembered, UnreadablePictureError
from .stream import Quarantine

_USUAL_FPS = 25.0
_TS_PACKETS = (188, 192, 204)
_TS_SYNC = b"\x47"


class VideoCamera(Camera):
    """Gives every frame of a video file once, and marks the damaged ones.

    Args:
        config: The camera's configuration; its source is the path.
        get_buffer: Where frames may be read into.

    Raises:
        CameraError: The file can't be opened.

    Example:
        >>> with VideoCamera(CameraConfig(source="belt.mp4", kind="video")) as video:
        ...     frame = video.read()
    """

    live = False

    def __init__(self, config: CameraConfig, get_buffer: GetBuffer = no_buffer) -> None:
        self.source, self._format = config.source, config.format
        self._reader = _open_reader(config, get_buffer)
        self.settings, self.fps = self._reader.settings, self._reader.fps
        self.length = self._reader.promised or None
        self._quarantine = Quarantine(live=False)
        self._judged: deque[Frame | ImageReadError] = deque()
        self._ended = False

    def read(self) -> Frame | None:
        """Reads the next frame; see `Camera.read`."""
        while not self._judged and not self._ended:
            decoded = self._reader.read()
            if decoded is None:
                self._ended = True
                self._judged.extend([*self._lost_end(), *self._quarantine.rest()])
            else:
                self._judge(decoded)
        judged = self._judged.popleft() if self._judged else None
        if isinstance(judged, ImageReadError):
            raise judged
        return judged and replace(judged, image=convert(judged.image, self._format))

    def _judge(self, decoded: Decoded) -> None:
        name, index = self._next_name(Path(self.source).name)
        if decoded.image is None:
            cause = decoded.damage or "it can't be decoded"
            if not decoded.intra_only:
                self._judged.extend(self._quarantine.lose(cause))
            self._judged.append(ImageReadError(name, cause))
            return
        stamps = time.monotonic_ns(), time.time(), decoded.stamp_ms
        frame = Frame(decoded.image, name, index, *stamps, decoded.damage)
        self._judged.extend(self._quarantine.judge(frame, decoded))

    def _lost_end(self) -> list[ImageReadError]:
        """Returns an error where the file ends before it says it would, else nothing."""
        if not self._index:
            raise CameraError(f"{self.source}: the video opens, but holds no frame to decode")
        promised, found = self._reader.promised, self._reader.packets
        if found >= promised - max(2, promised // 50):  # some files only estimate it
            return []
        cause = f"the video promises {promised} frames and ends after {found}; it may be cut short"
        return [ImageReadError(f"{Path(self.source).name}#{self._index}", cause)]

    def close(self) -> None:
        """Releases the file."""
        self._reader.close()


def _open_reader(config: CameraConfig, get_buffer: GetBuffer) -> StreamReader:
    path = config.source
    try:
        from .libav import LibavReader
    except ImportError:
        from .opencv import OpenCvVideo

        return OpenCvVideo(path, get_buffer)
    fault = "the file ends within it" if _is_cut_transport_stream(Path(path)) else None
    try:
        return LibavReader(
            path, get_buffer=get_buffer, last_damage=fault, check_h265=config.check_h265
        )
    except CameraError as error:
        raise CameraError(
            f"{error}: FFmpeg can't open it as a video; pictures are recognised by their file "
            "extension"
        ) from error


def _is_cut_transport_stream(path: Path) -> bool:
    """Returns whether a file is an MPEG transport stream that ends within a packet."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            return file.read(1) == _TS_SYNC and all(size % packet for packet in _TS_PACKETS)
    except OSError:
        return False


class PacedVideo(Camera):
    """Plays a video file at its own speed, again and again, as a camera would.

    Args:
        config: The camera's configuration; its `fps` replaces the file's.
        get_buffer: Where frames may be read into.

    Raises:
        CameraError: The file can't be opened.

    Example:
        >>> camera = PacedVideo(CameraConfig(source="belt.mp4", kind="video", paced=True))
    """

    live = True

    def __init__(self, config: CameraConfig, get_buffer: GetBuffer = no_buffer) -> None:
        self._config, self._get_buffer = config, get_buffer
        self._video = VideoCamera(config, get_buffer)
        self.source = self._video.source
        self.settings = self._video.settings
        self._interval_s = 1 / (config.fps or self._video.fps or _USUAL_FPS)
        self._due_s = time.monotonic()

    def read(self) -> Frame | None:
        """Waits until the next frame is due; see `Camera.read`."""
        frame = self._video.read()
        if frame is None:
            self._video.close()
            self._video = VideoCamera(self._config, self._get_buffer)
            frame = self._video.read()
        if frame is None:
            raise CameraError(f"{self.source}: the video can't be read from its start again")
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

    def close(self) -> None:
        """Releases the file."""
        self._video.close()


class RememberedVideo(Camera):
    """Gives the frames of a video that were not judged before.

    A frame is known by its number, and the file by its name, size and modification time: another
    file in its place is another video.

    Args:
        video: Gives all frames, each named `FILE#NUMBER`.
        path: The file, which must exist.
        seen: The frames that were read already.

    Example:
        >>> camera = RememberedVideo(VideoCamera(config), Path(config.source), Remembered())
    """

    live = False

    def __init__(self, video: Camera, path: Path, seen: Remembered) -> None:
        stat = path.stat()
        self._video, self._seen, self.source = video, seen, video.source
        self._state = f"|{stat.st_size}|{stat.st_mtime_ns}"
        self.length = video.length
        seen.forget([key for key in seen.keys if not key.endswith(self._state)])

    def read(self) -> Frame | None:
        """Reads the next frame that was not read before; see `Camera.read`."""
        while True:
            try:
                frame = self._video.read()
            except ImageReadError as error:
                if (origin := self._new_origin(error.name)) is not None:
                    raise UnreadablePictureError(error.cause, origin) from error
                continue
            if frame is None:
                return None
            if (origin := self._new_origin(frame.name)) is not None:
                pixels = np.ascontiguousarray(frame.image)
                digest = hashlib.blake2b(pixels.data, digest_size=16).hexdigest()
                return replace(frame, origin=replace(origin, digest=digest))

    def _new_origin(self, name: str) -> Origin | None:
        """Returns the origin of a frame and remembers it; None where it was remembered already."""
        shown = file_name(name)
        key = shown + self._state
        if key in self._seen.keys:
            return None
        self._seen.keys.add(key)
        return Origin(shown, key)

    def close(self) -> None:
        """Releases the file."""
        self._video.close()
