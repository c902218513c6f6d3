"""A camera in a process of its own: started, watched by its stamps, killed when it stalls."""

from __future__ import annotations

import contextlib
import logging
import os
import threading

from ..cameras.pipe import END_S
from ..cameras.sources import describe, hidden, is_live, located
from ..config.models import CameraConfig
from ..processes import Child
from ..records import Frame
from ..sentences import sentence
from .backoff import Backoff
from .inbox import Inbox
from .messages import Source, Start
from .pictures import Pictures
from .records import CameraState, CameraStatus
from .shown import Shown
from .tally import Tally
from .watch import Watch

_JOIN_S = 2.0
_SLACK_S = 1.0

log = logging.getLogger(__name__)


class CaptureProcess:
    """Gives the frames of a camera, which may be absent, hang or crash.

    Args:
        name: Of the camera, for the log.
        config: Of the camera.
        pictures: What is known of its pictures; None where it is new.
    """

    def __init__(self, name: str, config: CameraConfig, pictures: Pictures | None = None) -> None:
        self.name = name
        self._config = located(config)
        self._live = is_live(self._config)
        self._inbox = Inbox(self._live)
        self._tally = Tally(describe(self._config))
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
            watch = Watch(self._config, self._live, self._inbox, self._tally, self._pictures)
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

    def _attend(self, watch: Watch) -> None:
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
                lambda channel: Start(channel=channel, parent=os.getpid()).model_dump_json(),
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
            child.channel.send(source.model_dump_json().encode())
        return child
