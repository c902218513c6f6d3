"""Collecting: a thread adds the frames that the cameras' threads offer to the data sets."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from ..config import IntegrityConfig
from ..errors import DifferNetError
from ..inspection.image_checks import IntegrityGate
from ..records import Frame
from .dataset import Dataset

_WAITING = 8
"""Pictures of a folder that can wait; of a live camera only the newest frame waits."""
_ROOM_S = 0.2
"""How long a picture of a folder waits for a place in the queue, since it comes only once."""
_IDLE_S = 0.5

log = logging.getLogger(__name__)


class Stream:
    """The queue of frames from one camera to one data set.

    Args:
        dataset: The data set.
        integrity: The camera's integrity settings.
        live: Whether it is a live camera, not a folder or a video.
    """

    def __init__(self, dataset: Dataset, integrity: IntegrityConfig, *, live: bool) -> None:
        self.dataset = dataset
        self.gate = IntegrityGate(integrity, None, live=live)
        self.waiting: deque[Frame] = deque(maxlen=1 if live else _WAITING)
        self.served = 0
        self._live = live

    @property
    def full(self) -> bool:
        """Whether a picture of a folder would push out one that waits."""
        return not self._live and len(self.waiting) == _WAITING


class Collector(threading.Thread):
    """A thread that adds waiting frames to data sets.

    Args:
        look: Called repeatedly while no frame waits.
        ended: Called with a data set that can take no more frames, and the reason.
        leave: Called when the thread ends.
    """

    def __init__(
        self,
        look: Callable[[], None],
        ended: Callable[[Dataset, str], None],
        leave: Callable[[], None],
    ) -> None:
        super().__init__(name="teach", daemon=True)
        self._look, self._ended, self._leave = look, ended, leave
        self._streams: dict[str, Stream] = {}
        self._some = threading.Condition()
        self._stopping, self._logged = False, ""

    def stop(self, timeout_s: float) -> None:
        """Ends the thread; the frame at hand is still added if the disk is fast enough."""
        with self._some:
            self._stopping = True
            self._some.notify_all()
        if self.is_alive():
            self.join(timeout_s)

    def use(self, streams: dict[str, Stream]) -> None:
        """Replaces the streams, by camera; frames that wait for the same data set still do."""
        with self._some:
            for camera, stream in streams.items():
                before = self._streams.get(camera)
                if before is not None and before.dataset is stream.dataset:
                    stream.waiting.extend(before.waiting)
            self._streams = streams
            self._some.notify_all()

    def offer(self, camera: str, frame: Frame) -> None:
        """Takes a frame, whose pixels must not change afterwards; called by the camera's thread.

        Returns at once for a live camera, of which only the newest frame waits.
        """
        if camera not in self._streams:
            return
        with self._some:
            self._some.wait_for(lambda: not self._full(camera), _ROOM_S)
            stream = self._streams.get(camera)  # after the wait: it may have been replaced
            if stream is not None:
                stream.waiting.append(frame)
                self._some.notify_all()

    def _full(self, camera: str) -> bool:
        stream = self._streams.get(camera)
        return stream is not None and stream.full

    def run(self) -> None:
        """Adds frames until `stop`; called in the thread."""
        looked_s = time.monotonic()
        while not self._stopping:
            try:
                took = self._take_next()
                if not took or time.monotonic() - looked_s > _IDLE_S:
                    self._look()
                    looked_s, self._logged = time.monotonic(), ""
            except Exception as error:  # noqa: PERF203 - one picture must not end the others
                self._log_once(error)
        self._leave()

    def _log_once(self, error: Exception) -> None:
        """Logs an error unless it was the last one, too; waits a moment."""
        if str(error) != self._logged:
            expected = isinstance(error, DifferNetError)
            log.warning("teaching: %s", error, exc_info=None if expected else error)
        self._logged = str(error)
        time.sleep(_IDLE_S)

    def _take_next(self) -> bool:
        """Waits for a frame and gives it to its data set; False if none comes for a while."""
        with self._some:
            self._some.wait_for(self._busy, _IDLE_S)
            waiting = [one for one in self._streams.values() if one.waiting]
            if not waiting:
                return False
            stream = min(waiting, key=lambda one: one.served)
            stream.served = time.monotonic_ns()
            frame = stream.waiting.popleft()
            self._some.notify_all()
        outcome = stream.dataset.consider(frame, stream.gate)
        if outcome.over:
            self._ended(stream.dataset, outcome.why or "")
        return True

    def _busy(self) -> bool:
        return self._stopping or any(one.waiting for one in self._streams.values())
