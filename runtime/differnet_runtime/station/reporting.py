"""What happens with a verdict: its part, evidence, outbox, the page, metrics and alarms."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..config import CameraConfig, DecisionConfig
from ..events import AlarmEvent, InspectionEvent
from ..evidence.store import EvidenceStore
from ..outbox.outbox import Outbox
from ..outbox.table import Count
from ..records import Verdict
from ..web.live import LivePicture, RecentEvents
from ..web.views import StateView
from .health import problem_state
from .judging import NO_MODEL, JudgedFrame
from .metrics import Metrics

if TYPE_CHECKING:
    from ..teaching.teaching import Teaching
    from .shadows import Shadow

_RATE_OVER = 64
"""Number of verdicts from which the rate is computed."""
_RATE_WITHIN_NS = 10_000_000_000
_COUNTED = {"GOOD": "good", "DEFECT": "defect", "NO_DECISION": "undecided"}
_AT_MOST_EVERY_NS, _REPEAT_NS = 1_000_000_000, 60_000_000_000
"""Least time between two kept NO_DECISION pictures of a camera: for different reasons, and for the
same one. A dark camera would fill the evidence store by itself."""
_NONE_KEPT: tuple[str | None, int] = (None, -_REPEAT_NS)


class Reporter:
    """Passes every verdict on; nothing here waits for a disk or a network.

    Args:
        outbox: Receives an event per verdict.
        evidence: Stores pictures of verdicts.
        recent: Latest verdicts in memory.
        metrics: Counts verdicts for Prometheus.

    Example:
        >>> reporter.open("left", config.camera["left"])  # doctest: +SKIP
        >>> event = reporter.report(judge.judge(capture.take))  # doctest: +SKIP
    """

    def __init__(
        self, outbox: Outbox, evidence: EvidenceStore, recent: RecentEvents, metrics: Metrics
    ) -> None:
        self._outbox, self.evidence = outbox, evidence
        self._recent, self._metrics = recent, metrics
        self.decision = DecisionConfig()
        """When rejects become an alarm; may be replaced at any time."""
        self.trials: Mapping[str, Shadow] = {}
        """The trials that get the frames of a camera after their verdicts, by its name."""
        self.teaching: Teaching | None = None
        """Gets the frames of the cameras that it collects from."""
        self._lock = threading.Lock()
        self._cameras: dict[str, CameraRecord] = {}
        self._good = 0

    def open(self, camera: str, config: CameraConfig) -> None:
        """Starts afresh for a camera that is opened; see `CameraRecord` for what goes on."""
        with self._lock:
            self._cameras[camera] = CameraRecord(camera, config, self._cameras.get(camera))

    def close(self, camera: str) -> None:
        """Forgets the pictures and counts of a camera that was closed; a reload may reopen it."""
        with self._lock:
            self._cameras[camera] = CameraRecord(camera, before=self._cameras.get(camera))

    def of(self, camera: str) -> CameraRecord:
        """Returns what is known of a camera, which may be nothing yet."""
        with self._lock:
            record = self._cameras.get(camera)
            if record is None:
                record = self._cameras[camera] = CameraRecord(camera)
            return record

    def report(self, judged: JudgedFrame) -> InspectionEvent:
        """Reports a verdict, then passes the frame to a trial and to teaching.

        Returns:
            The event as it leaves the station.
        """
        event = self._reported(judged)
        trial, teaching = self.trials.get(event.camera), self.teaching
        if trial is not None:
            trial.offer(judged)
        if (
            teaching is not None
            and judged.frame is not None
            and event.camera in teaching.collecting
        ):
            teaching.offer(event.camera, judged.frame)
        return event

    def _reported(self, judged: JudgedFrame) -> InspectionEvent:
        """Reports a verdict.

        While a free-running camera has no model, its frames are only shown, and that is reported
        once, as for a lost camera.
        """
        event = judged.event
        camera = self.of(event.camera)
        unjudged = event.code == NO_MODEL and event.trigger == "free"
        before, camera.unjudged = camera.unjudged, unjudged
        if unjudged:
            camera.show(judged)
            if before:
                return event
            judged = JudgedFrame(event.model_copy(update={"frame": None}))  # it is on no part
        place = camera.parts.place(judged)
        event = place.event
        if (kept := self._keep(judged, place, camera)) is not None:
            event = event.model_copy(update={"evidence": kept})
        self._outbox.add(event, judged.picture, place.count)
        camera.put(replace(judged, event=event))
        self._recent.add(event)
        self._metrics.verdict(event)
        if (alarm := camera.alarms.see(event, self.decision)) is not None:
            self._outbox.add(alarm)
        return event

    def _keep(self, judged: JudgedFrame, place: PartPosition, camera: CameraRecord) -> str | None:
        """Stores the picture, of a rejected part only its worst frame; returns its id if stored."""
        event, part, good = place.event, place.part, place.event.verdict == Verdict.GOOD
        if judged.frame is None or not self._wants(good=good):
            return None
        before = part.kept if part is not None and not good else None
        notes = self.evidence.notes
        if before is not None and (not place.worst or notes.labelled_here(before)):
            notes.count(before, event.part_frame)
            return None
        if event.verdict == Verdict.NO_DECISION and not camera.keeps_undecided(event.code):
            return None
        kept = self.evidence.add(
            event, judged.frame.image, judged.heatmap, judged.metadata, replaces=before
        )
        if part is not None and kept is not None:
            part.kept = kept
        return kept

    def _wants(self, *, good: bool) -> bool:
        """Returns whether to keep the picture of a verdict; counts the good ones."""
        config = self.evidence.config
        if config.keep != "rejects" or not good:
            return config.keep != "none"
        with self._lock:
            self._good += 1
            return config.good_every > 0 and self._good % config.good_every == 0


class CameraRecord:
    """The latest verdict and picture of a camera, its counts, its part and its alarms.

    Args:
        name: Name of the camera.
        config: Configuration of the camera.
        before: The record of the same camera before it was reopened. Its part, the window and the
            cooldown of its alarms, and the waits between its NO_DECISION pictures go on.
    """

    def __init__(
        self,
        name: str,
        config: CameraConfig | None = None,
        before: CameraRecord | None = None,
    ) -> None:
        self.picture = LivePicture()
        self.last: InspectionEvent | None = None
        self.unjudged: bool = before is not None and before.unjudged
        """Whether its last frame had no model that judges it."""
        self.parts: PartTracker = before.parts if before else PartTracker()
        self.parts.same_part_s = config.same_part_s if config else 0.0
        self.alarms: Alarms = before.alarms if before else Alarms(name)
        self.alarms.begin(config.no_part_after_s if config else 0.0)
        self._lock = threading.Lock()
        self._verdicts: Counter[str] = Counter()
        self._at_ns: deque[int] = deque(maxlen=_RATE_OVER)
        self._kept_undecided: tuple[str | None, int] = (
            before._kept_undecided if before else _NONE_KEPT
        )

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

    def keeps_undecided(self, code: str | None) -> bool:
        """Returns whether a NO_DECISION picture is due; if so, the next one has to wait."""
        now_ns = time.monotonic_ns()
        last_code, last_ns = self._kept_undecided
        if now_ns - last_ns < (_REPEAT_NS if code == last_code else _AT_MOST_EVERY_NS):
            return False
        self._kept_undecided = code, now_ns
        return True

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
    """Groups the verdicts of a camera into parts. Thread-safe.

    Each command and each picture file is one part. On a free-running camera, consecutive frames
    with the same outcome (good or rejected) are one part for `same_part_s` from its first frame on.

    Args:
        same_part_s: Greatest duration of a part in seconds; 0 makes each frame a part of its own.
    """

    def __init__(self, same_part_s: float = 0.0) -> None:
        self.same_part_s = same_part_s
        self._lock = threading.Lock()
        self._latest: TrackedPart | None = None

    def place(self, judged: JudgedFrame) -> PartPosition:
        """Assigns a verdict to a part."""
        event = judged.event
        free = event.trigger == "free"
        if free and event.frame is None:
            return PartPosition(event)
        at_ns = judged.frame.captured_ns if judged.frame else time.monotonic_ns()
        badness = event.verdict == Verdict.DEFECT, -math.inf if event.score is None else event.score
        changes, worst = {_COUNTED[event.verdict]: 1}, True
        with self._lock:
            part = self._latest
            if part is None or not (
                free
                and judged.picture is None
                and (part.verdict == Verdict.GOOD) != event.reject
                and 0 <= at_ns - part.begun_ns < self.same_part_s * 1e9
            ):
                part = self._latest = TrackedPart(event.id, at_ns, badness, event.verdict)
            else:
                part.frames += 1
                worst, before = badness > part.worst, part.verdict
                if worst:
                    part.worst, part.verdict = badness, event.verdict
                changes = {} if before == part.verdict else {_COUNTED[before]: -1, **changes}
            numbered = {"first_event": part.first, "part_frame": part.frames}
        count = Count(event.camera, event.at_s, **changes) if changes else None
        return PartPosition(event.model_copy(update=numbered), part, worst, count)


ALL_REJECTED_S, FEWEST = 60.0, 5
"""The state `all_rejected` needs this many seconds of nothing but rejects, and this many parts,"""
IN_A_ROW = 20
"""or this many rejected parts in a row, however fast they came."""
_ALL_REJECTED = (
    "every part is rejected: look at the camera, the light and whether this model is for this part"
)
_ONE_OF_ONE = DecisionConfig()


class Smoother:
    """Raises an alarm when k of the last n verdicts are not GOOD.

    NO_DECISION counts as a reject, as at every output. After an alarm the frames are counted
    afresh, and there is no other alarm for `cooldown_s`.

    Args:
        config: `[decision]`: k, n and `cooldown_s`.

    Example:
        >>> smoother = Smoother(DecisionConfig(k=1, n=2))
        >>> smoother.add("DEFECT", now_ns=0)
        {'rejects': 1, 'undecided': 0, 'frames': 1}
    """

    def __init__(self, config: DecisionConfig) -> None:
        self.config = config
        self._latest: deque[str] = deque(maxlen=config.n)
        self._quiet_until_ns = -math.inf

    def add(self, verdict: str, now_ns: int) -> dict[str, int] | None:
        """Takes the verdict on the next frame at `time.monotonic_ns()`.

        Returns:
            The counts of an alarm, as in `AlarmEvent`; None without one.
        """
        self._latest.append(verdict)
        rejects = sum(one != Verdict.GOOD for one in self._latest)
        if rejects < self.config.k or now_ns < self._quiet_until_ns:
            return None
        undecided, frames = self._latest.count(Verdict.NO_DECISION), len(self._latest)
        self._latest.clear()
        self._quiet_until_ns = now_ns + int(self.config.cooldown_s * 1e9)
        return {"rejects": rejects, "undecided": undecided, "frames": frames}


class Alarms:
    """Says what the verdicts of a camera reveal about the line. Thread-safe.

    Times `now_s` are monotonic seconds; None reads the clock.

    Args:
        camera: Name of the camera.
        no_part_after_s: Seconds without a part after which that is a problem; 0 for never.
        now_s: Time from which on parts are expected.
    """

    def __init__(
        self, camera: str, no_part_after_s: float = 0.0, now_s: float | None = None
    ) -> None:
        self._component = f"parts:{camera}"
        self._lock = threading.Lock()
        self._smoother = Smoother(_ONE_OF_ONE)
        self.begin(no_part_after_s, now_s)

    def begin(self, no_part_after_s: float = 0.0, now_s: float | None = None) -> None:
        """Starts afresh for a camera that is opened; only k of n and its cooldown go on."""
        with self._lock:
            self._no_part_after_s = no_part_after_s
            self._rejects: deque[bool] = deque()
            self._too_many = False
            self._rejected_since_s: float | None = None
            self._rejected_parts = 0
            self._part_at_s = _clock(now_s)

    def see(
        self, event: InspectionEvent, decision: DecisionConfig, now_s: float | None = None
    ) -> AlarmEvent | None:
        """Takes a verdict; one without a part, or without a model, says nothing about the parts.

        Args:
            event: The verdict on a frame.
            decision: k and n: this many rejects of so many verdicts are too many.
            now_s: Monotonic time in seconds.

        Returns:
            An alarm if this verdict completes k of n; None for one of one, the default, where the
            verdict itself says it.
        """
        now_s = _clock(now_s)
        with self._lock:
            if event.first_event is not None and event.code != NO_MODEL:
                self._count(event, decision, now_s)
            if decision == _ONE_OF_ONE:
                return None
            if self._smoother.config != decision:
                self._smoother = Smoother(decision)
            alarm = self._smoother.add(event.verdict, time.monotonic_ns())
        if alarm is None:
            return None
        return AlarmEvent(station=event.station, camera=event.camera, **alarm)

    def _count(self, event: InspectionEvent, decision: DecisionConfig, now_s: float) -> None:
        """Counts k of n; once there are too many, all of the last n must be good again."""
        self._part_at_s = now_s
        if not event.reject:
            self._rejected_since_s, self._rejected_parts = None, 0
        else:
            self._rejected_parts += event.part_frame == 1 or not self._rejected_parts
            if self._rejected_since_s is None:
                self._rejected_since_s = now_s
        if self._rejects.maxlen != decision.n:
            self._rejects = deque(self._rejects, maxlen=decision.n)
        self._rejects.append(event.reject)
        self._too_many = sum(self._rejects) >= (1 if self._too_many else decision.k)

    def state(
        self, decision: DecisionConfig, now_s: float | None = None, *, explained: bool = False
    ) -> StateView:
        """Returns the state of the camera's parts, the worst problem first.

        Args:
            decision: k and n: this many rejects of so many verdicts are too many.
            now_s: Monotonic time in seconds.
            explained: Whether the state of the camera or its engine already says why no part comes
                or is good; then only `too_many_rejects` is reported.
        """
        now_s, no_part_s, values = _clock(now_s), self._no_part_after_s, dict[str, float]()
        with self._lock:
            if self._all_rejected and not explained:
                state, reason = "all_rejected", _ALL_REJECTED
            elif self._too_many and decision != _ONE_OF_ONE:
                state, values = "too_many_rejects", {"k": decision.k, "n": decision.n}
                reason = f"at least {decision.k} of {decision.n} consecutive verdicts were not good"
            elif not explained and 0 < no_part_s <= now_s - self._part_at_s:
                state, values = "no_part", {"s": no_part_s}
                reason = f"no part for more than {no_part_s:g} s"
            else:
                return problem_state(self._component)
        return StateView(component=self._component, state=state, reason=reason, values=values)

    @property
    def _all_rejected(self) -> bool:
        if self._rejected_since_s is None:
            return False
        long = self._part_at_s - self._rejected_since_s >= ALL_REJECTED_S
        return (long and self._rejected_parts >= FEWEST) or self._rejected_parts >= IN_A_ROW


def _clock(now_s: float | None) -> float:
    return time.monotonic() if now_s is None else now_s
