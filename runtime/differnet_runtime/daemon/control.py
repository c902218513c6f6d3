"""The station as the web server sees it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from concurrent.futures import TimeoutError as FutureTimeoutError
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from ..capture import CameraState
from ..errors import CameraError
from ..events import Event, InspectionEvent
from ..labels import Labelled
from ..sentences import sentence
from ..teaching import Teaching
from ..web.audit import AuditTrail
from ..web.control import (
    CameraView,
    Control,
    EvidenceEntry,
    EvidenceKind,
    Health,
    Jpeg,
    ModelView,
    Overview,
    SettingView,
    WebView,
)
from ..web.health_views import Alive
from ..web.label_views import LabelSummary, LabelToSet, LabelView, ThresholdToSet
from ..web.shadow_views import ShadowView
from ..web.views import PartsView
from .camera_loop import CameraLoop
from .health import State, health_of
from .model_views import engine_view, model_ref, noted, stored_models
from .showing import entry_view, evidence_view, outbox_view, parts_view, sink_views

if TYPE_CHECKING:
    from .station import Station

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
