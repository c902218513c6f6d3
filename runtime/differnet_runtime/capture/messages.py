"""What the daemon and a capture process say to each other, beside the frames' shared memory.

Each message is one JSON packet on a socket pair. The daemon sends the source first, which may hold
a password, and so is not an argument, which all users of the machine can read; and then packets
of six bytes, which give back a slot that may be written again, or a longer `Settled`.

What is known of a camera.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from ..cameras.base import Setting
from ..config.models import CameraConfig
from ..model_file.contract import StrictModel
from ..records import Origin


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


MOST_TEXT = 4000
"""Characters of an error that are passed on."""
RELEASE = struct.Struct("=IH")
"""Generation of the memory, and the slot in it."""


class LastFrame(StrictModel):
    """What an earlier process of the camera has shown last; see `shown`."""

    descriptor: int
    shape: tuple[int, ...]
    dtype: Literal["uint8", "uint16"]
    since_ns: int


class Source(StrictModel):
    """What it is to read.

    Args:
        config: Of the camera.
        live: Whether only the newest frame counts.
        skip: Frames of a video that an earlier process gave already.
        seen: Descriptor of a file with the pictures that were read already; see `pictures`.
        shown: Of a live camera.
    """

    config: CameraConfig
    live: bool
    skip: int
    seen: int | None
    shown: LastFrame | None = None


class Settled(StrictModel):
    """From the daemon: the verdicts on these pictures are on disk; answered by `Received`."""

    keys: tuple[str, ...]


class Opened(StrictModel):
    """The source is open; `settings` are the fields of `cameras.settings.Setting`."""

    kind: Literal["opened"] = "opened"
    settings: tuple[tuple[str, float | None, float | None, str | None], ...] = ()


class Memory(StrictModel):
    """From now on frames lie in the memory whose descriptor comes along."""

    kind: Literal["memory"] = "memory"
    generation: int
    slots: int
    slot_bytes: int


class Captured(StrictModel):
    """A frame lies in a slot; the fields are those of `records.Frame`."""

    kind: Literal["frame"] = "frame"
    generation: int
    slot: int
    shape: tuple[int, ...]
    dtype: Literal["uint8", "uint16"]
    name: str
    index: int
    captured_ns: int
    captured_at_s: float
    stream_ms: float | None
    damage: str | None
    unchanged_s: float
    origin: Origin | None = None
    waiting: int | None = None


class Trying(StrictModel):
    """A picture of the folder is about to be decoded, which a damaged one may not survive."""

    kind: Literal["trying"] = "trying"
    name: str
    key: str


class Later(StrictModel):
    """A picture that was tried is not complete, and is read again later."""

    kind: Literal["later"] = "later"
    key: str


class Received(StrictModel):
    """A `Settled` has come, so that there is room for another one."""

    kind: Literal["received"] = "received"


class Gone(StrictModel):
    """Pictures that were read are no longer there, and need not be remembered."""

    kind: Literal["gone"] = "gone"
    keys: tuple[str, ...]


class Unreadable(StrictModel):
    """A picture can't be read; it holds a slot, as a frame does, until it is taken."""

    kind: Literal["unreadable"] = "unreadable"
    generation: int
    slot: int
    name: str
    cause: str
    origin: Origin | None = None


class Lost(StrictModel):
    """The source can't be opened, or ended unasked; the process tries again by itself."""

    kind: Literal["lost"] = "lost"
    text: str


class Ended(StrictModel):
    """The source has given all its frames."""

    kind: Literal["ended"] = "ended"


Message = Opened | Memory | Captured | Trying | Later | Received | Gone | Unreadable | Lost | Ended
MESSAGE: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="kind")])
