"""A camera in a process of its own: started, watched by its stamps, and killed when it stalls."""

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
from typing import Any

from pydantic import ValidationError

from ..cameras.gstreamer import END_S
from ..cameras.sources import describe, hidden, is_live, locate
from ..cameras.stream import open_limit_s
from ..config.models import CameraConfig
from ..processes import PACKET, Child
from ..records import Image, Origin
from ..sentences import sentence
from ..service import STOP_S, Backoff, Service
from .messages import (
    MESSAGE,
    MOST_TEXT,
    CameraState,
    CameraStatus,
    Captured,
    Ended,
    FrameQueue,
    FrameSlots,
    Gone,
    LastFrame,
    Later,
    Lost,
    Memory,
    Message,
    Opened,
    Received,
    Source,
    Trying,
    Unreadable,
    create_memory,
)
from .pictures import Pictures

_SLACK_S = 1.0

log = logging.getLogger(__name__)


class CaptureProcess(Service):
    """Gives the frames of a camera, which may be absent, hang or crash.

    Args:
        name: The camera's name, for the log.
        config: The camera's configuration, as the station's file has it.
        pictures: The pictures of the camera that were read already; none by default.

    Example:
        >>> capture = CaptureProcess("top", CameraConfig(source="rtsp://10.0.0.7/live"))
        >>> capture.start()
        >>> frame = capture.take() if capture.wait(1.0) else None
    """

    def __init__(self, name: str, config: CameraConfig, pictures: Pictures | None = None) -> None:
        super().__init__(f"capture-{name}")
        self.name = name
        self._config = locate(config)
        self.live = is_live(self._config)
        """Whether only the newest frame counts; otherwise every frame comes, in order."""
        self._queue = FrameQueue(self.live)
        self._stats = CaptureStats(describe(self._config))
        self._pictures = pictures or Pictures()
        self.wait, self.take = self._queue.wait, self._queue.take
        self.settle = self._pictures.settle
        self._last: tuple[Image, int] | None = None

    @property
    def status(self) -> CameraStatus:
        """The state of the camera at this moment."""
        return self._stats.status

    @property
    def alive(self) -> bool:
        """Whether the thread that looks after the process runs, or has come to its end."""
        ended = self.status.state in (CameraState.ENDED, CameraState.STOPPED)
        return ended or super().alive

    def start(self) -> None:
        """Starts the process and returns at once; a camera that is absent is retried for ever."""
        self._stats.update(state=CameraState.STARTING, reason=None)
        super().start()

    def stop(self, timeout_s: float = STOP_S) -> None:
        """Ends the process; may be called in any state, and again."""
        super().stop(timeout_s)
        self._stats.update(state=CameraState.STOPPED, reason=None, pid=None)

    def _run(self) -> None:
        backoff = Backoff()
        while not self._stopping.wait(backoff.next_s()):
            monitor = CaptureMonitor(
                self._config, self.live, self._queue, self._stats, self._pictures
            )
            try:
                self._run_process(monitor)
            except Exception as error:  # whatever it is, nobody else would try the camera again
                monitor.give_up_picture(self._report(error))
            if monitor.ended:
                return
            self._last = monitor.last_frame() or self._last
            if monitor.gave_frames:
                backoff.reset()

    def _run_process(self, monitor: CaptureMonitor) -> None:
        """Runs a capture process until it has ended or must be ended."""
        child = self._spawn()
        try:
            self._stats.update(pid=child.pid)
            while not self._stopping.is_set() and monitor.listen(child):
                pass
        finally:
            if self._config.kind == "gstreamer":  # its sensor must be given back
                child.end(END_S + _SLACK_S)
            else:
                child.kill()
            self._queue.close(child.channel)
            self._stats.update(pid=None)

    def _report(self, error: Exception) -> str:
        """Logs an unexpected error and returns its text."""
        cause = f"{type(error).__name__}: {error}"
        text = sentence("capture_failed", camera=self.name, error=cause)
        self._log_once(f"{text}; trying again", error)
        self._stats.absent(CameraState.LOST, text)
        return text

    def _spawn(self) -> Child:
        seen = self._pictures.write()
        last = _share(*self._last) if self._last else None
        passed = [one for one in (seen, last.descriptor if last else None) if one is not None]
        try:
            child = Child(
                f"{__package__}.child",
                title=sentence("capture_process", camera=self.name),
                pass_fds=tuple(passed),
                environment={"OPENCV_LOG_LEVEL": "ERROR"},  # FFmpeg's own lines say more
                redact=lambda text: hidden(text, self._config),
            )
        finally:
            for descriptor in passed:
                os.close(descriptor)
        source = Source(config=self._config, live=self.live, seen=seen, last=last)
        with contextlib.suppress(OSError):  # it has ended already, which is reported next
            child.send(source)
        return child


def _share(image: Image, since_ns: int) -> LastFrame:
    """Writes a frame to a file in memory for a new process."""
    descriptor = create_memory(image.nbytes)
    os.pwrite(descriptor, image.data, 0)
    dtype = "uint8" if image.itemsize == 1 else "uint16"
    return LastFrame(descriptor=descriptor, shape=image.shape, dtype=dtype, since_ns=since_ns)


_FPS_OVER_S = 5.0
_MOST_STAMPS = 500


class CaptureStats:
    """Status and counts of a camera: written by the monitor's thread, read by any.

    Args:
        source: The source, without passwords.
    """

    def __init__(self, source: str) -> None:
        self._lock = threading.Lock()
        self._stamps: deque[int] = deque(maxlen=_MOST_STAMPS)
        self._frames = 0
        self._newest: Captured | None = None
        # Without what `status` adds of the frames: it is asked for far less often than they come.
        self._status = CameraStatus(
            CameraState.STOPPED, None, 0, 0, None, None, None, None, (), None, source
        )

    @property
    def status(self) -> CameraStatus:
        """The state of the camera at this moment."""
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
        recent = [stamp for stamp in self._stamps if now - stamp < _FPS_OVER_S * 1e9]
        if len(recent) < 2 or recent[-1] <= recent[0]:
            return None
        return (len(recent) - 1) / ((recent[-1] - recent[0]) / 1e9)

    def update(self, **changes: Any) -> None:  # noqa: ANN401 - each field has a type of its own
        """Sets fields of the status."""
        with self._lock:
            self._status = replace(self._status, **changes)

    def live(self, newest: Captured | None = None) -> None:
        """Notes that the camera works, as its newest frame shows.

        A source that is not live, as a folder, works once it is open, with nothing to give yet.
        """
        with self._lock:
            status = self._status
            if status.state is not CameraState.LIVE or status.reason is not None:
                absent = status.state in (CameraState.STALLED, CameraState.LOST)
                reconnects = status.reconnects + (absent and self._frames > 0)
                self._status = replace(
                    status, state=CameraState.LIVE, reason=None, reconnects=reconnects
                )
            if newest is not None:
                self._frames += 1
                self._stamps.append(newest.captured_ns)
                self._newest = newest

    def absent(self, state: CameraState, reason: str) -> None:
        """Notes that no frames come; a camera that is LOST stays so until they do."""
        with self._lock:
            lost = self._status.state is CameraState.LOST
            changed = CameraState.LOST if lost else state
            self._status = replace(self._status, state=changed, reason=reason)


_POLL_MS = 100
_START_S = 15.0
"""For Python and OpenCV to be loaded on a busy device."""
_FIRST_FRAME_S = 10.0
_PICTURE_S = 30.0
_LATE_INTERVALS = 3
"""A frame is late after so many intervals between frames."""


class CaptureMonitor:
    """Listens to one capture process, and says when it has to be ended.

    Args:
        config: The camera's configuration, as `locate` returns it.
        live: Whether frames must come without being asked for.
        queue: Receives the frames, to be taken by the judge.
        stats: Receives the state of the camera, and counts.
        pictures: The pictures of a folder that were read; kept up to date.
    """

    def __init__(
        self,
        config: CameraConfig,
        live: bool,
        queue: FrameQueue,
        stats: CaptureStats,
        pictures: Pictures,
    ) -> None:
        self.gave_frames = False
        """Whether the process gave a frame, readable or not."""
        self.ended = False
        """Whether the source has given all it had."""
        self._config, self._live = config, live
        self._queue, self._stats, self._pictures = queue, stats, pictures
        self._slots: FrameSlots | None = None
        self._last: Captured | None = None
        self._trying: Trying | None = None
        self._reported = False
        self._opening = config.kind == "folder"  # a share may hang
        # A camera that was set to give few frames gives them late.
        self._stall_s = max(config.stall_s, _LATE_INTERVALS / config.fps if config.fps else 0.0)
        self._expect("camera_not_opening", _START_S + open_limit_s(config.stall_s))

    def _expect(self, missing: str, within_s: float, since_ns: int | None = None) -> None:
        """Sets the deadline of the next message, and the sentence that says what is missing."""
        self._missing, self._within_s = missing, within_s
        self._until_ns = (since_ns or time.monotonic_ns()) + int(within_s * 1e9)

    def listen(self, child: Child) -> bool:
        """Waits a moment for the next message.

        Returns:
            Whether the process goes on; False if it has ended or must be ended.
        """
        try:
            message, descriptors = _receive(child.channel)
        except (OSError, ValidationError, EOFError) as error:
            self._died(child, error)
            return False
        if message is not None:
            self._handle(message, descriptors, child)
        if not self._live:
            self._pictures.send_settled(child.channel)
        return not self.ended and not self._overdue()

    def _handle(self, message: Message, descriptors: list[int], child: Child) -> None:
        match message:
            case Captured():
                self._captured(message, child.channel)
            case Memory():
                (descriptor,) = descriptors
                try:
                    self._slots = FrameSlots(descriptor, message)
                finally:
                    os.close(descriptor)
            case Opened():
                self._opening = False
                self._stats.update(settings=message.settings)
                if not self._live:
                    self._stats.live()
                self._expect("camera_no_first_frame", max(_FIRST_FRAME_S, self._stall_s))
            case Lost():
                self._lost(hidden(message.text, self._config), child.said)
            case Ended():
                self.ended = True
                self._stats.update(state=CameraState.ENDED, reason=None, pid=None)
                self._queue.put(None)
            case _:
                self._handle_picture(message, child.channel)

    def _handle_picture(
        self, message: Trying | Unreadable | Later | Received | Gone, channel: socket.socket
    ) -> None:
        match message:
            case Trying():
                self._pictures.seen.add(message.key)
                self._trying = message
                self._expect("camera_decodes_long", _PICTURE_S)
            case Unreadable():
                self._given(message.origin)
                self._queue.put(message, channel)
            case Later():
                self._trying = None
                self._pictures.read_later(message.key)
            case Received():
                self._pictures.received()
            case Gone():
                self._pictures.forget(message.keys)

    def _captured(self, message: Captured, channel: socket.socket) -> None:
        if self._slots is None or self._slots.generation != message.generation:
            raise AssertionError("a frame came before its memory")
        self._reported = False
        self._last = message
        self._given(message.origin)
        self._stats.live(message)
        self._queue.put(message, channel, self._slots)
        # By its stamp: a message that lay there for long is no proof of a camera at work.
        self._expect("camera_no_new_frame", self._stall_s, message.captured_ns)

    def _given(self, origin: Origin | None) -> None:
        """Notes that the process gave a frame, readable or not."""
        self._trying = None
        self.gave_frames = True
        if origin is not None:
            self._pictures.given(origin.key)

    def last_frame(self) -> tuple[Image, int] | None:
        """Copies the last frame of a live camera, once its process has ended.

        The process may have begun to write the next frame there; then no later frame equals it.

        Returns:
            The image, and the stamp of the first frame with its pixels; None if there was none.
        """
        last, slots = self._last, self._slots
        if not self._live or last is None or slots is None or slots.generation != last.generation:
            return None
        since_ns = last.captured_ns - round(last.unchanged_s * 1e9)
        return slots.copy(last.slot, last.shape, last.dtype), since_ns

    def _lost(self, text: str, said: str | None) -> None:
        if said is not None and said not in text:
            text = sentence("source_said", what=text, text=said)
        if not self._reported:  # and not again with each try
            log.warning("%s", text)
        self._reported = True
        self._stats.absent(CameraState.LOST, text)
        self._expect("camera_not_opening", _START_S + open_limit_s(self._config.stall_s))

    def _overdue(self) -> bool:
        watched = self._live or self._trying is not None or self._opening
        if time.monotonic_ns() < self._until_ns or not watched:
            return False
        source = self._stats.status.source
        text = sentence(self._missing, source=source, waited_s=self._within_s)
        log.warning("%s; its process is ended", text)
        if self._trying:
            self.give_up_picture("decoding it takes too long")
        else:
            self._stats.absent(CameraState.STALLED, text)
        return True

    def _died(self, child: Child, error: Exception) -> None:
        death = child.death()
        if not isinstance(error, EOFError):
            death += f" ({type(error).__name__}: {error})"
        if self._trying:
            self.give_up_picture(f"reading it ended {death}")
        elif not self._reported:
            log.warning("%s", death)
            self._stats.absent(CameraState.LOST, death)

    def give_up_picture(self, cause: str) -> None:
        """Reports the picture that is being decoded, if there is one, as unreadable.

        The first time it is only read again: the process may have ended for another reason.
        """
        tried, self._trying = self._trying, None
        if tried is None:
            return
        if not self._pictures.crashed_reader(tried.key):
            log.warning("%s: %s; it is read once more", tried.name, cause)
            return
        origin = Origin(tried.name, tried.key)
        self._queue.put(
            Unreadable(
                generation=0, slot=0, name=tried.name, cause=cause[:MOST_TEXT], origin=origin
            )
        )


def _receive(channel: socket.socket) -> tuple[Message | None, list[int]]:
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    if not poll.poll(_POLL_MS):
        return None, []
    packet, descriptors, _flags, _address = socket.recv_fds(channel, PACKET, 1)
    if not packet:
        raise EOFError
    return MESSAGE.validate_json(packet), descriptors
