"""What becomes of a verdict: evidence, outbox, the board, metrics, and perhaps an alarm.

The newest verdict of every camera, its picture, and how many there were of each.

Parts, not frames: which verdicts are on one and the same part, and which frame is its worst.

The way of events out of the station: the outbox, and a delivery for each sink.

A change of configuration, read and checked before anything is touched.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from ..config import Config, DecisionConfig
from ..config.problems import Key
from ..events import AlarmEvent, Event, InspectionEvent
from ..evidence.store import EvidenceStore
from ..outbox.delivery import Delivery
from ..outbox.outbox import Outbox
from ..outbox.records import Count
from ..records import Decision, Verdict
from ..sinks import OnCommand, Sink, build_sinks, sink_tables
from ..web.audit import FILES, AuditTrail
from ..web.live import LivePicture
from ..web.views import RecentEvents
from .health import Alarms, Smoother
from .judging import NO_MODEL, JudgedFrame
from .metrics import Metrics
from .model_set import NextModels

_RATE_OVER = 64
"""Verdicts over which the rate is taken."""
_RATE_WITHIN_NS = 10_000_000_000


class CameraBoard:
    """What is known of one camera; written by its thread, read by any."""

    def __init__(self) -> None:
        self.picture = LivePicture()
        self.last: InspectionEvent | None = None
        self._lock = threading.Lock()
        self._verdicts: Counter[str] = Counter()
        self._at_ns: deque[int] = deque(maxlen=_RATE_OVER)

    def put(self, judged: JudgedFrame) -> None:
        """Takes a verdict."""
        if judged.frame is not None:
            self.picture.put(judged.event, judged.frame, judged.inspection, judged.metadata)
        with self._lock:
            self.last = judged.event
            self._verdicts[judged.event.verdict] += 1
            self._at_ns.append(time.monotonic_ns())

    def show(self, judged: JudgedFrame) -> None:
        """Shows a frame without counting a verdict."""
        if judged.frame is not None:
            self.picture.put(judged.event, judged.frame, judged.inspection, None)
        self.last = judged.event

    @property
    def verdicts(self) -> dict[str, int]:
        """How many of each verdict."""
        with self._lock:
            return dict(self._verdicts)

    @property
    def rate(self) -> float | None:
        """Verdicts a second over the last ten; None where there were none."""
        now_ns = time.monotonic_ns()
        with self._lock:
            lately = [at for at in self._at_ns if now_ns - at < _RATE_WITHIN_NS]
        if len(lately) < 2:
            return None
        return (len(lately) - 1) / max(1e-9, (lately[-1] - lately[0]) / 1e9)


class CameraBoards:
    """One `CameraBoard` a camera."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cameras: dict[str, CameraBoard] = {}

    def of(self, camera: str) -> CameraBoard:
        """Returns what is known of a camera; it may be nothing yet."""
        with self._lock:
            seen = self._cameras.get(camera)
            if seen is None:
                seen = self._cameras[camera] = CameraBoard()
            return seen

    def forget(self, camera: str) -> None:
        """Drops what is known of a camera that is no longer there."""
        with self._lock:
            self._cameras.pop(camera, None)


_COUNTED = {"GOOD": "good", "DEFECT": "defect", "NO_DECISION": "undecided"}


@dataclass
class TrackedPart:
    """A part before its camera.

    Args:
        first: Id of the event on its first frame.
        begun_ns: When that frame was taken, by the monotonic clock.
        worst: Verdict and score of its worst frame, in an order of badness.
        verdict: Of the part: that of its worst frame.
        frames: So far.
        kept: Id of its picture in the evidence, once there is one.
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
        part: None where the verdict is on no part: the camera was lost.
        worst: It is the worst frame so far.
        count: What it changes in the number of parts; None for nothing.
    """

    event: InspectionEvent
    part: TrackedPart | None = None
    worst: bool = True
    count: Count | None = None


class PartTracker:
    """Tells the parts of all cameras apart.

    A command asks for a verdict on a part, and a picture in a file is one. Of a free-running
    camera, frames that follow one another with the same outcome (good, or rejected) are one part
    for `same_part_s`, counted from its first frame.

    Args:
        same_part_s: Returns a camera's setting.
    """

    def __init__(self, same_part_s: Callable[[str], float]) -> None:
        self._same_part_s = same_part_s
        self._lock = threading.Lock()
        self._latest: dict[str, TrackedPart] = {}

    def place(self, judged: JudgedFrame) -> PartPosition:
        """Finds out to which part a verdict belongs."""
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
                return PartPosition(_told(event, part), part, count=count)
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
        return PartPosition(_told(event, part), part, worst, count)


def _badness(event: InspectionEvent) -> tuple[bool, float]:
    return event.verdict == Verdict.DEFECT, -math.inf if event.score is None else event.score


def _told(event: InspectionEvent, part: TrackedPart) -> InspectionEvent:
    return event.model_copy(update={"first_event": part.first, "part_frame": part.frames})


def _count(event: InspectionEvent, **changes: int) -> Count:
    return Count(event.camera, event.at_s, **changes)


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
        self._lock = threading.Lock()
        self._smoothers: dict[str, tuple[DecisionConfig, Smoother]] = {}
        self._unjudged: set[str] = set()
        self._kept: dict[str, tuple[str | None, int]] = {}

    def report(self, judged: JudgedFrame) -> InspectionEvent:
        """Takes a verdict; returns its event as it leaves the station.

        Where a camera that runs free has no model, that is said once, as for a lost camera; its
        frames are only shown.
        """
        if judged.event.code == NO_MODEL and judged.event.trigger == "free":
            self._board.of(judged.event.camera).show(judged)
            if judged.event.camera in self._unjudged:
                return judged.event
            self._unjudged.add(judged.event.camera)
            judged = JudgedFrame(
                judged.event.model_copy(update={"frame": None})
            )  # it is of no part
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

    def _keep(self, judged: JudgedFrame, place: PartPosition) -> str | None:
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


_END_S = 2.0


@dataclass(frozen=True)
class UnopenedSinks:
    """Those of a configuration, made but not opened.

    Args:
        origins: By name, in order: what each was made from.
        made: Those whose origin is another than that of the sink in use.
    """

    origins: Mapping[str, object]
    made: Mapping[str, Sink]


class EventDelivery:
    """Owns the outbox and the deliveries; sinks can be changed while events come.

    Args:
        config: Of the station.
        files: Fingerprints of the files of secrets and certificates that it names.
        on_command: Gets the camera and the part of a command that a sink received.

    Raises:
        ConfigError: A sink's secret or certificate can't be read.
    """

    def __init__(self, config: Config, files: Mapping[Key, str], on_command: OnCommand) -> None:
        self._on_command = on_command
        self._origins: Mapping[str, object] = {}
        self._first = self.prepare(config, files)
        self.outbox = Outbox(config.station.state / "outbox.sqlite", config.events)
        self.deliveries: list[Delivery] = []

    def start(self) -> None:
        """Starts writing and delivering."""
        self.use(self._first)
        self.outbox.start()

    def add(self, event: Event) -> None:
        """Takes an event; never waits."""
        self.outbox.add(event)

    def prepare(self, config: Config, files: Mapping[Key, str]) -> UnopenedSinks:
        """Makes the sinks that a configuration changes; those in use go on.

        Args:
            config: Of the station.
            files: See the class.

        Raises:
            ConfigError: A sink can't be made.
        """
        origins = {name: _origin(name, config, files) for name in sink_tables(config)}
        changed = [name for name in origins if origins[name] != self._origins.get(name)]
        made = build_sinks(config, self._on_command, changed)
        return UnopenedSinks(origins, {sink.name: sink for sink in made})

    def use(self, sinks: UnopenedSinks) -> None:
        """Ends the deliveries of sinks that changed or are gone; begins those that were made."""
        staying = {
            one.sink.name: one
            for one in self.deliveries
            if one.sink.name in sinks.origins and one.sink.name not in sinks.made
        }
        ending = [one for one in self.deliveries if one.sink.name not in staying]
        self.deliveries = list(staying.values())  # those that end on purpose are not missed
        self._end(ending, _END_S)
        self.outbox.use_sinks(sinks.origins)
        begun = {name: Delivery(self.outbox, sink) for name, sink in sinks.made.items()}
        self._origins = sinks.origins
        for delivery in begun.values():
            delivery.start()
        self.deliveries = [(staying | begun)[name] for name in sinks.origins]

    def beat(self, cameras: list[str]) -> None:
        """Sends the heartbeat of the cameras that inspect."""
        for delivery in self.deliveries:
            delivery.sink.beat(cameras)

    def stop(self, timeout_s: float) -> None:
        """Ends the deliveries, and writes down what waits and what was taken."""
        self._end(self.deliveries, timeout_s / 2)
        self.deliveries = []
        self.outbox.stop(timeout_s / 2)

    def _end(self, deliveries: list[Delivery], timeout_s: float) -> None:
        with ThreadPoolExecutor(max_workers=max(1, len(deliveries))) as pool:
            for delivery in deliveries:
                pool.submit(delivery.stop, timeout_s)


def _origin(name: str, config: Config, files: Mapping[Key, str]) -> object:
    """Returns all that a sink is made from: its table, and what the files named there hold."""
    at = tuple(name.split(":"))
    own = {key: found for key, found in files.items() if key[: len(at)] == at}
    return sink_tables(config)[name], own


@dataclass(frozen=True)
class Renewal:
    """What a station needs to change to another configuration; not in use yet.

    Args:
        config: The new one.
        files: Fingerprints of its files of secrets and certificates.
        changes: What differs from the old one, in words; see `config.differences`.
        sinks: Those that change.
        models: Those that it names.
    """

    config: Config
    files: Mapping[Key, str]
    changes: tuple[str, ...]
    sinks: UnopenedSinks
    models: NextModels

    def cameras_with_other_files(self, old: Mapping[Key, str]) -> set[str]:
        """Returns the cameras one of whose files of secrets and certificates has changed."""
        files = self.files
        return {key[1] for key in files if key[0] == "camera" and files[key] != old.get(key)}

    def tell(self, audit: AuditTrail, old: Config) -> None:
        """Adds what was changed to the audit trail."""
        for camera in (None, *(name for name in self.config.camera if name in old.camera)):
            before, after = (_threshold(one, camera) for one in (old, self.config))
            if before != after:
                audit.add("threshold", FILES, old=before, new=after)
        if self.changes:
            audit.add("configuration", FILES, new=f"changed: {', '.join(self.changes)}")


def _threshold(config: Config, camera: str | None) -> str:
    """Writes the threshold in `[model]`, or in a camera's own table."""
    own = config.model if camera is None else config.camera[camera].model
    threshold = own.threshold if own else None
    text = "the model's" if threshold is None else f"{threshold:g}"
    return text if camera is None else f"camera {camera}: {text}"
