"""Pictures of folders and videos: each is judged once, even if engine or station fail meanwhile."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial

from ..cameras.files import UnreadablePictureError
from ..capture.pictures import Pictures
from ..capture.process import CaptureProcess
from ..config import CameraConfig
from ..events import picture_id
from ..inference.switch import ModelSwitch
from ..outbox.outbox import PictureLog
from ..records import Frame, Origin, Verdict
from ..sentences import sentence
from .judging import NO_MODEL, FrameJudge, JudgedFrame, frame_ref

_MOST_TRIES = 3
"""Number of engine failures after which a picture is not tried again."""
_NOT_THE_PICTURES = ("engine_starting", "engine_no_model", "engine_busy", "stopped", NO_MODEL)
"""Codes of faults before the engine saw the picture, or when it was told to stop."""

log = logging.getLogger(__name__)


def remembered(pictures: PictureLog, config: CameraConfig) -> Pictures:
    """Returns what a new capture process must know about a source's pictures."""
    under_way = pictures.under_way()  # asked for first: they may be committed just now
    judged = pictures.judged()
    if judged:
        log.info("%s: %d pictures were judged before", pictures.source, len(judged))
    leaving = [
        key for key, verdict in judged.items() if key not in under_way and _leaves(config, verdict)
    ]
    return Pictures(under_way.union(judged), leaving, pictures.forget)


def _leaves(config: CameraConfig, verdict: str) -> bool:
    """Whether a judged picture must be moved or deleted; without a decision it is not deleted."""
    return config.after == "move" or (config.after == "delete" and verdict != Verdict.NO_DECISION)


class PictureQueue:
    """Judges the pictures of a source that is not live; used by its camera's thread only.

    A picture waits until the engine is ready, and is judged again if the engine failed.

    Args:
        config: Configuration of the camera.
        capture: Capture process that reads the pictures.
        judge: Judges the pictures of this camera.
        switch: Holds the engine that judges now.
        pictures: Remembers which pictures were judged.
        station: Name of the station.
        camera: Name of the camera.
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
        """Whether a picture was taken that has no verdict yet."""
        return self._frame is not None

    def next(self) -> JudgedFrame | None:
        """Judges the next picture.

        Returns:
            The verdict; None if there is nothing to judge now, or the picture is tried again.
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
        if code.startswith("engine_") or code == "not_finite":
            if not self._fails(judged.event.reason or code):
                return None
            reason = sentence("picture_unscorable", tries=_MOST_TRIES, why=judged.event.reason)
            update = {"code": "unscorable", "reason": reason}
            judged = replace(judged, event=judged.event.model_copy(update=update))
        return judged if self._origin is None else self._identified(judged, self._origin)

    def _shown(self) -> JudgedFrame | None:
        """Returns the next picture, only to show it; the first model will judge all of them."""
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
            ref = frame_ref(self._frame, self._frame.captured_ns) if self._frame else None
            return self._judge.undecided("exception", why, frame=ref)

    def done(self) -> None:
        """Forgets the picture, whose verdict was passed on."""
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
        """Counts a failed try; returns whether it was the last one."""
        name = self._origin.name if self._origin else "a picture"
        self._tries += 1
        if self._tries < _MOST_TRIES:
            log.warning("%s has no verdict and is tried again: %s", name, why)
            return False
        log.error("%s has no verdict after %d tries: %s", name, self._tries, why)
        return True

    def _identified(self, judged: JudgedFrame, origin: Origin) -> JudgedFrame:
        """Gives the event the id that this picture always has, and the record to commit with it."""
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
