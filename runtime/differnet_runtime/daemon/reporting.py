"""What becomes of a verdict: evidence, outbox, the board, metrics, and perhaps an alarm."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

from ..config import DecisionConfig
from ..events import AlarmEvent, InspectionEvent
from ..evidence import Evidence
from ..metrics import Metrics
from ..outbox import Outbox
from ..records import Decision, Verdict
from ..smoothing import Smoother
from ..web.recent import RecentEvents
from .board import Board
from .judging import Judged

_EVIDENCE_EVERY_NS = 1_000_000_000
"""Of NO_DECISION pictures one a second and camera: a dark camera would fill the store by itself."""


class Reporter:
    """Passes every verdict on; nothing here waits for a disk or a network.

    Args:
        outbox: Takes the events.
        evidence: Keeps pictures.
        board: Shows the latest.
        recent: Keeps the latest verdicts in memory.
        metrics: Counts.
    """

    def __init__(
        self,
        outbox: Outbox,
        evidence: Evidence,
        board: Board,
        recent: RecentEvents,
        metrics: Metrics,
    ) -> None:
        self._outbox, self.evidence = outbox, evidence
        self._board, self._recent, self._metrics = board, recent, metrics
        self.decision = DecisionConfig()
        self._lock = threading.Lock()
        self._smoothers: dict[str, tuple[DecisionConfig, Smoother]] = {}
        self._kept_ns: dict[str, int] = {}

    def report(self, judged: Judged) -> InspectionEvent:
        """Takes a verdict; returns its event as it leaves the station."""
        event = judged.event
        if (kept := self._keep(judged)) is not None:
            event = event.model_copy(update={"evidence": kept})
        self._outbox.add(event)
        self._board.of(event.camera).put(replace(judged, event=event))
        self._recent.add(event)
        age_s = event.frame.age_ms / 1e3 if event.frame else 0.0
        if event.frame is not None:
            self._metrics.frame(event.camera, event.stages_ms, age_s)
        self._metrics.verdict(event.camera, event.verdict, event.code)
        self._alarm(event)
        return event

    def _keep(self, judged: Judged) -> str | None:
        event = judged.event
        verdict = Verdict(event.verdict)
        if judged.frame is None or not self.evidence.wants(event.verdict):
            return None
        if verdict is Verdict.NO_DECISION:
            now_ns = time.monotonic_ns()
            if now_ns - self._kept_ns.get(event.camera, -_EVIDENCE_EVERY_NS) < _EVIDENCE_EVERY_NS:
                return None
            self._kept_ns[event.camera] = now_ns
        return self.evidence.add(event, judged.frame.image, judged.heatmap, judged.metadata)

    def _alarm(self, event: InspectionEvent) -> None:
        if self.decision == DecisionConfig():
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
