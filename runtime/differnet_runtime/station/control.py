"""The station as the web server sees it.

What the page shows of kept pictures, parts, and the events that wait.

What is shown of a station's models.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import TimeoutError as FutureTimeoutError
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from ..backends.selection import ORT_CPU
from ..capture.messages import CameraState
from ..errors import CameraError
from ..events import Event, InspectionEvent, ModelRef
from ..evidence.index import EvidenceItem
from ..gpu import nvidia_gpu
from ..inference.process import EngineProcess
from ..labels import Labelled
from ..models.cards import Card, card_of, note_of
from ..models.store import StoredModel
from ..outbox.records import PartCounts
from ..processes import return_memory
from ..records import decided_by, note
from ..sentences import sentence
from ..teaching.teaching import Teaching
from ..web.audit import AuditTrail
from ..web.control import Control, Jpeg
from ..web.model_views import (
    EngineLimit,
    EngineView,
    LabelSummary,
    LabelToSet,
    LabelView,
    ModelCard,
    ModelView,
    ShadowView,
    ThresholdToSet,
)
from ..web.views import (
    Alive,
    CameraView,
    EvidenceEntry,
    EvidenceKind,
    EvidenceView,
    Health,
    OutboxView,
    Overview,
    PartsView,
    SettingView,
    SinkView,
    WebView,
)
from .camera_loop import CameraLoop
from .health import State, health_of
from .models import StationModel

if TYPE_CHECKING:
    from .station import Station


_VERDICTS = ("GOOD", "DEFECT", "NO_DECISION")


def entry_view(item: EvidenceItem, label: Labelled | None) -> EvidenceEntry:
    """Returns a kept picture, with what a person said of it."""
    return EvidenceEntry(
        id=item.id,
        at_s=item.at_s,
        camera=item.camera,
        part=item.part,
        verdict=item.verdict if item.verdict in _VERDICTS else "NO_DECISION",
        reason=item.code,
        score=item.score,
        threshold=item.threshold,
        head=item.head,
        decided_by=decided_by(item.head, item.verdict),
        note=note(item.head, item.verdict, heatmap=item.heatmap),
        kinds=["image", "heatmap"] if item.heatmap else ["image"],
        bytes=item.bytes,
        frames=item.frames,
        label=label.label if label else None,
        defect=label.kind if label else None,
        comment=label.comment if label else None,
    )


def parts_view(tally: PartCounts) -> PartsView:
    """Returns the parts of a camera, with their yield."""
    parts = tally.good + tally.defect + tally.undecided
    return PartsView(
        since_s=tally.since_s,
        good=tally.good,
        defect=tally.defect,
        undecided=tally.undecided,
        yield_percent=round(100.0 * tally.good / parts, 2) if parts else None,
    )


def sink_views(station: Station) -> list[SinkView]:
    """Returns the receivers of events."""
    pending = station.results.outbox.status.pending
    return [
        SinkView(
            name=status.sink,
            state="down" if status.problem else "limited" if status.caution else "ok",
            reason=status.problem or status.caution,
            pending=pending.get(status.sink, 0),
            delivered=status.delivered,
            undeliverable=status.undeliverable,
        )
        for status in (delivery.status for delivery in station.results.deliveries)
    ]


def outbox_view(station: Station, state: State) -> OutboxView:
    """Returns the events that wait for delivery."""
    status = station.results.outbox.status
    return OutboxView(
        state=state.state,
        reason=state.reason,
        pending=max(status.pending.values(), default=0) + status.waiting_in_memory,
        oldest_s=status.oldest_age_s,
        dropped=status.dropped,
        bytes=status.bytes,
    )


def evidence_view(station: Station, state: State) -> EvidenceView:
    """Returns what the kept pictures take."""
    status, config = station.evidence.status, station.config.evidence
    return EvidenceView(
        state=state.state,
        reason=state.reason,
        pictures=status.count,
        bytes=status.bytes,
        max_bytes=config.max_bytes,
        free_bytes=status.free_bytes,
        skipped=status.dropped,
    )


def model_ref(model: StationModel) -> ModelRef | None:
    """Returns the model that judges now; None if there is none yet."""
    engine = model.switch.engine
    if engine.absent:
        return None
    return ModelRef(name=engine.metadata.name, hash=engine.model_hash)


def engine_view(model: StationModel) -> EngineView:
    """Returns the state of the engine that judges now."""
    engine = model.switch.engine
    status = engine.status
    return EngineView(
        name=model.planned.name,
        cameras=list(model.planned.cameras),
        state=status.state.value,
        backend=status.backend,
        reasons={"model": status.last_fault or ""} if engine.absent else status.reasons,
        fallback=status.fallback,
        model=status.model,
        model_hash=status.model_hash,
        restarts=status.restarts,
        faults=status.faults,
        answers=status.answers,
        last_fault=None if engine.absent else status.last_fault,
        limited_by=engine_limit(status.backend, status.reasons, nvidia_gpu()),
        batches=status.batches,
        card=None if engine.absent else _card(model, engine),
    )


def engine_limit(
    backend: str | None, reasons: Mapping[str, str], gpu: str | None
) -> EngineLimit | None:
    """Returns why no faster backend runs; None if there is no faster one, or nothing runs.

    Args:
        backend: The backend that runs.
        reasons: Why each better backend does not run, by name; empty if it was chosen by name.
        gpu: The machine's NVIDIA GPU in words; None if there is none.
    """
    if backend == ORT_CPU:
        if not reasons:
            return "chosen"
        return "gpu_unusable" if gpu else "no_gpu"
    return "no_tensorrt" if backend and reasons else None


def _card(model: StationModel, engine: EngineProcess) -> ModelCard:
    store, name = model.config.store, engine.metadata.name
    note = note_of(model.store.root / store, engine.model_hash) if store is not None else None
    card = card_of(engine.metadata, note).model_dump()
    return ModelCard(**card, id=engine.model_hash, name=store or name)


def stored_models(models: Iterable[StationModel]) -> list[ModelView]:
    """Returns those in the store that could judge; none of a model that is a file."""
    found = [
        _view(stored, model)
        for model in models
        if model.config.store is not None
        for stored in model.store.list()
        if stored.name == model.config.store
    ]
    return_memory()  # every one of them was read and compared with its hash
    return found


def noted(models: Iterable[StationModel], model_hash: str, note: str) -> ModelView | None:
    """Stores a note on a model, under each of its names; returns None if there is no such model.

    Raises:
        OutputError: The store can't be written.
    """
    found = None
    for model in models:
        name = model.config.store
        if name is not None and model.store.path_of(name, model_hash).is_file():
            found = _view(model.store.note(model_hash, note, name), model)
    return found


def _view(stored: StoredModel, model: StationModel) -> ModelView:
    return ModelView(
        id=stored.hash,
        name=stored.name,
        hash=stored.hash,
        active=stored.active,
        previous=stored.previous,
        added=stored.added,
        threshold=stored.threshold,
        damaged=stored.damaged,
        caution=stored.caution,
        cameras=list(model.planned.cameras),
        **{key: getattr(stored, key) for key in Card.model_fields},
    )


_ON_DISK_S = 1.0
"""A change is answered once its audit entry is on disk, or after so long on a disk in trouble."""
_SLACK_S = 2.0
"""A verdict that is due comes at the latest so long after its deadline."""


class StationControl(Control):
    """Answers the web server from the station's parts.

    Args:
        station: Being built; it is asked once it runs.
    """

    def __init__(self, station: Station) -> None:
        audit = AuditTrail(station.config.station.name, self._send, self._settle)
        super().__init__(station.recent, audit)
        self._station = station
        self._version = version("differnet-edge")

    def _send(self, event: Event) -> None:
        self._station.results.add(event)

    def _settle(self) -> None:
        self._station.results.outbox.flush(_ON_DISK_S)

    def cameras(self) -> Collection[str]:
        """See `Control.cameras`."""
        return tuple(self._station.cameras)

    def live(self) -> bool:
        """See `Control.live`."""
        return self._station.live()

    def health(self) -> Health:
        """See `Control.health`."""
        models = {
            camera: ref
            for model in self._station.models
            if (ref := model_ref(model)) is not None
            for camera in model.planned.cameras
        }
        found = health_of(self._station.states().values())
        return found.model_copy(update={"models": models})

    def health_answer(self, path: str) -> tuple[int, bytes] | None:
        """See `health_socket.Answer`."""
        if path == "/livez":
            live = self.live()
            return 200 if live else 503, Alive(live=live).model_dump_json().encode()
        if path == "/readyz":
            health = self.health()
            return 200 if health.ready else 503, health.model_dump_json().encode()
        return None

    def overview(self) -> Overview:
        """See `Control.overview`."""
        station, cameras = self._station, self._station.cameras
        states = station.states()
        parts = {name: parts_view(one) for name, one in station.parts.read(list(cameras)).items()}
        engines = [engine_view(model) for model in station.models]
        return Overview(
            station=station.config.station.name,
            version=self._version,
            started_at_s=station.started_at_s,
            uptime_s=station.uptime_s,
            health=health_of(states.values()),
            threshold=station.labelling.common(),
            cameras=[
                self._camera(
                    name,
                    loop,
                    states[f"camera:{name}"],
                    parts.get(name),
                    states[f"parts:{name}"].reason,
                )
                for name, loop in cameras.items()
                if f"camera:{name}" in states  # a reload may just have removed it
            ],
            engine=engines[0],
            engines=engines,
            sinks=sink_views(station),
            outbox=outbox_view(station, states["outbox"]),
            evidence=evidence_view(station, states["evidence"]),
            web=WebView(troubles=self.troubles.counts),
        )

    def _camera(
        self,
        name: str,
        loop: CameraLoop,
        state: State,
        parts: PartsView | None,
        alarm: str | None,
    ) -> CameraView:
        seen = self._station.board.of(name)
        status = loop.status
        age_s = None
        if status.last_frame_ns is not None:
            age_s = (time.monotonic_ns() - status.last_frame_ns) / 1e9
        running = status.state is CameraState.LIVE
        model = self._station.models.of(name)
        return CameraView(
            name=name,
            state="running" if running else status.state.value,
            reason=state.reason,
            source=status.source,
            trigger=loop.config.trigger,
            fps=seen.rate,
            frame_age_s=age_s,
            width=status.width,
            height=status.height,
            frames=status.frames,
            waiting=status.waiting,
            reconnects=status.reconnects,
            refused_commands=loop.refused_commands,
            verdicts=seen.verdicts,
            parts=parts,
            threshold=self._station.labelling.in_use(name),
            alarm=alarm,
            last=seen.last,
            settings=[
                SettingView(
                    name=setting.name,
                    requested=setting.requested,
                    actual=setting.actual,
                    warning=setting.warning,
                )
                for setting in status.settings
            ],
            model=model_ref(model) if model else None,
            shadow=shadow.model if (shadow := self._station.shadows.of(name)) else None,
        )

    def jpeg(self, camera: str, *, overlay: bool) -> Jpeg | None:
        """See `Control.jpeg`."""
        return self._station.board.of(camera).picture.jpeg(overlay=overlay)

    def trigger(self, camera: str, part: str | None, sender: str) -> Callable[[], InspectionEvent]:
        """See `Control.trigger`."""
        command = self._station.ask(camera, part, "http", sender)
        due_s = self._station.config.camera[camera].deadline_ms / 1e3 + _SLACK_S

        def verdict() -> InspectionEvent:
            try:
                return command.answer.result(due_s)
            except FutureTimeoutError:
                raise CameraError(sentence("no_verdict", camera=camera, within_s=due_s)) from None

        return verdict

    def evidence(
        self, camera: str | None, verdict: str | None, before: str | None, limit: int
    ) -> list[EvidenceEntry]:
        """See `Control.evidence`."""
        items = self._station.evidence.list(
            limit=limit, before=before, camera=camera, verdict=verdict
        )
        labels = self._station.labelling.known()
        return [entry_view(item, labels.get(item.id)) for item in items]

    def evidence_file(self, entry: str, kind: EvidenceKind) -> Path | None:
        """See `Control.evidence_file`."""
        return self._station.evidence.path(entry, "input" if kind == "image" else kind)

    def models(self) -> list[ModelView]:
        """See `Control.models`."""
        return stored_models(self._station.models)

    def activate(self, model_hash: str, name: str | None = None) -> None:
        """See `Control.activate`."""
        self._station.models.activate(model_hash, name)

    def rollback(self, name: str | None = None) -> None:
        """See `Control.rollback`."""
        self._station.models.rollback(name, "asked for on the page")

    def note_model(self, model_hash: str, note: str) -> ModelView | None:
        """See `Control.note_model`."""
        return noted(self._station.models, model_hash, note)

    def start_shadow(self, camera: str, model_hash: str) -> ShadowView:
        """See `Control.start_shadow`."""
        return self._station.shadows.start(camera, model_hash)

    def shadow(self, camera: str) -> ShadowView | None:
        """See `Control.shadow`."""
        shadow = self._station.shadows.of(camera)
        return None if shadow is None else shadow.view()

    def stop_shadow(self, camera: str) -> bool:
        """See `Control.stop_shadow`."""
        return self._station.shadows.stop(camera) is not None

    def shadow_picture(self, camera: str, number: str) -> bytes | None:
        """See `Control.shadow_picture`."""
        shadow = self._station.shadows.of(camera)
        return None if shadow is None else shadow.picture(number)

    def label(self, entry: str, wanted: LabelToSet, by: str) -> Labelled | None:
        """See `Control.label`."""
        return self._station.labelling.label(entry, wanted, by)

    def labels(self) -> list[LabelView]:
        """See `Control.labels`."""
        return self._station.labelling.labels()

    def label_summary(self, camera: str) -> LabelSummary:
        """See `Control.label_summary`."""
        return self._station.labelling.summary(camera)

    def set_threshold(self, camera: str, wanted: ThresholdToSet, by: str) -> None:
        """See `Control.set_threshold`."""
        self._station.labelling.set_threshold(camera, wanted, by)

    def undo_threshold(self, camera: str) -> None:
        """See `Control.undo_threshold`."""
        self._station.labelling.undo_threshold(camera)

    @property
    def teaching(self) -> Teaching:
        """See `Control.teaching`."""
        return self._station.teaching

    def reset_parts(self, cameras: Collection[str]) -> None:
        """See `Control.reset_parts`."""
        self._station.parts.reset(cameras)
