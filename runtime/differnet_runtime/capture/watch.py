"""Listens to one capture process, and tells when it has to be ended."""

from __future__ import annotations

import logging
import os
import select
import socket
import time

from pydantic import ValidationError

from ..cameras.settings import Setting
from ..cameras.sources import hidden
from ..cameras.stream import open_limit_s
from ..config.models import CameraConfig
from ..processes import Child
from ..records import Origin
from ..sentences import sentence
from .inbox import Inbox
from .memory import Slots
from .messages import (
    MESSAGE,
    MOST_TEXT,
    PACKET,
    Captured,
    Ended,
    Gone,
    Later,
    Lost,
    Memory,
    Message,
    Opened,
    Received,
    Trying,
    Unreadable,
)
from .pictures import Pictures
from .records import CameraState
from .shown import Shown
from .tally import Tally

_POLL_MS = 100
_START_S = 15.0
"""For Python and OpenCV to be loaded on a device that has much else to do."""
_FIRST_FRAME_S = 10.0
_PICTURE_S = 30.0
_LATE = 3
"""Intervals between frames."""

log = logging.getLogger(__name__)


class Watch:
    """Knows what one process has said, and when.

    Args:
        config: Of the camera.
        live: Whether it must give frames without being asked.
        inbox: Takes what it gives.
        tally: Takes its state.
        pictures: What is known of a folder's pictures; kept up to date.
    """

    def __init__(
        self, config: CameraConfig, live: bool, inbox: Inbox, tally: Tally, pictures: Pictures
    ) -> None:
        self.frames = 0
        """How many it gave, those among them that can't be read."""
        self.ended = False
        """Whether the source has given all it had."""
        self._config, self._live = config, live
        self._inbox, self._tally, self._pictures = inbox, tally, pictures
        self._slots: Slots | None = None
        self._last: Captured | None = None
        self._trying: Trying | None = None
        self._told = False
        self._opening = config.kind == "folder"  # a share may hang; a video may be long to skip
        # A camera that was set to give few frames gives them late.
        self._stall_s = max(config.stall_s, _LATE / config.fps if config.fps else 0.0)
        self._expect("camera_not_opening", _START_S + open_limit_s(config.stall_s))

    def _expect(self, missing: str, within_s: float) -> None:
        """Sets what is said if nothing comes, and when the process is taken for hung."""
        self._missing, self._within_s = missing, within_s
        self._until_ns = time.monotonic_ns() + int(within_s * 1e9)

    def listen(self, child: Child) -> bool:
        """Waits a moment for the next message.

        Returns:
            False if the process has ended or must be.
        """
        try:
            message, descriptors = _receive(child.channel)
        except (OSError, ValidationError, EOFError) as error:
            self._died(child, error)
            return False
        if message is not None:
            self._handle(message, descriptors, child)
        self._pictures.tell(child.channel)
        if self.ended:
            return False
        return not self._overdue()

    def _handle(self, message: Message, descriptors: list[int], child: Child) -> None:
        if isinstance(message, Captured):
            self._captured(message, child.channel)
        elif isinstance(message, Memory):
            (descriptor,) = descriptors
            try:
                self._slots = Slots(
                    descriptor, message.generation, message.slots, message.slot_bytes
                )
            finally:
                os.close(descriptor)
        elif isinstance(message, Opened):
            settings = tuple(Setting(*fields) for fields in message.settings)
            self._opening = False
            self._tally.opened(settings, self._live)
            self._expect("camera_no_first_frame", max(_FIRST_FRAME_S, self._stall_s))
        elif isinstance(message, Lost):
            self._lost(hidden(message.text, self._config), child.said)
        elif isinstance(message, Ended):
            self.ended = True
            self._tally.over(CameraState.ENDED)
            self._inbox.end()
        else:
            self._picture(message, child.channel)

    def _picture(
        self, message: Trying | Later | Received | Unreadable | Gone, channel: socket.socket
    ) -> None:
        if isinstance(message, Trying):
            self._pictures.seen.add(message.key)
            self._trying = message
            self._expect("camera_decodes_long", _PICTURE_S)
        elif isinstance(message, Unreadable):
            self._trying = None
            self.frames += 1  # as `VideoCamera` counts those that it skips
            self._gave(message.origin)
            self._inbox.unreadable(message, channel)
        elif isinstance(message, Received):
            self._pictures.heard()
        elif isinstance(message, Later):
            self._trying = None
            self._pictures.read_later(message.key)
        else:
            self._pictures.are_gone(message.keys)

    def _gave(self, origin: Origin | None) -> None:
        if origin is not None:
            self._pictures.gave(origin.key)

    def _captured(self, message: Captured, channel: socket.socket) -> None:
        if self._slots is None or self._slots.generation != message.generation:
            raise AssertionError("a frame came before its memory")
        self._trying, self._told = None, False
        self.frames += 1
        self._last = message
        self._gave(message.origin)
        self._tally.frame(message)
        self._inbox.frame(message, self._slots, channel)
        self._missing, self._within_s = "camera_no_new_frame", self._stall_s
        # By its stamp: a message that lay there for long is no proof of a camera at work.
        self._until_ns = message.captured_ns + int(self._within_s * 1e9)

    def shown(self) -> Shown | None:
        """Returns the last frame of a live camera, once the process has ended."""
        last, slots = self._last, self._slots
        if not self._live or last is None or slots is None or slots.generation != last.generation:
            return None
        return Shown.of(last, slots)

    def _lost(self, text: str, said: str | None) -> None:
        if said is not None and said not in text:
            text = sentence("source_said", what=text, text=said)
        if not self._told:  # and not again with each try
            log.warning("%s", text)
        self._told = True
        self._tally.absent(CameraState.LOST, text)
        self._expect("camera_not_opening", _START_S + open_limit_s(self._config.stall_s))

    def _overdue(self) -> bool:
        watched = self._live or self._trying is not None or self._opening
        if time.monotonic_ns() < self._until_ns or not watched:
            return False
        source = self._tally.status.source
        text = sentence(self._missing, source=source, waited_s=self._within_s)
        log.warning("%s; its process is ended", text)
        if self._trying:
            self.give_up_picture("decoding it takes too long")
        else:
            self._tally.absent(CameraState.STALLED, text)
        return True

    def _died(self, child: Child, error: Exception) -> None:
        death = child.death()
        if not isinstance(error, EOFError):
            death += f" ({type(error).__name__}: {error})"
        if self._trying:
            self.give_up_picture(f"reading it ended {death}")
        elif not self._told:
            log.warning("%s", death)
            self._tally.absent(CameraState.LOST, death)

    def give_up_picture(self, cause: str) -> None:
        """Tells of the picture that is being decoded, if there is one, that it can't be read.

        The first time it is only read again: the process may have ended for another reason.
        """
        tried, self._trying = self._trying, None
        if tried is None:
            return
        if not self._pictures.ended_its_reader(tried.key):
            log.warning("%s: %s; it is read once more", tried.name, cause)
            return
        origin = Origin(tried.name, tried.key)
        message = Unreadable(
            generation=0, slot=0, name=tried.name, cause=cause[:MOST_TEXT], origin=origin
        )
        self._inbox.unreadable(message, None)


def _receive(channel: socket.socket) -> tuple[Message | None, list[int]]:
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    if not poll.poll(_POLL_MS):
        return None, []
    packet, descriptors, _flags, _address = socket.recv_fds(channel, PACKET, 1)
    if not packet:
        raise EOFError
    return MESSAGE.validate_json(packet), descriptors
