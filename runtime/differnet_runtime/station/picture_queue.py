"""Pictures that can wait: each is judged once, whatever becomes of engine and station meanwhile."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial

from ..cameras.files import UnreadablePictureError
from ..capture.pictures import Pictures
from ..capture.process import CaptureProcess
from ..config import CameraConfig
from ..events import FrameRef, InspectionEvent, picture_id
from ..inference.switch import ModelSwitch
from ..outbox.outbox import PictureLog
from ..records import Frame, Origin, Verdict
from ..sentences import sentence
from .judging import NO_MODEL, FrameJudge, JudgedFrame

_MOST_TRIES = 3
"""A picture for which the engine fails so often is not tried again."""
_ENGINE, _NOT_FINITE, _UNSCORABLE = "engine_", "not_finite", "unscorable"
_NOT_THE_PICTURES = (
    *(_ENGINE + code for code in ("starting", "no_model", "busy")),
    "stopped",
    NO_MODEL,
)
"""Codes of faults that came before the engine saw the picture, or when it was told to stop."""

log = logging.getLogger(__name__)


def remembered(pictures: PictureLog, config: CameraConfig) -> Pictures:
    """Returns what a new capture process is to know of a source's pictures."""
    under_way = pictures.under_way()  # asked for first: they may be committed just now
    judged = pictures.judged()
    if judged:
        log.info("%s: %d pictures were judged before", pictures.source, len(judged))
    leaving = [
        key for key, verdict in judged.items() if key not in under_way and _leaves(config, verdict)
    ]
    return Pictures(under_way.union(judged), leaving, pictures.forget)


def _leaves(config: CameraConfig, verdict: str) -> bool:
    """Whether a judged picture is to be moved or deleted; one without a decision is not deleted."""
    if config.after == "delete":
        return verdict != Verdict.NO_DECISION
    return config.after == "move"


class PictureQueue:
    """Judges the pictures of a source that is not live; used by its camera's thread alone.

    A picture waits until the engine is ready, and is judged again when the engine failed.

    Args:
        config: Of the camera.
        capture: Gives the pictures.
        judge: Judges them.
        switch: Holds the engine.
        pictures: Remembers them.
        station: Name.
        camera: Name.
    """

    def __init__(
        self,
        config: CameraConfig,
        capture: CaptureProcess,
        judge: FrameJudge,
        switch: ModelSwitch,
        pictures: PictureLog,
        *,
        station: str,
        camera: str,
    ) -> None:
        self._config, self._capture, self._judge, self._switch = config, capture, judge, switch
        self._pictures, self._station, self._camera = pictures, station, camera
        self._frame: Frame | None = None
        self._origin: Origin | None = None
        self._tries = 0

    @property
    def waits(self) -> bool:
        """Whether a picture was taken and has no verdict yet."""
        return self._frame is not None

    def next(self) -> JudgedFrame | None:
        """Judges the next picture.

        Returns:
            The verdict; None where there is nothing to judge, or it is to be tried again.
        """
        if self._switch.engine.absent:
            return self._shown()
        if not self._switch.engine.ready or not self._pictures.has_room:
            return None
        judged = self._judged()
        if judged is None:
            return None
        code = judged.event.code or ""
        if code in _NOT_THE_PICTURES:
            return None
        if code.startswith(_ENGINE) or code == _NOT_FINITE:
            if not self._fails(judged.event.reason or code):
                return None
            judged = replace(judged, event=_unscorable(judged.event))
        return judged if self._origin is None else self._identified(judged, self._origin)

    def _shown(self) -> JudgedFrame | None:
        """Returns the next picture to be shown only; the first model gets all of them again."""
        judged = self._judge.judge(self._capture.take)
        return judged if judged is not None and judged.event.code == NO_MODEL else None

    def _judged(self) -> JudgedFrame | None:
        try:
            return self._judge.judge(self._take)
        except Exception as error:  # one picture must not hold up all others
            why = f"an unexpected error, a bug: {type(error).__name__}: {error}"
            log.exception("camera %s", self._camera)
            if not self._fails(why):
                return None
            return self._judge.undecided("exception", why, frame=self._frame_ref())

    def done(self) -> None:
        """Lets go of the picture, whose verdict was passed on."""
        self._frame, self._origin, self._tries = None, None, 0

    def _take(self) -> Frame | None:
        if self._frame is None:
            try:
                self._frame = self._capture.take()
            except UnreadablePictureError as error:
                self._origin = error.origin
                raise
            if self._frame is not None:
                self._origin = self._frame.origin
        return self._frame

    def _fails(self, why: str) -> bool:
        """Counts a failed try; returns whether it was the last."""
        name = self._origin.name if self._origin else "a picture"
        self._tries += 1
        if self._tries < _MOST_TRIES:
            log.warning("%s has no verdict and is tried again: %s", name, why)
            return False
        log.error("%s has no verdict after %d tries: %s", name, self._tries, why)
        return True

    def _frame_ref(self) -> FrameRef | None:
        frame = self._frame
        if frame is None:
            return None
        height, width = frame.image.shape[:2]
        return FrameRef(
            name=frame.name,
            index=frame.index,
            captured_at_s=frame.captured_at_s,
            age_ms=0.0,
            width=width,
            height=height,
        )

    def _identified(self, judged: JudgedFrame, origin: Origin) -> JudgedFrame:
        """Gives the event the id that this picture always has, and has it remembered."""
        event = judged.event.model_copy(
            update={
                "id": picture_id(self._station, self._camera, self._pictures.source, origin),
                "identical_to": self._pictures.identical(origin),
            }
        )
        settle = partial(self._settle, origin.key, event.verdict)
        picture = self._pictures.entry(origin, event.verdict, settle)
        return replace(judged, event=event, picture=picture)

    def _settle(self, key: str, verdict: str) -> None:
        if _leaves(self._config, verdict):
            self._capture.settle(key)


def _unscorable(event: InspectionEvent) -> InspectionEvent:
    reason = sentence("picture_unscorable", tries=_MOST_TRIES, why=event.reason)
    return event.model_copy(update={"code": _UNSCORABLE, "reason": reason})
