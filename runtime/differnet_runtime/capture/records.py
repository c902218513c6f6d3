"""What is known of a camera."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ..cameras.settings import Setting


class CameraState(str, Enum):
    """Where a camera is in its life; LIVE is said of files too, while they give frames."""

    STARTING = "starting"
    LIVE = "live"
    STALLED = "stalled"
    LOST = "lost"
    ENDED = "ended"
    STOPPED = "stopped"


@dataclass(frozen=True)
class CameraStatus:
    """A camera at a moment.

    Args:
        state: See `CameraState`; STALLED and LOST are tried again for ever.
        reason: Why it is not live.
        frames: That came since the start.
        reconnects: How often it was opened again after frames had come.
        last_frame_ns: Monotonic stamp of the newest frame.
        fps: Measured over the last seconds.
        width: Of the newest frame, in pixels.
        height: Likewise.
        settings: What was asked of a device, and what it reports.
        pid: The capture process.
        source: What is read; never a password.
        waiting: Pictures of a folder that waited when the newest one was read.
    """

    state: CameraState
    reason: str | None
    frames: int
    reconnects: int
    last_frame_ns: int | None
    fps: float | None
    width: int | None
    height: int | None
    settings: tuple[Setting, ...]
    pid: int | None
    source: str
    waiting: int | None = None
