"""From a camera's frame to its verdict: taken at the last moment, checked, scored, decided."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..config import CameraConfig
from ..errors import EngineFault, ImageReadError
from ..events import FrameRef, InspectionEvent, ModelRef, Trigger
from ..inference.process import EngineProcess, ModelSwitch
from ..inspection.image_checks import IntegrityGate
from ..inspection.verdict import Answer, engine_code, inspect_frame, unreadable
from ..labels import Thresholds
from ..model_file.metadata import ModelMetadata
from ..outbox.table import JudgedPicture
from ..records import Decision, Frame, Inspection, Score, Verdict, decided_by, note
from ..sentences import sentence

Take = Callable[[], Frame | None]

NO_MODEL = "no_model"
"""Code of a NO_DECISION without a model."""


@dataclass(frozen=True)
class TriggerCommand:
    """A request for a verdict on the part in front of the camera now.

    Args:
        part: Id of the part, which the verdict will carry; None if it has none.
        trigger: How the request came.
        asked_ns: `time.monotonic_ns()` of the request; frames captured earlier are skipped.
        answer: Future that gets the verdict.
    """

    part: str | None
    trigger: Trigger
    asked_ns: int = field(default_factory=time.monotonic_ns)
    answer: Future[InspectionEvent] = field(default_factory=Future)


@dataclass(frozen=True)
class JudgedFrame:
    """A verdict, with the frame and everything else that it was based on.

    Args:
        event: The event that leaves the station.
        frame: The frame; None if there was none.
        heatmap: `(rows, columns) float32`; None if the model has none, or did not see the frame.
        metadata: Metadata of the model that judged; None if none did.
        picture: Record of the picture to commit with the event; None for a live source.
    """

    event: InspectionEvent
    frame: Frame | None = None
    heatmap: NDArray[np.float32] | None = None
    metadata: ModelMetadata | None = None
    picture: JudgedPicture | None = None

    def inspection(self) -> Inspection:
        """Returns the verdict in the form that pictures are drawn from."""
        event, frame, score = self.event, self.event.frame, None
        if event.score is not None:
            score = Score(
                event.score,
                event.threshold,
                event.good_percentile,
                heatmap=self.heatmap,
                heads=event.heads or {},
            )
        return Inspection(
            name=frame.name if frame else "",
            index=frame.index if frame else 0,
            captured_at_s=frame.captured_at_s if frame else event.at_s,
            decision=Decision(Verdict(event.verdict), event.reason, event.code),
            score=score,
            stages_ms=event.stages_ms,
        )


class FrameJudge:
    """Judges the frames of one camera; used by its thread only.

    Args:
        station: Name of the station, for the events.
        camera: Name of the camera.
        config: Configuration of the camera.
        switch: Holds the engine that judges now.
        thresholds: Thresholds that were set on the station; None if the model's own decide.
        live: Whether the source is live, so that a frame that comes late is worthless.

    Example:
        >>> judge = FrameJudge("line 3", "left", config, switch, live=True)  # doctest: +SKIP
        >>> judged = judge.judge(capture.take)  # doctest: +SKIP
    """

    def __init__(
        self,
        station: str,
        camera: str,
        config: CameraConfig,
        switch: ModelSwitch,
        thresholds: Thresholds | None = None,
        *,
        live: bool,
    ) -> None:
        self._station, self._camera, self._config = station, camera, config
        self.switch, self._live, self._thresholds = switch, live, thresholds
        self._deadline_ns = config.deadline_ms * 1_000_000
        self._gate: IntegrityGate | None = None
        self._gate_of = ""

    def judge(self, take: Take, command: TriggerCommand | None = None) -> JudgedFrame | None:
        """Waits for the engine, takes a frame and judges it.

        Args:
            take: Returns the newest frame of a live source, the next one of others, or None.
            command: The command that asked for it; None if the camera runs free.

        Returns:
            The verdict, or None if `take` returned no frame.
        """
        with self.switch.lease() as engine:
            if engine.absent:
                return self._unjudged(take, engine, command)
            try:
                with engine.turn(self._turn_s(command)):
                    frame = take()
                    return None if frame is None else self._judged(frame, engine, command)
            except ImageReadError as error:
                now_s = time.time()
                ref = FrameRef(
                    name=error.name, index=0, captured_at_s=now_s, age_ms=0.0, width=0, height=0
                )
                return JudgedFrame(self._event(unreadable(error), command, frame=ref))
            except EngineFault as fault:  # the turn did not come
                if not self._live:
                    return None  # the frame can wait
                return self.undecided(engine_code(fault), fault.text, command)

    def _unjudged(
        self, take: Take, engine: EngineProcess, command: TriggerCommand | None
    ) -> JudgedFrame | None:
        """Returns a frame that is only shown, because there is no model to judge it."""
        try:
            frame = take()
        except ImageReadError:
            return None
        if frame is None:
            return None
        ref = frame_ref(frame, time.monotonic_ns())
        unjudged = self.undecided(NO_MODEL, engine.status.last_fault or "", command, ref)
        return replace(unjudged, frame=frame)

    def _turn_s(self, command: TriggerCommand | None) -> float:
        if command is None:
            return self._deadline_ns / 1e9
        left_ns = command.asked_ns + self._deadline_ns - time.monotonic_ns()
        return max(0.0, left_ns / 1e9)

    def undecided(
        self,
        code: str,
        reason: str,
        command: TriggerCommand | None = None,
        frame: FrameRef | None = None,
    ) -> JudgedFrame:
        """Returns a NO_DECISION without judging a frame, with a code and a reason for people."""
        decision = Decision(Verdict.NO_DECISION, reason, code)
        return JudgedFrame(self._event(decision, command, frame=frame))

    def _judged(
        self, frame: Frame, engine: EngineProcess, command: TriggerCommand | None
    ) -> JudgedFrame:
        until_ns: int | None = None  # a picture in a file can wait
        if self._live:
            until_ns = (command.asked_ns if command else frame.captured_ns) + self._deadline_ns
        found = inspect_frame(
            frame,
            engine,
            self._gate_for(engine),
            threshold=self._threshold(engine),
            until_ns=until_ns,
        )
        decision, answer = found.decision, found.answer
        now_ns = time.monotonic_ns()
        if (
            until_ns is not None
            and now_ns > until_ns
            and decision.verdict is not Verdict.NO_DECISION
        ):
            late_ms = (now_ns - until_ns) / 1e6
            decision = Decision(
                Verdict.NO_DECISION,
                sentence("verdict_late", late_ms=late_ms, deadline_ms=self._config.deadline_ms),
                "deadline",
            )
        event = self._event(
            decision,
            command,
            frame=frame_ref(frame, now_ns),
            answer=answer,
            engine=engine,
            stages_ms=found.stages_ms,
        )
        return JudgedFrame(event, frame, answer.score.heatmap if answer else None, engine.metadata)

    def _threshold(self, engine: EngineProcess) -> float | None:
        """Returns the threshold that replaces the model's own; None to use the model's.

        Raises:
            EngineFault: The engine was never meant for this camera; it runs until the camera's own
                model is ready.
        """
        if self._thresholds is None:
            return None
        camera, own = self._camera, engine.thresholds
        if camera not in own:
            raise EngineFault("starting", sentence("engine_of_others", camera=camera))
        return self._thresholds.set_here.get((camera, engine.model_hash, own[camera]), own[camera])

    def _gate_for(self, engine: EngineProcess) -> IntegrityGate:
        if self._gate is None or self._gate_of != engine.model_hash:
            self._gate = IntegrityGate(
                self._config.integrity,
                engine.metadata,
                live=self._live,
                # A picture in a file does not go stale while it waits for its turn.
                stale_after_s=self._config.deadline_ms / 1e3 if self._live else math.inf,
                one_size=True,
            )
            self._gate_of = engine.model_hash
        return self._gate

    def _event(
        self,
        decision: Decision,
        command: TriggerCommand | None,
        *,
        frame: FrameRef | None = None,
        answer: Answer | None = None,
        engine: EngineProcess | None = None,
        stages_ms: dict[str, float] | None = None,
    ) -> InspectionEvent:
        score = answer.score if answer else None
        head = score.head if score else None
        verdict = decision.verdict.value
        heatmap = score is not None and score.heatmap is not None
        return InspectionEvent(
            station=self._station,
            camera=self._camera,
            part=command.part if command else None,
            trigger=command.trigger if command else "free",
            verdict=verdict,
            reject=decision.verdict is not Verdict.GOOD,
            code=decision.code,
            reason=decision.reason,
            score=score.value if score and score.finite else None,
            threshold=score.threshold if score else None,
            good_percentile=score.good_percentile if score else None,
            head=head,
            heads=score.heads if score and head else None,
            decided_by=decided_by(head, verdict),
            note=note(head, verdict, heatmap=heatmap),
            model=_model_ref(engine.metadata.name, answer.model_hash)
            if answer and engine
            else None,
            backend=answer.backend if answer else None,
            frame=frame,
            stages_ms={name: round(ms, 3) for name, ms in (stages_ms or {}).items()},
        )


@lru_cache(maxsize=16)
def _model_ref(name: str, hash_: str) -> ModelRef:
    return ModelRef(name=name, hash=hash_)


def frame_ref(frame: Frame, now_ns: int) -> FrameRef:
    """Returns what an event says of its frame; `now_ns` is the monotonic time of the verdict."""
    height, width = frame.image.shape[:2]
    return FrameRef(
        name=frame.name,
        index=frame.index,
        captured_at_s=frame.captured_at_s,
        age_ms=round((now_ns - frame.captured_ns) / 1e6, 3),
        width=width,
        height=height,
    )
