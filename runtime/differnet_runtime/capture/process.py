"""Listens to one capture process, and tells when it has to be ended.

The state of a camera as it is told, and its counts.

A camera in a process of its own: started, watched by its stamps, killed when it stalls.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import threading
import time
from collections import deque
from dataclasses import replace

from pydantic import ValidationError

from ..cameras.base import Setting
from ..cameras.gstreamer import END_S
from ..cameras.sources import describe, hidden, is_live, locate
from ..cameras.stream import open_limit_s
from ..config.models import CameraConfig
from ..processes import PACKET, Child
from ..records import Frame, Origin
from ..sentences import sentence
from .messages import (
    MESSAGE,
    MOST_TEXT,
    Backoff,
    CameraState,
    CameraStatus,
    Captured,
    Ended,
    Gone,
    Later,
    Lost,
    Memory,
    Message,
    Opened,
    Received,
    Source,
    Trying,
    Unreadable,
)
from .pictures import Pictures
from .shared_frames import FrameQueue, FrameSlots, Shown

_OVER_S = 5.0
_MOST_STAMPS = 500


class CaptureStats:
    """Written by the thread that listens to the process, read by any.

    Args:
        source: What is read; never a password.
    """

    def __init__(self, source: str) -> None:
        self._lock = threading.Lock()
        self._stamps: deque[int] = deque(maxlen=_MOST_STAMPS)
        self._frames = 0
        self._newest: Captured | None = None
        # Of the frames it says nothing yet: `status` adds that, since most are never asked for.
        self._status = CameraStatus(
            CameraState.STOPPED, None, 0, 0, None, None, None, None, (), None, source
        )

    @property
    def status(self) -> CameraStatus:
        """At this moment."""
        with self._lock:
            newest = self._newest
            if newest is None:
                return self._status
            height, width = newest.shape[:2]
            return replace(
                self._status,
                frames=self._frames,
                last_frame_ns=newest.captured_ns,
                fps=self._fps(),
                width=width,
                height=height,
                waiting=newest.waiting,
            )

    def _fps(self) -> float | None:
        now = time.monotonic_ns()
        recent = [stamp for stamp in self._stamps if now - stamp < _OVER_S * 1e9]
        if len(recent) < 2 or recent[-1] <= recent[0]:
            return None
        return (len(recent) - 1) / ((recent[-1] - recent[0]) / 1e9)

    def starting(self) -> None:
        """The camera is to be opened for the first time."""
        with self._lock:
            self._status = replace(self._status, state=CameraState.STARTING, reason=None)

    def process(self, pid: int | None) -> None:
        """The capture process was started, or has ended."""
        with self._lock:
            self._status = replace(self._status, pid=pid)

    def opened(self, settings: tuple[Setting, ...], live: bool) -> None:
        """The source is open; one that is not live, as a folder, may have nothing to give."""
        with self._lock:
            self._status = replace(self._status, settings=settings)
            if not live:
                self._live()

    def frame(self, message: Captured) -> None:
        """A frame came."""
        with self._lock:
            self._live()
            self._frames += 1
            self._stamps.append(message.captured_ns)
            self._newest = message

    def _live(self) -> None:
        status = self._status
        if status.state is CameraState.LIVE and status.reason is None:
            return
        back = status.state in (CameraState.STALLED, CameraState.LOST) and self._frames > 0
        reconnects = status.reconnects + back
        self._status = replace(status, state=CameraState.LIVE, reason=None, reconnects=reconnects)

    def absent(self, state: CameraState, reason: str) -> None:
        """No frames come; a camera that is LOST stays so until they do, whatever it tries."""
        with self._lock:
            if self._status.state is CameraState.LOST:
                state = CameraState.LOST
            self._status = replace(self._status, state=state, reason=reason)

    def over(self, state: CameraState) -> None:
        """The source has ended, or was stopped."""
        with self._lock:
            self._status = replace(self._status, state=state, reason=None, pid=None)


_POLL_MS = 100
_START_S = 15.0
"""For Python and OpenCV to be loaded on a device that has much else to do."""
_FIRST_FRAME_S = 10.0
_PICTURE_S = 30.0
_LATE = 3
"""Intervals between frames."""

log = logging.getLogger(__name__)


class CaptureMonitor:
    """Knows what one process has said, and when.

    Args:
        config: Of the camera.
        live: Whether it must give frames without being asked.
        inbox: Takes what it gives.
        tally: Takes its state.
        pictures: What is known of a folder's pictures; kept up to date.
    """

    def __init__(
        self,
        config: CameraConfig,
        live: bool,
        inbox: FrameQueue,
        tally: CaptureStats,
        pictures: Pictures,
    ) -> None:
        self.frames = 0
        """How many it gave, those among them that can't be read."""
        self.ended = False
        """Whether the source has given all it had."""
        self._config, self._live = config, live
        self._inbox, self._tally, self._pictures = inbox, tally, pictures
        self._slots: FrameSlots | None = None
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
                self._slots = FrameSlots(
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


_JOIN_S = 2.0
_SLACK_S = 1.0


class CaptureProcess:
    """Gives the frames of a camera, which may be absent, hang or crash.

    Args:
        name: Of the camera, for the log.
        config: Of the camera.
        pictures: What is known of its pictures; None where it is new.
    """

    def __init__(self, name: str, config: CameraConfig, pictures: Pictures | None = None) -> None:
        self.name = name
        self._config = locate(config)
        self._live = is_live(self._config)
        self._inbox = FrameQueue(self._live)
        self._tally = CaptureStats(describe(self._config))
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._skip = 0
        self._pictures = pictures or Pictures()
        self._shown: Shown | None = None
        self._told: set[type[Exception]] = set()

    @property
    def live(self) -> bool:
        """Whether only the newest frame counts; else every frame comes, in order."""
        return self._live

    @property
    def status(self) -> CameraStatus:
        """Of this moment."""
        return self._tally.status

    def start(self) -> None:
        """Starts it and returns at once; a camera that is absent is tried for ever."""
        self._stopping.clear()
        self._tally.starting()
        self._thread = threading.Thread(target=self._run, name=f"capture-{self.name}", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = _JOIN_S) -> None:
        """Ends the process; may be called in any state, and again."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout_s)
        self._tally.over(CameraState.STOPPED)

    @property
    def alive(self) -> bool:
        """Whether the thread that looks after the process runs, or has come to the end."""
        ended = self.status.state in (CameraState.ENDED, CameraState.STOPPED)
        return ended or (self._thread is not None and self._thread.is_alive())

    def wait(self, timeout_s: float) -> bool:
        """Waits until something can be taken: a frame, a picture's read error, or the end."""
        return self._inbox.wait(timeout_s)

    def take(self) -> Frame | None:
        """Returns the newest frame not taken yet (live), or the next one; None if there is none.

        Raises:
            ImageReadError: The next picture can't be read; there may be more behind it.
        """
        return self._inbox.take()

    def settle(self, key: str) -> None:
        """Says that a picture's verdict is on disk, so that it may be moved or deleted."""
        self._pictures.settle(key)

    def _run(self) -> None:
        backoff = Backoff()
        while not self._stopping.wait(backoff.next_s()):
            watch = CaptureMonitor(
                self._config, self._live, self._inbox, self._tally, self._pictures
            )
            try:
                self._attend(watch)
            except Exception as error:  # whatever it is, nobody else would try the camera again
                watch.give_up_picture(self._failed(error))
            if watch.ended:
                return
            self._shown = watch.shown() or self._shown
            self._skip += watch.frames
            if watch.frames:
                backoff.reset()

    def _attend(self, watch: CaptureMonitor) -> None:
        """Runs a capture process until it has ended or must be."""
        child = self._spawn()
        try:
            self._tally.process(child.pid)
            while not self._stopping.is_set() and watch.listen(child):
                pass
        finally:
            self._end(child)
            self._inbox.close(child.channel)
            self._tally.process(None)

    def _end(self, child: Child) -> None:
        """Ends a capture process: at once, but for a pipeline, whose sensor must be given back."""
        if self._config.kind == "gstreamer":
            child.end(END_S + _SLACK_S)
        else:
            child.kill()

    def _failed(self, error: Exception) -> str:
        text = sentence(
            "capture_failed", camera=self.name, error=f"{type(error).__name__}: {error}"
        )
        if type(error) not in self._told:
            log.error("%s; trying again", text, exc_info=error)
        self._told.add(type(error))
        self._tally.absent(CameraState.LOST, text)
        return text

    def _spawn(self) -> Child:
        seen, last = self._pictures.written(), self._shown
        shown = last.written() if last is not None else None
        passed = tuple(one for one in (seen, shown) if one is not None)
        try:
            child = Child(
                f"{__package__}.child",
                title=sentence("capture_process", camera=self.name),
                pass_fds=passed,
                environment={"OPENCV_LOG_LEVEL": "ERROR"},  # FFmpeg's own lines say more
                redact=lambda text: hidden(text, self._config),
            )
        finally:
            for descriptor in passed:
                os.close(descriptor)
        source = Source(
            config=self._config,
            live=self._live,
            skip=self._skip,
            seen=seen,
            shown=last.told(shown) if last is not None and shown is not None else None,
        )
        with contextlib.suppress(OSError):  # it has ended already, which is told next
            child.send(source)
        return child
