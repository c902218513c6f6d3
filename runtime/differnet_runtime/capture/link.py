"""The capture process's end: hands frames and messages to the daemon."""

from __future__ import annotations

import os
import select
import socket
import time
from collections import deque
from math import prod

import numpy as np
from pydantic import BaseModel

from ..cameras.remembered import UnreadablePictureError
from ..errors import ImageReadError
from ..records import Frame, Image
from .memory import Slots, create
from .messages import (
    MOST_TEXT,
    PACKET,
    RELEASE,
    Captured,
    Memory,
    Received,
    Settled,
    Unreadable,
)

LIVE_SLOTS = 6
"""One being written, one on its way, the newest; one being judged, one shown, one to spare."""
_LEFT = 2
"""Slots that no frame is read into: one on its way, and the newest."""
_PAGE = 4096


class DaemonGone(Exception):  # noqa: N818 - nothing is wrong
    """The daemon has closed its end; the process is to end."""


class Link:
    """Owns the channel and the shared memory.

    Args:
        channel: To the daemon.
        live: Whether a frame that finds no free slot is dropped; else it waits for one.
    """

    def __init__(self, channel: socket.socket, live: bool) -> None:
        self._channel = channel
        self._count = LIVE_SLOTS if live else 1
        self._memory: Slots | None = None
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
            self._channel.send(message.model_dump_json().encode())
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

    def _fitting(self, nbytes: int) -> Slots:
        if self._memory is not None and nbytes <= self._memory.slot_bytes:
            return self._memory
        slot_bytes = -(-nbytes // _PAGE) * _PAGE
        descriptor = create(self._count * slot_bytes)
        try:
            self._generation += 1
            self._memory = Slots(descriptor, self._generation, self._count, slot_bytes)
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
