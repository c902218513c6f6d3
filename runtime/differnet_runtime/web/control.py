"""What the web server can ask of a station, answered from the station's parts."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import TimeoutError as FutureTimeoutError
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..backends.selection import ORT_CPU
from ..capture.messages import CameraState
from ..errors import CameraError
from ..events import InspectionEvent, ModelRef
from ..evidence.index import EvidenceItem
from ..gpu import nvidia_gpu
from ..labels import Labelled
from ..model_file.contract import StrictModel
from ..models.cards import card_of, note_of
from ..models.store import StoredModel
from ..outbox.outbox import OutboxStatus
from ..outbox.table import PartsView
from ..processes import return_memory
from ..records import decided_by, note
from ..sentences import sentence
from ..teaching.teaching import Teaching
from .answers import Troubles
from .audit import AuditTrail
from .live import Jpeg
from .model_views import (
    EngineLimit,
    EngineView,
    ModelCard,
    ModelView,
    ShadowView,
)
from .views import (
    Alive,
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
    WebView,
)

if TYPE_CHECKING:
    from ..station.camera_loop import CameraLoop
    from ..station.models import StationModel
    from ..station.station import Station

_ON_DISK_S = 1.0
"""A change is answered once its audit entry is on disk, or after this time on a failing disk."""
_SLACK_S = 2.0
"""How long after its deadline a verdict may come at the latest."""


class Control:
    """The interface of a station to the web server; called by several threads at once.

    Args:
        station: The station; may still be under construction.
    """

    def __init__(self, station: Station) -> None:
        audit = AuditTrail(
            station.config.station.name,
            lambda event: station.results.outbox.add(event),  # noqa: PLW0108 - made later
            lambda: station.results.outbox.flush(_ON_DISK_S),
        )
        self.recent, self.audit, self.troubles = station.recent, audit, Troubles()
        self._station, self.labelling = station, station.labelling
        self._version = version("differnet-edge")

    def cameras(self) -> Collection[str]:
        """Returns the names of the cameras; other methods are called with these names only."""
        return tuple(self._station.cameras)

    def live(self) -> bool:
        """Returns whether every stage has made progress recently; if not, a restart is due."""
        return self._station.live()

    def health(self) -> Health:
        """Returns whether the station works, and the reasons if it does not."""
        models = {
            camera: ref
            for model in self._station.models.all
            if (ref := _model_ref(model)) is not None
            for camera in model.planned.cameras
        }
        found = Health.of(self._station.states().values())
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
        """Returns the state of everything; each viewer asks for it about once a second."""
        station = self._station
        states, outbox = station.states(), station.results.outbox
        engines = [_engine_view(model) for model in station.models.all]
        parts = outbox.parts(list(station.cameras))
        return Overview(
            station=station.config.station.name,
            version=self._version,
            started_at_s=station.started_at_s,
            uptime_s=station.uptime_s,
            health=Health.of(states.values()),
            threshold=station.labelling.common(),
            cameras=[
                self._camera(name, loop, states, parts.get(name))
                for name, loop in station.cameras.items()
                if f"camera:{name}" in states  # a reload may just have removed it
            ],
            engine=engines[0],
            engines=engines,
            sinks=_sink_views(station),
            outbox=_outbox_view(outbox.status, states["outbox"]),
            evidence=_evidence_view(station, states["evidence"]),
            web=WebView(troubles=self.troubles.counts),
        )

    def judging(self) -> list[str]:
        """Returns each active model and its thresholds, in words for the audit trail."""
        overview = self.overview()
        return [_judging(engine, overview) for engine in overview.engines or [overview.engine]]

    def _camera(
        self, name: str, loop: CameraLoop, states: Mapping[str, StateView], parts: PartsView | None
    ) -> CameraView:
        station, status = self._station, loop.status
        state, board = states[f"camera:{name}"], station.reporter.of(name)
        model, shadow = station.models.of(name), station.shadows.of(name)
        age_s = None
        if status.last_frame_ns is not None:
            age_s = (time.monotonic_ns() - status.last_frame_ns) / 1e9
        own = {
            "name": name,
            "state": "running" if status.state is CameraState.LIVE else status.state.value,
            "trigger": loop.config.trigger,
            "frame_age_s": age_s,
            "refused_commands": loop.refused_commands,
            "parts": parts,
            "threshold": station.labelling.in_use(name),
            "alarm": states[f"parts:{name}"].reason,
            "settings": [SettingView(**vars(setting)) for setting in status.settings],
            "model": _model_ref(model) if model else None,
            "shadow": shadow.model if shadow else None,
        }
        return CameraView(**_shared(CameraView, state, board, status) | own)

    def jpeg(self, camera: str, *, overlay: bool) -> Jpeg | None:
        """Returns the newest judged frame as a JPEG; None before the first.

        Args:
            camera: Name of the camera.
            overlay: Whether heatmap and verdict are drawn on it.
        """
        return self._station.reporter.of(camera).picture.jpeg(overlay=overlay)

    def trigger(self, camera: str, part: str | None, sender: str) -> Callable[[], InspectionEvent]:
        """Requests a verdict on the part in front of a camera, without waiting for it.

        Args:
            camera: Name of the camera.
            part: Id of the part.
            sender: Address of the client.

        Returns:
            A function that waits for the verdict, at most until the camera's deadline.

        Raises:
            CameraError: The camera is not triggered by commands.
            TooManyCommandsError: The camera accepts no more commands now.
        """
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
        """Returns kept pictures, the newest first.

        Args:
            camera: Only pictures of this camera; None for all.
            verdict: Only pictures with this verdict; None for all.
            before: Only pictures older than this id; an unknown id gives an empty list.
            limit: Maximum number of pictures.
        """
        items = self._station.evidence.list(
            limit=limit, before=before, camera=camera, verdict=verdict
        )
        labels = self._station.labelling.known()
        return [entry_view(item, labels.get(item.id)) for item in items]

    def evidence_file(self, entry: str, kind: EvidenceKind) -> Path | None:
        """Returns the file of a kept picture; None if it does not exist any more."""
        return self._station.evidence.path(entry, "input" if kind == "image" else kind)

    def models(self) -> list[ModelView]:
        """Returns the models that can be activated; empty if a model file is configured.

        Raises:
            ModelStoreError: The store can't be read.
        """
        found = [
            _model_view(stored, model)
            for model in self._station.models.all
            if model.config.store is not None
            for stored in model.store.list()
            if stored.name == model.config.store
        ]
        return_memory()  # every one of them was read and compared with its hash
        return found

    def activate(self, model_hash: str, name: str | None = None) -> None:
        """Switches to a model; blocks until it has passed its checks or was rolled back.

        Args:
            model_hash: Content hash of the model.
            name: Its name in the store; needed only if the station has it under several names.

        Raises:
            ModelStoreError: There is no such model, or it did not pass; the old one judges on.
            EngineFault: It failed under load; the old one judges on.
        """
        self._station.models.activate(model_hash, name)

    def rollback(self, name: str | None = None) -> None:
        """Switches back to the previous model; blocks and raises like `activate`.

        Args:
            name: Name of the model; None if the station runs only one of the store.
        """
        self._station.models.rollback(name, "asked for on the page")

    def note_model(self, model_hash: str, note: str) -> ModelView | None:
        """Stores a note on a model; an empty one removes it.

        Returns:
            The model; None if this station has no model with that hash.

        Raises:
            OutputError: The store can't be written.
        """
        found = None
        for model in self._station.models.all:
            name = model.config.store
            if name is not None and model.store.path_of(name, model_hash).is_file():
                found = _model_view(model.store.note(model_hash, note, name), model)
        return found

    def start_shadow(self, camera: str, model_hash: str) -> ShadowView:
        """Starts the trial of a model on a camera, and ends a trial that runs there.

        Raises:
            ModelStoreError: There is no such model, it is the live one already, the camera has no
                live model, or there is too little memory.
            ModelFileError: The file can't be used.
        """
        return self._station.shadows.start(camera, model_hash)

    def shadow(self, camera: str) -> ShadowView | None:
        """Returns the trial on a camera, also one that has failed; None if there is none."""
        shadow = self._station.shadows.of(camera)
        return None if shadow is None else shadow.view()

    def stop_shadow(self, camera: str) -> bool:
        """Ends the trial on a camera; returns whether there was one."""
        return self._station.shadows.stop(camera) is not None

    def shadow_picture(self, camera: str, number: str) -> bytes | None:
        """Returns the JPEG of a frame on which the models differ; None if it is not kept."""
        shadow = self._station.shadows.of(camera)
        return None if shadow is None else shadow.picture(number)

    @property
    def teaching(self) -> Teaching:
        """The data sets and trainings of the page Teach."""
        return self._station.teaching

    def reset_parts(self, cameras: Collection[str]) -> None:
        """Resets the part counts of these cameras to zero."""
        self._station.results.outbox.reset_parts(cameras)


def _judging(engine: EngineView, overview: Overview) -> str:
    if not engine.model:
        return f"{engine.name}: no model"
    own = [camera.threshold for camera in overview.cameras if camera.name in engine.cameras]
    texts = ("none" if one is None else f"{one:g}" for one in own or [overview.threshold])
    return f"{engine.model} {engine.model_hash[:12]}, threshold {', '.join(dict.fromkeys(texts))}"


def _shared(view: type[StrictModel], *sources: object) -> dict[str, Any]:
    """Returns the values of a view's fields that a source has under the same name.

    Args:
        view: Class of the view.
        sources: Where to look; the first one that has a name wins.
    """
    return {
        field: getattr(source, field)
        for source in reversed(sources)
        for field in view.model_fields
        if hasattr(source, field)
    }


def entry_view(item: EvidenceItem, label: Labelled | None) -> EvidenceEntry:
    """Returns a kept picture, with what a person said of it."""
    own = {
        "verdict": "NO_DECISION" if item.verdict == "UNKNOWN" else item.verdict,
        "reason": item.code,
        "decided_by": decided_by(item.head, item.verdict),
        "note": note(item.head, item.verdict, heatmap=item.heatmap),
        "kinds": ["image", "heatmap"] if item.heatmap else ["image"],
        "defect": label.kind if label else None,
    }
    labelled = {"label": label.label, "comment": label.comment} if label else {}
    return EvidenceEntry(**_shared(EvidenceEntry, item) | own | labelled)


def _sink_views(station: Station) -> list[SinkView]:
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


def _outbox_view(status: OutboxStatus, state: StateView) -> OutboxView:
    own = {
        "pending": max(status.pending.values(), default=0) + status.waiting_in_memory,
        "oldest_s": status.oldest_age_s,
    }
    return OutboxView(**_shared(OutboxView, state, status) | own)


def _evidence_view(station: Station, state: StateView) -> EvidenceView:
    status = station.evidence.status
    own = {"pictures": status.count, "skipped": status.dropped}
    return EvidenceView(**_shared(EvidenceView, state, status, station.config.evidence) | own)


def _model_ref(model: StationModel) -> ModelRef | None:
    """Returns the model that judges now; None if there is none yet."""
    engine = model.switch.engine
    return None if engine.absent else ModelRef(name=engine.metadata.name, hash=engine.model_hash)


def _engine_view(model: StationModel) -> EngineView:
    engine = model.switch.engine
    status = engine.status
    own: dict[str, Any] = {
        "state": status.state.value,
        "limited_by": engine_limit(status.backend, status.reasons, nvidia_gpu()),
    }
    if engine.absent:
        own |= {"reasons": {"model": status.last_fault or ""}, "last_fault": None}
    else:
        own["card"] = _card(model)
    return EngineView(**_shared(EngineView, model.planned, status) | own)


def engine_limit(
    backend: str | None, reasons: Mapping[str, str], gpu: str | None
) -> EngineLimit | None:
    """Returns why no faster backend runs; None if there is no faster one, or nothing runs.

    Args:
        backend: The backend that runs.
        reasons: Why each better backend does not run, by name; empty if it was chosen by name.
        gpu: Description of the machine's NVIDIA GPU; None if there is none.
    """
    if backend == ORT_CPU:
        if not reasons:
            return "chosen"
        return "gpu_unusable" if gpu else "no_gpu"
    return "no_tensorrt" if backend and reasons else None


def _card(model: StationModel) -> ModelCard:
    store, engine = model.config.store, model.switch.engine
    note = note_of(model.store.root / store, engine.model_hash) if store is not None else None
    card = card_of(engine.metadata, note).model_dump()
    return ModelCard(**card, id=engine.model_hash, name=store or engine.metadata.name)


def _model_view(stored: StoredModel, model: StationModel) -> ModelView:
    own = {"id": stored.hash, "cameras": model.planned.cameras}
    return ModelView(**_shared(ModelView, stored) | own)
