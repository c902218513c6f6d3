"""The capture process: `python -m differnet_runtime.capture.child`.

It opens, reads and releases the camera in one thread, and hands frames and messages to the station.
A source that can't be opened or reports its end is retried; one that hangs keeps this process until
the station ends it.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import time
from collections import deque
from dataclasses import replace
from math import prod

import numpy as np
from pydantic import BaseModel

from ..cameras.base import Camera, FreezeDetector, no_buffer
from ..cameras.files import Remembered, UnreadablePictureError
from ..cameras.sources import open_source
from ..errors import CameraError, ImageReadError
from ..processes import PACKET, join_parent
from ..records import Frame, Image
from ..sentences import sentence
from ..service import Backoff
from .messages import (
    MOST_TEXT,
    RELEASE,
    Captured,
    Ended,
    FrameSlots,
    Gone,
    LastFrame,
    Later,
    Lost,
    Memory,
    Opened,
    Received,
    Settled,
    Source,
    Trying,
    Unreadable,
    create_memory,
)
from .pictures import restore

_MOST_TRIES = 200
"""After so many a new process takes over, in case a library leaks memory with each."""

log = logging.getLogger(__name__)


def main() -> None:
    """Reads the source that the station names, until it closes the socket."""
    channel, _ = join_parent()
    signal.signal(signal.SIGTERM, _end)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    with channel:
        packet = channel.recv(PACKET)
        if not packet:
            return
        source = Source.model_validate_json(packet)
        try:
            _Capture(source, CaptureLink(channel, source.live)).run()
        except (StationGone, SystemExit):
            return


def _end(_signal: int, _frame: object) -> None:
    """Interrupts the current read, so that the camera is closed properly."""
    raise SystemExit


class _Capture:
    def __init__(self, source: Source, link: CaptureLink) -> None:
        self._source, self._link = source, link
        self._backoff, self._freeze = Backoff(), _freeze_detector(source.last)
        self._gave_frames = False
        self._seen = Remembered(
            settled=link.settled,
            trying=lambda name, key: link.send(Trying(name=name, key=key)),
            later=lambda key: link.send(Later(key=key)),
            gone=lambda keys: link.send(Gone(keys=keys)),
            pause=link.idle,
        )
        restore(source.seen, self._seen)

    def run(self) -> None:
        for _ in range(_MOST_TRIES):
            try:
                self._read_source()
            except CameraError as error:
                self._link.send(Lost(text=str(error)[:MOST_TEXT]))
            if self._gave_frames:
                self._gave_frames = False
                self._backoff.reset()
            self._link.idle(self._backoff.next_s())

    def _read_source(self) -> None:
        source = self._source
        get_buffer = self._link.get_buffer if source.live else no_buffer
        with open_source(source.config, self._seen, get_buffer) as camera:
            self._link.send(Opened(settings=camera.settings))
            if source.live:
                self._give_newest(camera)
            else:
                self._give_all(camera)

    def _give_newest(self, camera: Camera) -> None:
        while True:
            try:
                frame = camera.read()
            except ImageReadError as error:
                log.warning("%s", error)
                continue
            if frame is None:
                raise CameraError(sentence("source_ended", source=camera.source))
            self._gave_frames = True
            # Here, where every frame is seen: few of them may be judged.
            self._link.frame(replace(frame, unchanged_s=self._freeze.seconds(frame)))

    def _give_all(self, camera: Camera) -> None:
        while True:
            self._link.wait_free()  # before the read, so that the stamps are fresh when it is taken
            try:
                frame = camera.read()
            except ImageReadError as error:
                self._link.unreadable(error)
                continue
            if frame is None:
                self._link.send(Ended())
                self._link.idle(float("inf"))
                return
            self._gave_frames = True
            while not self._link.frame(frame):
                self._link.wait_free()


def _freeze_detector(last: LastFrame | None) -> FreezeDetector:
    """Returns a detector that goes on from the last frame of the process before."""
    if last is None:
        return FreezeDetector()
    with os.fdopen(last.descriptor, "rb") as file:
        pixels = np.frombuffer(file.read(), last.dtype).reshape(last.shape)
    return FreezeDetector(pixels, last.since_ns)


LIVE_SLOTS = 6
"""One being written, one on its way, the newest; one being judged, one shown, one spare."""
_LEFT = 2
"""Slots that no frame is read into: one on its way, and the newest."""
_PAGE = 4096


class StationGone(Exception):  # noqa: N818 - nothing is wrong
    """The station has closed its end; this process ends too."""


class CaptureLink:
    """The capture process's end of the channel, and the shared memory that it writes.

    Args:
        channel: The socket to the station.
        live: Whether a frame that finds no free slot is dropped; otherwise it waits for one.

    Example:
        >>> link = CaptureLink(channel, live=True)
        >>> link.frame(camera.read())
    """

    def __init__(self, channel: socket.socket, live: bool) -> None:
        self._channel = channel
        self._count = LIVE_SLOTS if live else 1
        self._memory: FrameSlots | None = None
        self._generation = 0
        self._away: set[int] = set()
        """Slots that the station has."""
        self.settled: deque[str] = deque()
        """Keys of pictures that the station has reported as settled; emptied by the reader."""

    def send(self, message: BaseModel, descriptor: int | None = None) -> None:
        """Sends a message, and a file descriptor with it if there is one.

        Raises:
            StationGone: Nobody is left to read it.
        """
        packet = message.model_dump_json().encode()
        try:
            if descriptor is None:
                self._channel.send(packet)
            else:
                socket.send_fds(self._channel, [packet], [descriptor])
        except (BrokenPipeError, ConnectionResetError) as error:
            raise StationGone from error

    def get_buffer(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Image | None:
        """Returns shared memory that a frame may be read into, to be handed over without a copy.

        It may be written to until it is handed over, and is free again once neither side uses it.

        Returns:
            The memory; None where it is too small, or too few slots would be left for frames that
            lie elsewhere.

        Raises:
            StationGone: See `send`.
        """
        self._receive(0.0)
        memory, free, length = self._memory, self.free_slots(), prod(shape) * dtype.itemsize
        if memory is None or len(free) <= _LEFT or length > memory.slot_bytes:
            return None
        return memory.lend(free[0], shape, dtype)

    def free_slots(self) -> list[int]:
        """Returns the slots that neither side uses."""
        lent = self._memory.lent if self._memory else {}
        return [slot for slot in range(self._count) if slot not in self._away and slot not in lent]

    def wait_free(self) -> None:
        """Waits until the last frame was taken."""
        while self._memory is not None and not self.free_slots():
            self._receive(None)

    def idle(self, seconds: float) -> None:
        """Waits, but ends with the station."""
        until = time.monotonic() + seconds
        while (left_s := until - time.monotonic()) > 0:
            self._receive(min(left_s, 60.0))

    def frame(self, frame: Frame) -> bool:
        """Hands a frame over; returns False if no slot was free for it.

        Raises:
            StationGone: See `send`.
        """
        memory = self._fitting(frame.image.nbytes)
        slot = memory.holding(frame.image)
        if slot is None:
            self._receive(0.0)
            free = self.free_slots()
            if not free:
                return False
            slot = free[0]
            memory.write(slot, frame.image)
        self._away.add(slot)
        self.send(
            Captured(
                generation=self._generation,
                slot=slot,
                shape=frame.image.shape,
                dtype="uint8" if frame.image.dtype.itemsize == 1 else "uint16",
                name=frame.name,
                index=frame.index,
                captured_ns=frame.captured_ns,
                captured_at_s=frame.captured_at_s,
                stream_ms=frame.stream_ms,
                damage=frame.damage,
                unchanged_s=frame.unchanged_s,
                origin=frame.origin,
                waiting=frame.waiting,
            )
        )
        return True

    def unreadable(self, error: ImageReadError) -> None:
        """Hands over that a picture can't be read, in its place among the frames.

        Raises:
            StationGone: See `send`.
        """
        self._fitting(1)
        self.wait_free()
        slot = self.free_slots()[0]
        self._away.add(slot)
        self.send(
            Unreadable(
                generation=self._generation,
                slot=slot,
                name=error.name,
                cause=error.cause[:MOST_TEXT],
                origin=error.origin if isinstance(error, UnreadablePictureError) else None,
            )
        )

    def _fitting(self, nbytes: int) -> FrameSlots:
        """Returns memory whose slots have so many bytes; makes a new one if they are smaller."""
        if self._memory is not None and nbytes <= self._memory.slot_bytes:
            return self._memory
        self._generation += 1
        slot_bytes = -(-nbytes // _PAGE) * _PAGE
        memory = Memory(generation=self._generation, slots=self._count, slot_bytes=slot_bytes)
        descriptor = create_memory(self._count * slot_bytes)
        try:
            self._memory = FrameSlots(descriptor, memory)
            self.send(memory, descriptor)
        finally:
            os.close(descriptor)
        self._away = set()
        return self._memory

    def _receive(self, timeout_s: float | None) -> None:
        """Takes back the slots that the station has given back, and what it has settled."""
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        while poll.poll(None if timeout_s is None else timeout_s * 1e3):
            try:
                packet = self._channel.recv(PACKET)
            except ConnectionResetError as error:
                raise StationGone from error
            if not packet:
                raise StationGone
            timeout_s = 0.0
            if len(packet) != RELEASE.size:
                self.settled.extend(Settled.model_validate_json(packet).keys)
                self.send(Received())
                continue
            generation, slot = RELEASE.unpack(packet)
            if generation == self._generation:
                self._away.discard(slot)


if __name__ == "__main__":
    main()
    os._exit(0)  # a camera's libraries may fault when they are unloaded
