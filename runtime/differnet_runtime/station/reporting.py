"""What happens with a verdict: its part, evidence, outbox, the page's board, metrics and alarms."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from ..config import DecisionConfig
from ..events import AlarmEvent, InspectionEvent
from ..evidence.store import EvidenceStore
from ..outbox.outbox import Outbox
from ..outbox.table import Count
from ..records import Verdict
from ..web.live import LivePicture, RecentEvents
from .alarms import Alarms
from .judging import NO_MODEL, JudgedFrame
from .metrics import Metrics

_RATE_OVER = 64
"""Number of verdicts from which the rate is computed."""
_RATE_WITHIN_NS = 10_000_000_000
_COUNTED = {"GOOD": "good", "DEFECT": "defect", "NO_DECISION": "undecided"}
_AT_MOST_EVERY_NS, _REPEAT_NS = 1_000_000_000, 60_000_000_000
"""Least time between two kept NO_DECISION pictures of a camera: for different reasons, and for the
same one. A dark camera would fill the evidence store by itself."""


class Reporter:
    """Passes every verdict on; nothing here waits for a disk or a network.

    Args:
        outbox: Receives an event per verdict.
        evidence: Stores pictures of verdicts.
        board: Latest picture of each camera, for the page.
        recent: Latest verdicts in memory.
        metrics: Counts verdicts for Prometheus.
        same_part_s: Returns the `same_part_s` of a camera by its name; by default each frame is a
            part of its own.

    Example:
        >>> event = reporter.report(judge.judge(capture.take))  # doctest: +SKIP
    """

    def __init__(
        self,
        outbox: Outbox,
        evidence: EvidenceStore,
        board: CameraBoards,
        recent: RecentEvents,
        metrics: Metrics,
        same_part_s: Callable[[str], float] = lambda _: 0.0,
    ) -> None:
        self._outbox, self.evidence = outbox, evidence
        self._board, self._recent, self._metrics = board, recent, metrics
        self._parts, self.alarms = PartTracker(same_part_s), Alarms()
        self.decision = DecisionConfig()
        """When rejects become an alarm; may be replaced at any time."""
        self._unjudged: set[str] = set()
        self._kept: dict[str, tuple[str | None, int]] = {}

    def report(self, judged: JudgedFrame) -> InspectionEvent:
        """Reports a verdict.

        While a free-running camera has no model, its frames are only shown, and that is reported
        once, as for a lost camera.

        Returns:
            The event as it leaves the station.
        """
        event = judged.event
        if event.code == NO_MODEL and event.trigger == "free":
            self._board.of(event.camera).show(judged)
            if event.camera in self._unjudged:
                return event
            self._unjudged.add(event.camera)
            judged = JudgedFrame(event.model_copy(update={"frame": None}))  # it is on no part
        else:
            self._unjudged.discard(event.camera)
        place = self._parts.place(judged)
        event = place.event
        if (kept := self._keep(judged, place)) is not None:
            event = event.model_copy(update={"evidence": kept})
        self._outbox.add(event, judged.picture, place.count)
        self._board.of(event.camera).put(replace(judged, event=event))
        self._recent.add(event)
        if event.frame is not None:
            self._metrics.frame(event.camera, event.stages_ms, event.frame.age_ms / 1e3)
        self._metrics.verdict(event.camera, event.verdict, event.code)
        self.alarms.see(event, self.decision)
        if (alarm := self.alarms.smooth(event, self.decision)) is not None:
            self._outbox.add(
                AlarmEvent(station=event.station, camera=event.camera, **alarm._asdict())
            )
        return event

    def _keep(self, judged: JudgedFrame, place: PartPosition) -> str | None:
        """Stores the picture, of a rejected part only its worst frame; returns its id if stored."""
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


class CameraBoard:
    """The latest verdict and picture of one camera; written by its thread, read by any."""

    def __init__(self) -> None:
        self.picture = LivePicture()
        self.last: InspectionEvent | None = None
        self._lock = threading.Lock()
        self._verdicts: Counter[str] = Counter()
        self._at_ns: deque[int] = deque(maxlen=_RATE_OVER)

    def put(self, judged: JudgedFrame) -> None:
        """Shows a verdict and counts it."""
        self.show(judged)
        with self._lock:
            self._verdicts[judged.event.verdict] += 1
            self._at_ns.append(time.monotonic_ns())

    def show(self, judged: JudgedFrame) -> None:
        """Shows a frame without counting a verdict."""
        if judged.frame is not None:
            self.picture.put(judged.event, judged.frame, judged.inspection, judged.metadata)
        self.last = judged.event

    @property
    def verdicts(self) -> dict[str, int]:
        """Number of verdicts of each kind since the start."""
        with self._lock:
            return dict(self._verdicts)

    @property
    def fps(self) -> float | None:
        """Verdicts per second over the last ten seconds; None if there were fewer than two."""
        now_ns = time.monotonic_ns()
        with self._lock:
            lately = [at for at in self._at_ns if now_ns - at < _RATE_WITHIN_NS]
        if len(lately) < 2:
            return None
        return (len(lately) - 1) / max(1e-9, (lately[-1] - lately[0]) / 1e9)


class CameraBoards:
    """One `CameraBoard` per camera."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cameras: dict[str, CameraBoard] = {}

    def of(self, camera: str) -> CameraBoard:
        """Returns the board of a camera, which may be empty."""
        with self._lock:
            board = self._cameras.get(camera)
            if board is None:
                board = self._cameras[camera] = CameraBoard()
            return board

    def forget(self, camera: str) -> None:
        """Removes the board of a camera that was closed."""
        with self._lock:
            self._cameras.pop(camera, None)


@dataclass
class TrackedPart:
    """The part that is in front of a camera.

    Args:
        first: Id of the event on its first frame.
        begun_ns: Monotonic time at which that frame was captured, in nanoseconds.
        worst: Verdict and score of its worst frame, in an order of badness.
        verdict: Verdict on the part, which is that of its worst frame.
        frames: Number of frames so far.
        kept: Id of its picture in the evidence store, once there is one.
    """

    first: str
    begun_ns: int
    worst: tuple[bool, float]
    verdict: str
    frames: int = 1
    kept: str | None = None


@dataclass(frozen=True)
class PartPosition:
    """Where a verdict stands among the frames of its part.

    Args:
        event: The verdict, with the part's first event and the frame's number.
        part: The part; None if the verdict is on no part, as for a lost camera.
        worst: Whether this is the worst frame of the part so far.
        count: What it changes in the part counts; None for nothing.
    """

    event: InspectionEvent
    part: TrackedPart | None = None
    worst: bool = True
    count: Count | None = None


class PartTracker:
    """Groups the verdicts of each camera into parts.

    Each command and each picture file is one part. On a free-running camera, consecutive frames
    with the same outcome (good or rejected) are one part for `same_part_s` from its first frame on.

    Args:
        same_part_s: Returns the `same_part_s` of a camera by its name.
    """

    def __init__(self, same_part_s: Callable[[str], float]) -> None:
        self._same_part_s = same_part_s
        self._lock = threading.Lock()
        self._latest: dict[str, TrackedPart] = {}

    def place(self, judged: JudgedFrame) -> PartPosition:
        """Assigns a verdict to a part."""
        event = judged.event
        free = event.trigger == "free"
        if free and event.frame is None:
            return PartPosition(event)
        at_ns = judged.frame.captured_ns if judged.frame else time.monotonic_ns()
        with self._lock:
            part = self._latest.get(event.camera)
            if not free or judged.picture is not None or not self._same(part, event, at_ns):
                part = TrackedPart(event.id, at_ns, _badness(event), event.verdict)
                self._latest[event.camera] = part
                count = _count(event, **{_COUNTED[event.verdict]: 1})
                return PartPosition(_numbered(event, part), part, count=count)
            assert part is not None
            return self._another_frame(part, event)

    def _same(self, part: TrackedPart | None, event: InspectionEvent, at_ns: int) -> bool:
        if part is None or (part.verdict == Verdict.GOOD) == event.reject:
            return False
        return 0 <= at_ns - part.begun_ns < self._same_part_s(event.camera) * 1e9

    def _another_frame(self, part: TrackedPart, event: InspectionEvent) -> PartPosition:
        part.frames += 1
        worst, count = _badness(event) > part.worst, None
        if worst:
            if event.verdict != part.verdict:
                count = _count(event, **{_COUNTED[part.verdict]: -1, _COUNTED[event.verdict]: 1})
            part.worst, part.verdict = _badness(event), event.verdict
        return PartPosition(_numbered(event, part), part, worst, count)


def _badness(event: InspectionEvent) -> tuple[bool, float]:
    return event.verdict == Verdict.DEFECT, -math.inf if event.score is None else event.score


def _numbered(event: InspectionEvent, part: TrackedPart) -> InspectionEvent:
    return event.model_copy(update={"first_event": part.first, "part_frame": part.frames})


def _count(event: InspectionEvent, **changes: int) -> Count:
    return Count(event.camera, event.at_s, **changes)
