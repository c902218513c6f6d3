"""The capture process's end: hands frames and messages to the daemon.

The capture process: `python -m differnet_runtime.capture.child`.

The camera is opened, read and released here, in one thread. A source that can't be opened, or
that says it has ended, is tried again; one that hangs keeps this process, until the daemon ends it.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import time
from collections import deque
from dataclasses import astuple, replace
from math import prod

import numpy as np
from pydantic import BaseModel

from ..backoff import Backoff
from ..cameras import Camera
from ..cameras.base import FreezeDetector, no_room
from ..cameras.files import Remembered, UnreadablePictureError
from ..cameras.sources import open_source
from ..errors import CameraError, ImageReadError
from ..processes import PACKET, join_parent, send
from ..records import Frame, Image
from ..sentences import sentence
from .messages import (
    MOST_TEXT,
    RELEASE,
    Captured,
    Ended,
    Gone,
    Later,
    Lost,
    Memory,
    Opened,
    Received,
    Settled,
    Source,
    Trying,
    Unreadable,
)
from .pictures import read_written
from .shared_frames import FrameSlots, create, read_shown

LIVE_SLOTS = 6
"""One being written, one on its way, the newest; one being judged, one shown, one to spare."""
_LEFT = 2
"""Slots that no frame is read into: one on its way, and the newest."""
_PAGE = 4096


class DaemonGone(Exception):  # noqa: N818 - nothing is wrong
    """The daemon has closed its end; the process is to end."""


class CaptureLink:
    """Owns the channel and the shared memory.

    Args:
        channel: To the daemon.
        live: Whether a frame that finds no free slot is dropped; else it waits for one.
    """

    def __init__(self, channel: socket.socket, live: bool) -> None:
        self._channel = channel
        self._count = LIVE_SLOTS if live else 1
        self._memory: FrameSlots | None = None
        self._generation = 0
        self._away: set[int] = set()
        """Slots that the daemon has."""
        self.settled: deque[str] = deque()
        """Keys of pictures that the daemon says are settled, to be taken from here."""

    def send(self, message: BaseModel) -> None:
        """Sends a message.

        Raises:
            DaemonGone: There is nobody left to read it.
        """
        try:
            send(self._channel, message)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise DaemonGone from error

    def room(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Image | None:
        """Returns memory that a frame may be read into, to be handed over as it lies there.

        None where too little would be left for frames that lie elsewhere. It may be written to
        until it is handed over, and is free again once nobody has it, here and there.

        Raises:
            DaemonGone: See `send`.
        """
        self._receive(0.0)
        memory, free, length = self._memory, self._free(), prod(shape) * dtype.itemsize
        if memory is None or len(free) <= _LEFT or length > memory.slot_bytes:
            return None
        return memory.lend(free[0], shape, dtype)

    def wait_free(self) -> None:
        """Waits until the last frame was taken."""
        while self._memory is not None and not self._free():
            self._receive(None)

    def idle(self, seconds: float) -> None:
        """Waits, but ends with the daemon."""
        until = time.monotonic() + seconds
        while (left_s := until - time.monotonic()) > 0:
            self._receive(min(left_s, 60.0))

    def frame(self, frame: Frame) -> bool:
        """Hands a frame over; False if no slot was free for it.

        Raises:
            DaemonGone: See `send`.
        """
        memory = self._fitting(frame.image.nbytes)
        slot = memory.holding(frame.image)
        if slot is None:
            self._receive(0.0)
            if not self._free():
                return False
            slot = self._free()[0]
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
        """Hands over that a picture can't be read, in its turn among the frames."""
        self._fitting(1)
        self.wait_free()
        slot = self._free()[0]
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
        if self._memory is not None and nbytes <= self._memory.slot_bytes:
            return self._memory
        slot_bytes = -(-nbytes // _PAGE) * _PAGE
        descriptor = create(self._count * slot_bytes)
        try:
            self._generation += 1
            self._memory = FrameSlots(descriptor, self._generation, self._count, slot_bytes)
            message = Memory(generation=self._generation, slots=self._count, slot_bytes=slot_bytes)
            socket.send_fds(self._channel, [message.model_dump_json().encode()], [descriptor])
        except (BrokenPipeError, ConnectionResetError) as error:
            raise DaemonGone from error
        finally:
            os.close(descriptor)
        self._away = set()
        return self._memory

    def _free(self) -> list[int]:
        lent = self._memory.lent if self._memory else {}
        slots = range(self._count)
        return [slot for slot in slots if slot not in self._away and slot not in lent]

    def _receive(self, timeout_s: float | None) -> None:
        """Takes back the slots that the daemon has given back, and what it has settled."""
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        while poll.poll(None if timeout_s is None else timeout_s * 1e3):
            try:
                packet = self._channel.recv(PACKET)
            except ConnectionResetError as error:
                raise DaemonGone from error
            if not packet:
                raise DaemonGone
            timeout_s = 0.0
            if len(packet) != RELEASE.size:
                self.settled.extend(Settled.model_validate_json(packet).keys)
                self.send(Received())
                continue
            generation, slot = RELEASE.unpack(packet)
            if generation == self._generation:
                self._away.discard(slot)


_MOST_TRIES = 200
"""Then a new process takes over, in case that a library loses memory with each."""

log = logging.getLogger(__name__)


def main() -> None:
    """Reads the source that the daemon names until it closes the socket."""
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
        except (DaemonGone, SystemExit):
            return


def _end(_signal: int, _frame: object) -> None:
    """Leaves what is being read: the camera is then closed as it should be."""
    raise SystemExit


class _Capture:
    def __init__(self, source: Source, link: CaptureLink) -> None:
        self._source, self._link = source, link
        self._backoff, shown = Backoff(), read_shown(source)
        self._repetition = (
            FreezeDetector(shown.image, shown.since_ns) if shown else FreezeDetector()
        )
        self._seen = Remembered(
            settled=link.settled,
            trying=self._trying,
            later=self._later,
            gone=self._gone,
            pause=link.idle,
        )
        read_written(source.seen, self._seen)

    def run(self) -> None:
        for _ in range(_MOST_TRIES):
            try:
                self._read_source()
            except CameraError as error:
                self._link.send(Lost(text=str(error)[:MOST_TEXT]))
            self._link.idle(self._backoff.next_s())

    def _read_source(self) -> None:
        source = self._source
        room = self._link.room if source.live else no_room
        with open_source(source.config, skip=source.skip, seen=self._seen, room=room) as camera:
            settings = tuple(astuple(setting) for setting in camera.settings)
            self._link.send(Opened(settings=settings))
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
                raise CameraError(sentence("source_ended", source=camera.describe()))
            self._backoff.reset()
            # Here, where every frame is seen: few of them may be judged.
            self._link.frame(replace(frame, unchanged_s=self._repetition.seconds(frame)))

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
            self._backoff.reset()
            while not self._link.frame(frame):
                self._link.wait_free()

    def _trying(self, name: str, key: str) -> None:
        self._link.send(Trying(name=name, key=key))

    def _later(self, key: str) -> None:
        self._link.send(Later(key=key))

    def _gone(self, keys: tuple[str, ...]) -> None:
        self._link.send(Gone(keys=keys))


if __name__ == "__main__":
    main()
    os._exit(0)  # a camera's libraries may fault when they are unloaded
