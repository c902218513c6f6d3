"""A trial (shadow): a second model scores a camera's frames, without any effect on verdicts."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Literal

import cv2

from ..config.integrity import IntegrityConfig
from ..errors import EngineFault, OutputError
from ..inference import EngineProcess, EngineState
from ..inspection import Inspected, inspect_frame
from ..integrity import IntegrityGate
from ..overlay import eight_bit_colour
from ..records import Frame, Verdict
from ..sentences import sentence
from ..web.live import encoded
from ..web.shadow_views import Difference, ShadowView, Side
from .judging import Judged

KEPT = 24
"""Pictures kept in memory, of the latest frames on which the two models differ."""
_START_S = 1800.0
_IDLE_S, _POLL_S = 0.2, 0.005
_OF_THE_FRAME = ("not_finite", "exception", "bad_shape")
"""Codes of faults that concern one frame only: the engine keeps running."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Waiting:
    """A frame with the live model's verdict on it."""

    frame: Frame
    live: Side
    live_hash: str
    at_s: float


class Shadow:
    """Runs a model on trial: owns its engine process, and the thread that gives it frames.

    Live frames come first: at most one frame waits here, and is scored only when no engine of the
    station is busy or wanted. The process has the lowest priority. The thread keeps its normal one:
    it shares Python's GIL with the threads that judge, and must not lose the CPU while it holds it.

    Args:
        camera: Name of the camera.
        engine: The model's engine, not yet started.
        integrity: The camera's settings; frames that they refuse count as rejected by this model.
        free: Returns whether no live frame needs an engine now.
        threshold: Returns the threshold to use; None for the model's own.
    """

    def __init__(
        self,
        camera: str,
        engine: EngineProcess,
        integrity: IntegrityConfig,
        *,
        free: Callable[[], bool],
        threshold: Callable[[], float | None] = lambda: None,
    ) -> None:
        self.camera, self.engine = camera, engine
        self._gate = IntegrityGate(integrity, engine.metadata)
        self._free, self._threshold = free, threshold
        self._state: Literal["starting", "running", "failed"] = "starting"
        self._error: str | None = None
        self._live_hash: str | None = None
        self._waiting: _Waiting | None = None
        self._changed, self._stopping = threading.Condition(), threading.Event()
        self._ids = itertools.count(1)
        self._begin()
        self._thread = threading.Thread(target=self._run, name=f"shadow-{camera}", daemon=True)

    def _begin(self) -> None:
        """Sets all counts to zero: those beside another live model no longer count."""
        self._since = _iso(time.time())
        self._skipped = self._agree = self._only_live = self._only_shadow = 0
        self._differing: deque[tuple[Difference, bytes]] = deque(maxlen=KEPT)

    @property
    def model(self) -> str:
        """Content hash of the model on trial."""
        return self.engine.model_hash

    @property
    def ended(self) -> bool:
        """Whether it has failed, or was stopped."""
        return self._state == "failed" or self._stopping.is_set()

    def start(self) -> None:
        """Starts its process and its thread."""
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        """Ends the process and the thread; the counts can still be read."""
        self._stopping.set()
        self.engine.stop(timeout_s)
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    def fail(self, why: str) -> None:
        """Ends the trial as failed.

        Args:
            why: The reason, for people.
        """
        with self._changed:
            if self.ended:
                return
            self._state, self._error, self._waiting = "failed", why, None
        log.warning("camera %s: the trial has ended: %s", self.camera, why)
        self.engine.stop()

    def offer(self, judged: Judged) -> None:
        """Takes a frame after its live verdict; returns at once, and keeps only the newest frame.

        Args:
            judged: The live model's verdict, with the frame. NO_DECISION is not compared.
        """
        event, frame = judged.event, judged.frame
        if frame is None or event.model is None or event.verdict == "NO_DECISION":
            return
        with self._changed:
            if self.ended:
                return
            if event.model.hash != self._live_hash:
                self._live_hash, self._waiting = event.model.hash, None
                self._begin()
            self._skipped += self._waiting is not None
            if self._state == "running":
                live = Side(verdict=event.verdict, score=event.score, threshold=event.threshold)
                self._waiting = _Waiting(frame, live, event.model.hash, event.at_s)
                self._changed.notify_all()

    def view(self) -> ShadowView:
        """Returns the state of the trial, its counts and the latest differences."""
        with self._changed:
            differing = [one for one, _ in reversed(self._differing)]
            return ShadowView(
                camera=self.camera,
                model=self.model,
                since=self._since,
                state=self._state,
                error=self._error,
                judged=self._agree + self._only_live + self._only_shadow,
                skipped=self._skipped,
                agree=self._agree,
                only_live_rejects=self._only_live,
                only_shadow_rejects=self._only_shadow,
                differing=differing,
            )

    def picture(self, number: str) -> bytes | None:
        """Returns the JPEG of a frame on which the models differ; None if it is no longer kept."""
        with self._changed:
            return next((data for one, data in self._differing if one.id == number), None)

    def _run(self) -> None:
        try:
            self.engine.start()
            if not self.engine.wait_ready(_START_S):
                self.fail(self._reason())
                return
            with self._changed:
                self._state = "running"
            while not self.ended:
                self._next()
        except Exception as error:  # a mistake of ours ends the trial, and nothing else
            log.exception("camera %s: the trial", self.camera)
            self.fail(sentence("bug", error=f"{type(error).__name__}: {error}"))

    def _next(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self.ended, timeout=_IDLE_S)
        if not self.engine.ready:
            if self.engine.status.state is EngineState.FAILED:
                self.fail(self._reason())
            self._stopping.wait(_POLL_S)
        elif self._waiting is not None and not self._free():
            self._stopping.wait(_POLL_S)
        elif (waiting := self._taken()) is not None:
            self._compare(waiting)

    def _taken(self) -> _Waiting | None:
        with self._changed:
            waiting, self._waiting = self._waiting, None
            return waiting

    def _compare(self, waiting: _Waiting) -> None:
        found = inspect_frame(waiting.frame, self.engine, self._gate, threshold=self._threshold())
        if isinstance(found.error, EngineFault) and found.error.code not in _OF_THE_FRAME:
            self.fail(str(found.error))
            return
        side = _side(found)
        live, shadow = (one.verdict != Verdict.GOOD for one in (waiting.live, side))
        picture = _picture(waiting.frame) if live != shadow else None
        with self._changed:
            if waiting.live_hash != self._live_hash:
                return  # another model has become the live one
            if live == shadow:
                self._agree += 1
                return
            self._only_live += live
            self._only_shadow += shadow
            if picture is not None:
                at, number = _iso(waiting.at_s), str(next(self._ids))
                told = Difference(id=number, time=at, live=waiting.live, shadow=side)
                self._differing.append((told, picture))

    def _reason(self) -> str:
        status = self.engine.status
        return status.last_fault or sentence(f"engine_is_{status.state.value}")


def _side(found: Inspected) -> Side:
    score = found.answer.score if found.answer else None
    return Side(
        verdict=found.decision.verdict.value,
        score=score.value if score and score.finite else None,
        threshold=score.threshold if score else None,
    )


def _picture(frame: Frame) -> bytes | None:
    try:
        return encoded(eight_bit_colour(frame.image), frame.name)
    except (OutputError, cv2.error):
        return None


def _iso(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, timezone.utc).isoformat(timespec="milliseconds")
