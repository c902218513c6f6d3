"""What a station and a capture process say to each other, beside the frames' shared memory.

Each message is one JSON packet on a socket pair. The station sends `Source` first, which may hold a
password and so is not an argument, which all users of the machine can read. After that it sends
packets of six bytes (`RELEASE`), which give back a slot that may be written again, or a longer
`Settled`.
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
    """The state of a camera at one moment.

    Args:
        state: See `CameraState`; a camera that is STALLED or LOST is retried for ever.
        reason: Why it is not live; None while it is.
        frames: Number of frames since the start.
        reconnects: How often it was opened again after frames had come.
        last_frame_ns: Monotonic stamp of the newest frame.
        fps: Frame rate in Hz, measured over the last seconds.
        width: Width of the newest frame in pixels.
        height: Height of the newest frame in pixels.
        settings: Requested and reported settings of a device.
        pid: Process id of the capture process.
        source: The source, without passwords.
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

DType = Literal["uint8", "uint16"]


class LastFrame(StrictModel):
    """The last frame that an earlier process of the camera has given.

    Args:
        descriptor: File descriptor of its pixels.
        shape: Shape of the image.
        dtype: Type of its pixels.
        since_ns: Monotonic stamp of the first frame with these pixels.
    """

    descriptor: int
    shape: tuple[int, ...]
    dtype: DType
    since_ns: int


class Source(StrictModel):
    """The camera that a capture process reads.

    Args:
        config: The camera's configuration, as `locate` returns it.
        live: Whether only the newest frame counts.
        seen: File descriptor of the pictures that were read already; see `pictures`.
        last: The last frame of a live camera, if an earlier process gave one.
    """

    config: CameraConfig
    live: bool
    seen: int | None
    last: LastFrame | None = None


class Settled(StrictModel):
    """From the station: the verdicts on these pictures are on disk; answered by `Received`."""

    keys: tuple[str, ...]


class Opened(StrictModel):
    """The source is open."""

    kind: Literal["opened"] = "opened"
    settings: tuple[Setting, ...] = ()


class Memory(StrictModel):
    """From now on frames lie in the shared memory whose descriptor comes with this message."""

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
    dtype: DType
    name: str
    index: int
    captured_ns: int
    captured_at_s: float
    stream_ms: float | None
    damage: str | None
    unchanged_s: float
    origin: Origin | None = None
    waiting: int | None = None


class Unreadable(StrictModel):
    """A picture can't be read; this takes up a slot, as a frame does, until it is given back."""

    kind: Literal["unreadable"] = "unreadable"
    generation: int
    slot: int
    name: str
    cause: str
    origin: Origin | None = None


class Trying(StrictModel):
    """A picture of a folder is about to be decoded, which may crash the process."""

    kind: Literal["trying"] = "trying"
    name: str
    key: str


class Later(StrictModel):
    """A picture that was tried is not complete, and is read again later."""

    kind: Literal["later"] = "later"
    key: str


class Gone(StrictModel):
    """Pictures that were read no longer exist, and need not be remembered."""

    kind: Literal["gone"] = "gone"
    keys: tuple[str, ...]


class Received(StrictModel):
    """A `Settled` has arrived, so that the next one may be sent."""

    kind: Literal["received"] = "received"


class Lost(StrictModel):
    """The source can't be opened, or ended unexpectedly; the process retries by itself."""

    kind: Literal["lost"] = "lost"
    text: str


class Ended(StrictModel):
    """The source has given all its frames."""

    kind: Literal["ended"] = "ended"


Message = Opened | Memory | Captured | Trying | Later | Received | Gone | Unreadable | Lost | Ended
MESSAGE: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="kind")])
