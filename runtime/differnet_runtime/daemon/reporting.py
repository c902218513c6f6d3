"""What becomes of a verdict: evidence, outbox, the board, metrics, and perhaps an alarm."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

from ..config import DecisionConfig
from ..events import AlarmEvent, InspectionEvent
from ..evidence import Evidence
from ..metrics import Metrics
from ..outbox import Outbox
from ..records import Decision, Verdict
from ..smoothing import Smoother
from ..web.recent import RecentEvents
from .alarms import Alarms
from .board import Board
from .judging import NO_MODEL, Judged
from .parts import Parts, Place

_AT_MOST_EVERY_NS, _REPEAT_NS = 1_000_000_000, 60_000_000_000
"""Of NO_DECISION pictures at most one a second and camera, and for one and the same reason one a
minute: a dark camera would fill the store by itself."""

_ONE_OF_ONE = DecisionConfig()


class Reporter:
    """Passes every verdict on; nothing here waits for a disk or a network.

    Args:
        outbox: Takes the events.
        evidence: Keeps pictures.
        board: Shows the latest.
        recent: Keeps the latest verdicts in memory.
        metrics: Counts.
        same_part_s: Returns a camera's setting; without it each frame is a part.
    """

    def __init__(
        self,
        outbox: Outbox,
        evidence: Evidence,
        board: Board,
        recent: RecentEvents,
        metrics: Metrics,
        same_part_s: Callable[[str], float] = lambda _: 0.0,
    ) -> None:
        self._outbox, self.evidence = outbox, evidence
        self._board, self._recent, self._metrics = board, recent, metrics
        self._parts, self.alarms = Parts(same_part_s), Alarms()
        self.decision = DecisionConfig()
        self._lock = threading.Lock()
        self._smoothers: dict[str, tuple[DecisionConfig, Smoother]] = {}
        self._unjudged: set[str] = set()
        self._kept: dict[str, tuple[str | None, int]] = {}

    def report(self, judged: Judged) -> InspectionEvent:
        """Takes a verdict; returns its event as it leaves the station.

        Where a camera that runs free has no model, that is said once, as for a lost camera; its
        frames are only shown.
        """
        if judged.event.code == NO_MODEL and judged.event.trigger == "free":
            self._board.of(judged.event.camera).show(judged)
            if judged.event.camera in self._unjudged:
                return judged.event
            self._unjudged.add(judged.event.camera)
            judged = Judged(judged.event.model_copy(update={"frame": None}))  # it is of no part
        else:
            self._unjudged.discard(judged.event.camera)
        place = self._parts.place(judged)
        event = place.event
        if (kept := self._keep(judged, place)) is not None:
            event = event.model_copy(update={"evidence": kept})
        self._outbox.add(event, judged.picture, place.count)
        self._board.of(event.camera).put(replace(judged, event=event))
        self._recent.add(event)
        age_s = event.frame.age_ms / 1e3 if event.frame else 0.0
        if event.frame is not None:
            self._metrics.frame(event.camera, event.stages_ms, age_s)
        self._metrics.verdict(event.camera, event.verdict, event.code)
        self.alarms.see(event, self.decision)
        self._alarm(event)
        return event

    def _keep(self, judged: Judged, place: Place) -> str | None:
        """Keeps the picture; of a rejected part only its worst frame's."""
        event, part = place.event, place.part
        verdict = Verdict(event.verdict)
        if judged.frame is None or not self.evidence.wants(event.verdict):
            return None
        before = part.kept if part is not None and verdict is not Verdict.GOOD else None
        notes = self.evidence.notes
        if before is not None and (not place.worst or notes.labelled_here(before)):
            notes.count(before, event.part_frame)
            return None
        if verdict is Verdict.NO_DECISION and not self._is_due(event.camera, event.code):
            return None
        kept = self.evidence.add(
            event, judged.frame.image, judged.heatmap, judged.metadata, replaces=before
        )
        if part is not None and kept is not None:
            part.kept = kept
        return kept

    def _is_due(self, camera: str, code: str | None) -> bool:
        now_ns = time.monotonic_ns()
        last_code, last_ns = self._kept.get(camera, (None, -_REPEAT_NS))
        wait_ns = _REPEAT_NS if code == last_code else _AT_MOST_EVERY_NS
        if now_ns - last_ns < wait_ns:
            return False
        self._kept[camera] = (code, now_ns)
        return True

    def _alarm(self, event: InspectionEvent) -> None:
        if self.decision == _ONE_OF_ONE:
            return  # one of one: the verdict says it already
        with self._lock:
            config, smoother = self._smoothers.get(event.camera, (None, None))
            if smoother is None or config != self.decision:
                config = self.decision
                smoother = Smoother(config.k, config.n, config.cooldown_s)
                self._smoothers[event.camera] = (config, smoother)
            decision = Decision(Verdict(event.verdict), event.reason, event.code)
            alarm = smoother.add(decision, time.monotonic_ns())
        if alarm is not None:
            self._outbox.add(
                AlarmEvent(
                    station=event.station,
                    camera=event.camera,
                    rejects=alarm.rejects,
                    undecided=alarm.undecided,
                    frames=alarm.frames,
                )
            )
