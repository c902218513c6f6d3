"""What a station and a capture process say to each other, beside the frames' shared memory.

Each message is one JSON packet on a socket pair. The station sends `Source` first, which may hold a
password and so is not an argument, which all users of the machine can read. After that it sends
packets of six bytes (`RELEASE`), which give back a slot that may be written again, or a longer
`Settled`.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import socket
import struct
import threading
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from math import prod
from typing import Annotated, Literal, NamedTuple

import numpy as np
from numpy.typing import DTypeLike
from pydantic import Field, TypeAdapter

from ..cameras.base import Setting
from ..cameras.files import UnreadablePictureError
from ..config.models import CameraConfig
from ..errors import ImageReadError
from ..model_file.contract import StrictModel
from ..records import Frame, Image, Origin


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


def create_memory(length: int) -> int:
    """Returns the file descriptor of new shared memory of so many bytes."""
    descriptor = os.memfd_create("differnet-capture", os.MFD_CLOEXEC)
    try:
        os.ftruncate(descriptor, length)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


class FrameSlots:
    """The mapped slots of one shared memory; a larger frame needs a new one.

    Args:
        descriptor: File descriptor of the memory; may be closed afterwards.
        memory: Its generation, number of slots, and bytes per slot.

    Example:
        >>> memory = Memory(generation=1, slots=6, slot_bytes=4096)
        >>> slots = FrameSlots(create_memory(6 * 4096), memory)
    """

    def __init__(self, descriptor: int, memory: Memory) -> None:
        self.generation, self.count = memory.generation, memory.slots
        self.slot_bytes = memory.slot_bytes
        self.lent: dict[int, weakref.ref[np.ndarray]] = {}
        """Slots whose memory is in use on this side."""
        # Never closed by hand: it goes with the last view, and unmapping earlier would be a fault.
        self._mapped = mmap.mmap(descriptor, self.count * self.slot_bytes)
        self._start = _address(np.frombuffer(self._mapped, np.uint8))

    def write(self, slot: int, image: Image) -> None:
        """Copies an image into a slot."""
        self._view(slot, image.shape, image.dtype)[...] = image

    def copy(self, slot: int, shape: tuple[int, ...], dtype: str) -> Image:
        """Returns a copy of the image in a slot."""
        copied: Image = self._view(slot, shape, dtype).copy()
        return copied

    def lend(
        self,
        slot: int,
        shape: tuple[int, ...],
        dtype: DTypeLike,
        returned: Callable[[], None] = lambda: None,
    ) -> Image:
        """Returns a slot's memory as an image.

        Args:
            slot: Index of the slot.
            shape: Shape of the image.
            dtype: Type of its pixels.
            returned: Called, by any thread, once nobody uses the image or a part of it any more.
        """

        def end(_: weakref.ref[np.ndarray]) -> None:
            del self.lent[slot]
            returned()

        view = self._view(slot, shape, dtype)
        assert view.base is not None  # parts of the view keep it
        self.lent[slot] = weakref.ref(view.base, end)
        return view

    def holding(self, image: Image) -> int | None:
        """Returns the slot that an image fills from its start; None if it lies elsewhere."""
        slot, rest = divmod(_address(image) - self._start, self.slot_bytes)
        inside = rest == 0 and 0 <= slot < self.count and image.flags.c_contiguous
        return slot if inside else None

    def _view(self, slot: int, shape: tuple[int, ...], dtype: DTypeLike) -> Image:
        length = prod(shape) * np.dtype(dtype).itemsize
        raw = np.frombuffer(self._mapped, np.uint8, length, slot * self.slot_bytes)
        view: Image = raw.view(dtype).reshape(shape)
        return view


def _address(array: np.ndarray) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


_KEPT_BACK = 3
"""Slots that are never lent: one being written, one on its way, and the newest frame."""


class _Item(NamedTuple):
    """Something to take; None is the end of the source. Its slot is given back on the channel."""

    message: Captured | Unreadable | None
    channel: socket.socket | None
    slots: FrameSlots | None


class FrameQueue:
    """Frames that came from a capture process: filled by its monitor, emptied by the judge.

    A frame is lent where it lies, and its slot given back when nobody uses it any more. It is
    copied, and the slot given back at once, where lending would leave the process too few slots.

    Args:
        live: Whether a newer frame replaces one that was not taken.

    Example:
        >>> queue = FrameQueue(live=True)
        >>> frame = queue.take() if queue.wait(0.5) else None
    """

    def __init__(self, live: bool) -> None:
        self._live = live
        self._items: deque[_Item] = deque()
        self._changed = threading.Condition()
        # The last user of a frame may be any thread, even one that is sending: the collector's.
        self._sending = threading.RLock()

    def put(
        self,
        message: Captured | Unreadable | None,
        channel: socket.socket | None = None,
        slots: FrameSlots | None = None,
    ) -> None:
        """Adds a frame, an unreadable picture, or the end of the source.

        Args:
            message: The frame or the unreadable picture; None for the end.
            channel: Where its slot is given back; None if it takes up none.
            slots: The memory of a frame.
        """
        with self._changed:
            replaced = list(self._items) if self._live else []
            if self._live:
                self._items.clear()
            self._items.append(_Item(message, channel, slots))
            self._changed.notify_all()
        for item in replaced:
            self._give_back(item)

    def wait(self, timeout_s: float) -> bool:
        """Waits until there is a frame, a picture's read error or the end; returns whether."""
        with self._changed:
            if not self._items and timeout_s > 0:
                self._changed.wait_for(lambda: self._items, timeout_s)
            return bool(self._items)

    def take(self) -> Frame | None:
        """Takes the newest frame (live), or the next one.

        Returns:
            The frame; None if there is none, or once at the end of the source.

        Raises:
            ImageReadError: The next picture can't be read; there may be more behind it.
        """
        with self._changed:
            if not self._items:
                return None
            item = self._items.popleft()
        message, _, slots = item
        if isinstance(message, Captured) and slots is not None:
            return Frame(
                self._image(item, message, slots),
                message.name,
                message.index,
                message.captured_ns,
                message.captured_at_s,
                message.stream_ms,
                message.damage,
                message.unchanged_s,
                message.origin,
                message.waiting,
            )
        self._give_back(item)
        if not isinstance(message, Unreadable):
            return None
        if message.origin is None:
            raise ImageReadError(message.name, message.cause)
        raise UnreadablePictureError(message.cause, message.origin)

    def _image(self, item: _Item, message: Captured, slots: FrameSlots) -> Image:
        if len(slots.lent) < slots.count - _KEPT_BACK:
            returned = partial(self._give_back, item)
            lent = slots.lend(message.slot, message.shape, message.dtype, returned)
            lent.flags.writeable = False  # the process compares the next frame with it
            return lent
        try:
            return slots.copy(message.slot, message.shape, message.dtype)
        finally:
            self._give_back(item)

    def close(self, channel: socket.socket) -> None:
        """Closes a channel once no slot is being given back on it."""
        with self._sending:
            channel.close()

    def _give_back(self, item: _Item) -> None:
        if item.channel is None or item.message is None:
            return
        packet = RELEASE.pack(item.message.generation, item.message.slot)
        # Fewer packets than slots are ever on their way, so there is always room for one.
        with self._sending, contextlib.suppress(OSError):  # the process has ended
            item.channel.send(packet, socket.MSG_DONTWAIT)
