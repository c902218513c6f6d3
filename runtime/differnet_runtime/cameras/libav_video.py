"""Video files through PyAV: every frame once, and what is damaged in them marked."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path

from ..errors import CameraError, ImageReadError
from ..records import Frame
from .base import Camera, Room, no_room
from .damage import Quarantine
from .decoded import Decoded
from .libav import LibavReader
from .settings import Setting

_TS_PACKETS = (188, 192, 204)
_TS_SYNC = 0x47


class LibavVideo(Camera):
    """Reads a video file.

    Args:
        path: A video in any container and codec that FFmpeg reads.
        room: Where frames may be read into.
        check_h265: See `LibavReader`.

    Raises:
        CameraError: It can't be opened.
    """

    live = False

    def __init__(self, path: str, room: Room = no_room, *, check_h265: bool = True) -> None:
        self._path, self._name = path, Path(path).name
        try:
            self._reader = LibavReader(
                path, room=room, ends_within=_ends_within(Path(path)), check_h265=check_h265
            )
        except CameraError as error:
            raise CameraError(
                f"{error}: FFmpeg can't open it as a video; pictures are recognised by their file "
                "extension"
            ) from error
        if self._reader.not_seen is not None:
            self.settings = (Setting("decoder", None, None, self._reader.not_seen),)
        self.fps = self._reader.fps
        self.length = self._reader.promised or None
        self._quarantine = Quarantine(live=False)
        self._judged: deque[Frame | ImageReadError] = deque()
        self._index, self._ended = 0, False

    def read(self) -> Frame | None:
        """Reads the next frame; see `Camera.read`."""
        while not self._judged and not self._ended:
            decoded = self._reader.read()
            if decoded is None:
                self._ended = True
                self._judged.extend(self._quarantine.rest())
                self._refuse_loss()
            else:
                self._judge(decoded)
        judged = self._judged.popleft() if self._judged else None
        if isinstance(judged, ImageReadError):
            raise judged
        return judged

    def _judge(self, decoded: Decoded) -> None:
        index, self._index = self._index, self._index + 1
        name = f"{self._name}#{index}"
        if decoded.image is None:
            cause = decoded.damage or "it can't be decoded"
            if not decoded.alone:
                self._judged.extend(self._quarantine.lose(cause))
            self._judged.append(ImageReadError(name, cause))
            return
        frame = Frame(
            decoded.image,
            name,
            index,
            time.monotonic_ns(),
            time.time(),
            decoded.stamp_ms,
            decoded.damage,
        )
        alone = decoded.alone
        judged = [frame] if alone else self._quarantine.judge(frame, decoded.picture, decoded.key)
        self._judged.extend(judged)

    def _refuse_loss(self) -> None:
        """Raises where the file ends before it says it would."""
        if not self._index:
            raise CameraError(f"{self._path}: the video opens, but holds no frame to decode")
        promised, found = self._reader.promised, self._reader.packets
        if found < promised - max(2, promised // 50):  # some files only estimate it
            raise ImageReadError(
                f"{self._name}#{self._index}",
                f"the video promises {promised} frames and ends after {found}; it may be cut short",
            )

    def close(self) -> None:
        """Releases the file."""
        self._reader.close()

    def describe(self) -> str:
        """Returns the path."""
        return self._path


def _ends_within(path: Path) -> str | None:
    """Returns what is wrong with the last packet of a transport stream that was cut."""
    try:
        with path.open("rb") as file:
            data = file.read(1)
        size = path.stat().st_size
    except OSError:
        return None
    if data != bytes([_TS_SYNC]) or any(size % packet == 0 for packet in _TS_PACKETS):
        return None
    return "the file ends within it"
