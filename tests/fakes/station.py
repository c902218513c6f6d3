"""A station without cameras or engine: drawn parts, judged by a rule, behind the real `Control`."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from prometheus_client import CollectorRegistry

from differnet_runtime.errors import CameraError, LabelError, ModelStoreError, TooManyCommandsError
from differnet_runtime.events import AuditEvent, FrameRef, InspectionEvent, ModelRef, Trigger
from differnet_runtime.labels import Labelled, ThresholdChange, misses, summary
from differnet_runtime.outbox.table import PartsView
from differnet_runtime.records import Decision, Frame, Inspection, Score, Verdict
from differnet_runtime.station.metrics import Metrics
from differnet_runtime.teaching.teaching import Teaching
from differnet_runtime.teaching.training import Trainer
from differnet_runtime.web.answers import Troubles
from differnet_runtime.web.audit import AuditTrail
from differnet_runtime.web.control import Control
from differnet_runtime.web.live import Jpeg, LivePicture, RecentEvents
from differnet_runtime.web.model_views import (
    EngineView,
    LabelSummary,
    LabelToSet,
    LabelView,
    ModelView,
    ThresholdToSet,
)
from differnet_runtime.web.views import (
    CameraView,
    EvidenceEntry,
    EvidenceKind,
    EvidenceView,
    Health,
    OutboxView,
    Overview,
    SettingView,
    SinkView,
    StateView,
)
from tests.drawn import draw_part
from tests.fakes.teaching import FakeSite
from tests.fakes.trials import FakeTrials

THRESHOLD = 1.35
HASHES = ("a" * 64, "b" * 64)


@dataclass
class FakeCamera:
    """What a camera last did."""

    trigger: str = "free"
    state: str = "running"
    reason: str | None = None
    frames: int = 0
    last: InspectionEvent | None = None
    captured_ns: int | None = None


def _parts(counts: list[str]) -> PartsView:
    """Counts every verdict as a part, since midnight."""
    good, defect = counts.count("GOOD"), counts.count("DEFECT")
    today = time.localtime()[:3]
    return PartsView(
        since_s=time.mktime((*today, 0, 0, 0, 0, 0, -1)), good=good, defect=defect,
        undecided=len(counts) - good - defect,
        yield_percent=100 * good / len(counts) if counts else None,
    )  # fmt: skip


def _problem(text: str, *, stops: bool) -> StateView:
    """Returns what `component: state: reason` says."""
    component, state, reason = (*text.split(": ", 2), "degraded", None)[:3]
    values = {"k": 3, "n": 5, "s": 30} if component.startswith("parts:") else {}
    return StateView(component=component, state=state, reason=reason, stops=stops, values=values)


class FakeStation(FakeTrials, Control):
    """Judges drawn parts when told to, or by itself at a rate (`run`).

    Args:
        folder: For evidence.
        cameras: Names.
        size: Of the drawn pictures, in pixels.
    """

    def __init__(
        self, folder: Path, cameras: Collection[str] = ("left", "right"), *, size: int = 64
    ) -> None:
        self.audited: list[AuditEvent] = []
        self.on_disk = 0
        audit = AuditTrail("demo", self.audited.append, self._settle)
        self.recent, self.audit, self.troubles = RecentEvents(), audit, Troubles()
        self.labelling = self  # type: ignore[assignment]
        self.shadows = {}
        self.folder = folder
        self.size = size
        self.seen = {name: FakeCamera() for name in cameras}
        self.pictures = {name: LivePicture() for name in cameras}
        self.kept: list[EvidenceEntry] = []
        self.labelled: dict[str, Labelled] = {}
        self.changes: list[ThresholdChange] = []
        self.reset: list[str] = []
        self.refused_part = "too fast"
        self.notes: dict[str, str] = {}
        self.active = 0
        self.caution: str | None = None  # of the model that does not judge
        self.degraded: list[str] = []
        self.alive = True
        self.metrics = Metrics(self.overview)
        self.site = FakeSite(folder, cameras)
        self.trainer: Trainer | None = None
        self._teaching: Teaching | None = None
        self._seeds = itertools.count()
        self._started_s = time.monotonic()
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def registry(self) -> CollectorRegistry:
        return self.metrics.registry

    def _settle(self) -> None:
        self.on_disk = len(self.audited)

    def run(self, rate: float) -> None:
        """Judges `rate` parts a second of every free camera until `stop`."""

        def loop() -> None:
            while not self._stopped.wait(1 / rate):
                for name, camera in self.seen.items():
                    if camera.trigger == "free" and camera.state == "running":
                        self.judge(name)

        self._thread = threading.Thread(target=loop, daemon=True)
        self._thread.start()

    @property
    def teaching(self) -> Teaching:
        with self._lock:
            if self._teaching is None:
                self._teaching = Teaching(self.site, self.trainer)
                self._teaching.start()
            return self._teaching

    def stop(self) -> None:
        if self._teaching is not None:
            self._teaching.stop()
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(5)

    def judge(
        self, camera: str, *, defect: bool | None = None, part: str | None = None,
        trigger: Trigger = "free",
    ) -> InspectionEvent:  # fmt: skip
        """Draws a part, judges it and shows it."""
        with self._lock:
            return self._judge(camera, defect, part, trigger)

    def _judge(
        self, camera: str, defect: bool | None, part: str | None, trigger: Trigger
    ) -> InspectionEvent:
        seed = next(self._seeds)
        random = np.random.RandomState(seed)
        defect = random.rand() < 0.08 if defect is None else defect
        value = float(random.normal(1.0, 0.08) + (random.uniform(0.5, 1.2) if defect else 0.0))
        image = draw_part(seed, defect=defect, size=self.size)
        verdict = Verdict.DEFECT if value > THRESHOLD else Verdict.GOOD
        index, now_ns = self.seen[camera].frames, time.monotonic_ns()
        frame = Frame(image, f"{camera} {index}", index, now_ns, time.time())
        stages_ms = {"preprocess": 1.2, "infer": 8.5, "total": 10.4}
        heads = {"whole": value if defect else 0.8 * value, "fine": 0.9 * value}
        inspection = Inspection(
            frame.name, index, frame.captured_at_s, Decision(verdict),
            Score(value, THRESHOLD, 50.0, heatmap=np.ones((4, 4), np.float32), heads=heads),
            stages_ms,
        )  # fmt: skip
        event = InspectionEvent(
            station="demo", camera=camera, part=part, trigger=trigger, verdict=verdict.value,
            reject=verdict is not Verdict.GOOD, score=value, threshold=THRESHOLD,
            good_percentile=50.0, head="whole" if defect else "fine", heads=heads,
            decided_by=inspection.decided_by, note=inspection.note,
            model=ModelRef(name="ring", hash=HASHES[self.active]),
            backend="fake", stages_ms=stages_ms,
            frame=FrameRef(
                name=frame.name, index=index, captured_at_s=frame.captured_at_s, age_ms=12.0,
                width=self.size, height=self.size,
            ),
        )  # fmt: skip
        if event.reject:
            event = event.model_copy(update={"evidence": event.id})
        self.show(camera, frame, inspection, event)
        return event

    def show(
        self, camera: str, frame: Frame, inspection: Inspection, event: InspectionEvent
    ) -> None:
        self.site.frames[camera] = frame
        self.pictures[camera].put(event, frame, lambda: inspection, None)
        seen = self.seen[camera]
        seen.frames, seen.last, seen.captured_ns = seen.frames + 1, event, frame.captured_ns
        if event.reject:
            self._keep(np.asarray(frame.image), event)
        self.metrics.verdict(event)
        self.recent.add(event)

    def _keep(self, image: np.ndarray, event: InspectionEvent) -> None:
        heat = cv2.applyColorMap(255 - image, cv2.COLORMAP_INFERNO)
        for kind, picture in (("image", image), ("heatmap", heat)):
            cv2.imwrite(str(self.folder / f"{event.id}-{kind}.png"), picture)
        self.kept.append(
            EvidenceEntry(
                id=event.id, at_s=event.at_s, camera=event.camera, part=event.part,
                verdict=event.verdict, score=event.score, threshold=event.threshold,
                head=event.head, decided_by=event.decided_by, note=event.note,
                kinds=["image", "heatmap"], bytes=image.nbytes,
            )
        )  # fmt: skip

    def cameras(self) -> Collection[str]:
        return tuple(self.seen)

    def live(self) -> bool:
        return self.alive

    def health(self) -> Health:
        stopped = [
            f"camera:{name}: {camera.state}: {camera.reason}"
            for name, camera in self.seen.items()
            if camera.state != "running"
        ]
        reasons = [*stopped, *self.degraded]
        problems = [_problem(one, stops=one in stopped) for one in reasons]
        return Health(ready=not stopped, degraded=bool(reasons), reasons=reasons, problems=problems)

    def overview(self) -> Overview:
        uptime_s = time.monotonic() - self._started_s
        return Overview(
            station="demo",
            version="0.1.0",
            started_at_s=time.time() - uptime_s,
            uptime_s=uptime_s,
            health=self.health(),
            threshold=THRESHOLD,
            cameras=[self._camera(name, camera) for name, camera in self.seen.items()],
            engine=EngineView(
                name="ring", cameras=list(self.seen), state="ready",
                backend="onnxruntime-cpu", reasons={"tensorrt": "no NVIDIA GPU"},
                fallback=bool(self.degraded), model="ring", model_hash=HASHES[self.active],
                answers=self.recent.number, limited_by="no_gpu",
            ),
            sinks=[SinkView(name="mqtt", state="ok", delivered=self.recent.number)],
            outbox=OutboxView(bytes=1 << 20),
            evidence=EvidenceView(
                pictures=len(self.kept), bytes=sum(one.bytes for one in self.kept),
                max_bytes=5 << 30, free_bytes=40 << 30,
            ),
        )  # fmt: skip

    def _camera(self, name: str, camera: FakeCamera) -> CameraView:
        age_s = None
        if camera.captured_ns is not None:
            age_s = (time.monotonic_ns() - camera.captured_ns) / 1e9
        counts = [one.event.verdict for one in self.recent.after(camera=name)]
        return CameraView(
            name=name, state=camera.state, reason=camera.reason, source=f"rtsp://10.0.0.5/{name}",
            trigger="free" if camera.trigger == "free" else "command", fps=4.0,
            frame_age_s=age_s, width=self.size, height=self.size, frames=camera.frames,
            verdicts={one: counts.count(one) for one in ("GOOD", "DEFECT", "NO_DECISION")},
            parts=_parts(counts),
            last=camera.last, threshold=self._threshold(name),
            model=ModelRef(name="ring", hash=HASHES[self.active]),
            shadow=self.shadows[name].model if name in self.shadows else None,
            settings=[
                SettingView(name="exposure", requested=120, actual=120),
                SettingView(name="gain", requested=4, actual=8, warning="the driver refuses 4"),
            ],
        )  # fmt: skip

    def jpeg(self, camera: str, *, overlay: bool) -> Jpeg | None:
        return self.pictures[camera].jpeg(overlay=overlay)

    def trigger(self, camera: str, part: str | None, sender: str) -> Callable[[], InspectionEvent]:
        if part == self.refused_part:
            raise TooManyCommandsError(f"{camera} takes no more commands now")
        if self.seen[camera].trigger == "free":
            raise CameraError(f'{camera} judges frame after frame; set trigger = "command"')
        return lambda: self.judge(camera, part=part, trigger="http")

    def evidence(
        self, camera: str | None, verdict: str | None, before: str | None, limit: int
    ) -> list[EvidenceEntry]:
        kept = self.kept[::-1]
        if before is not None:
            ids = [one.id for one in kept]
            kept = kept[ids.index(before) + 1 :] if before in ids else []
        wanted = [
            one for one in kept if camera in (None, one.camera) and verdict in (None, one.verdict)
        ]
        return [self._with_label(one) for one in wanted[:limit]]

    def _with_label(self, entry: EvidenceEntry) -> EvidenceEntry:
        label = self.labelled.get(entry.id)
        if label is None:
            return entry
        update = {"label": label.label, "defect": label.kind, "comment": label.comment}
        return entry.model_copy(update=update)

    def evidence_file(self, entry: str, kind: EvidenceKind) -> Path | None:
        path = self.folder / f"{entry}-{kind}.png"
        return path if path.exists() else None

    def models(self) -> list[ModelView]:
        return [
            ModelView(
                id=digest, own_name="ring", trained=f"2026-11-2{number}T07:30:00+00:00", parts=40,
                detection_limit="scratch from 9 px at contrast 40", note=self.notes.get(digest),
                name="ring", hash=digest, active=number == self.active, cameras=list(self.seen),
                previous=number != self.active, threshold=THRESHOLD,
                added=f"2026-11-2{number}T08:00:00+00:00",
                caution=None if number == self.active else self.caution,
            )
            for number, digest in enumerate(HASHES)
        ]  # fmt: skip

    def activate(self, model_hash: str, name: str | None = None) -> None:
        if model_hash not in HASHES:
            raise ModelStoreError(f"there is no model {model_hash[:16]} in the store")
        self.active = HASHES.index(model_hash)

    def rollback(self, name: str | None = None) -> None:
        self.active = 1 - self.active

    def note_model(self, model_hash: str, note: str) -> ModelView | None:
        if model_hash not in HASHES:
            return None
        self.notes[model_hash] = note.strip()
        return self.models()[HASHES.index(model_hash)]

    def label(self, entry: str, wanted: LabelToSet, by: str) -> Labelled | None:
        item = next((one for one in self.kept if one.id == entry), None)
        if item is None:
            raise LabelError(f"there is no picture {entry} (any more)")
        before = self.labelled.pop(entry, None)
        if wanted.label is not None:
            self.labelled[entry] = Labelled(
                id=entry, label=wanted.label, kind=wanted.kind, comment=wanted.comment,
                labelled_at_s=time.time(), labelled_by=by, at_s=item.at_s, camera=item.camera,
                part=item.part, verdict=item.verdict, score=item.score, threshold=item.threshold,
                model=HASHES[0],
            )  # fmt: skip
        return before

    def labels(self) -> list[LabelView]:
        return [LabelView(**one.model_dump(), picture=True) for one in self.labelled.values()]

    def _threshold(self, camera: str) -> float:
        mine = [one for one in self.changes if one.camera == camera and not one.undone]
        return mine[-1].new if mine else THRESHOLD

    def summary(self, camera: str) -> LabelSummary:
        threshold = self._threshold(camera)
        found = summary(self.labelled.values(), camera, HASHES[0], threshold)
        return LabelSummary(
            **found.model_dump(), camera=camera, name="ring", hash=HASHES[0], threshold=threshold,
            set_by="model" if threshold == THRESHOLD else "station",
            changes=[one for one in reversed(self.changes) if one.camera == camera],
        )  # fmt: skip

    def set_threshold(self, camera: str, wanted: ThresholdToSet, by: str) -> None:
        old, new = self._threshold(camera), wanted.threshold
        passed = misses(self.labelled.values(), camera, HASHES[0], new)
        if passed and not wanted.force:
            raise LabelError(f"{passed} parts that are labelled as defects would be judged good")
        self.changes.append(
            ThresholdChange(
                at_s=time.time(), by=by, camera=camera, model=HASHES[0], old=old, new=new,
                configured=None,
            )
        )  # fmt: skip

    def undo_threshold(self, camera: str) -> None:
        mine = [one for one in self.changes if one.camera == camera and not one.undone]
        if not mine:
            raise LabelError("no threshold that was set on the station is in use")
        place = self.changes.index(mine[-1])
        self.changes[place] = mine[-1].model_copy(update={"undone": True})

    def reset_parts(self, cameras: Collection[str]) -> None:
        self.reset += cameras
