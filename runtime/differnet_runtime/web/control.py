"""What the web server can ask of a station; `station/control.py` answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from pathlib import Path

from ..events import InspectionEvent
from ..labels import Labelled
from ..teaching.teaching import Teaching
from .answers import Troubles
from .audit import AuditTrail
from .live import Jpeg, RecentEvents
from .model_views import (
    EngineView,
    LabelSummary,
    LabelToSet,
    LabelView,
    ModelView,
    ShadowView,
    ThresholdToSet,
)
from .views import (
    CameraView,
    EvidenceEntry,
    EvidenceKind,
    EvidenceView,
    Health,
    OutboxView,
    Overview,
    SettingView,
    SinkView,
    WebView,
)

__all__ = [
    "CameraView",
    "Control",
    "EngineView",
    "EvidenceEntry",
    "EvidenceKind",
    "EvidenceView",
    "Health",
    "ModelView",
    "OutboxView",
    "Overview",
    "SettingView",
    "SinkView",
    "WebView",
]


class Control(ABC):
    """What the web server asks of the station; called from several threads at once.

    Args:
        recent: The latest verdicts; the daemon adds each.
        audit: The audit trail.
    """

    def __init__(self, recent: RecentEvents, audit: AuditTrail) -> None:
        self.recent, self.audit = recent, audit
        self.troubles = Troubles()

    @abstractmethod
    def cameras(self) -> Collection[str]:
        """Returns the cameras' names; the methods below are called with one of these only."""

    @abstractmethod
    def live(self) -> bool:
        """Returns whether every stage made progress lately; false asks for a restart."""

    @abstractmethod
    def health(self) -> Health:
        """Returns whether the station does its work, and why not."""

    @abstractmethod
    def overview(self) -> Overview:
        """Returns the state of everything; asked for about once a second by each viewer."""

    def judging(self) -> list[str]:
        """Returns what judges now, for the audit trail: each model and its thresholds."""
        overview = self.overview()
        return [_judging(engine, overview) for engine in overview.engines or [overview.engine]]

    @abstractmethod
    def jpeg(self, camera: str, *, overlay: bool) -> Jpeg | None:
        """Returns the newest judged frame (`web.live.LivePicture` does it); None before the first.

        Args:
            camera: Name.
            overlay: With heatmap and verdict drawn on it.
        """

    @abstractmethod
    def trigger(self, camera: str, part: str | None, sender: str) -> Callable[[], InspectionEvent]:
        """Has a part judged now; returns at once.

        Args:
            camera: Name of the camera.
            part: The part's id.
            sender: The sender's address.

        Returns:
            A function that waits for the verdict, at most until the camera's deadline.

        Raises:
            CameraError: The camera runs free.
            TooManyCommandsError: It takes no more commands now.
        """

    @abstractmethod
    def evidence(
        self, camera: str | None, verdict: str | None, before: str | None, limit: int
    ) -> list[EvidenceEntry]:
        """Returns kept pictures, the newest first.

        Args:
            camera: Only of this one.
            verdict: Only with this one.
            before: Only those older than that id; an unknown one gives an empty list.
            limit: At most so many.
        """

    @abstractmethod
    def evidence_file(self, entry: str, kind: EvidenceKind) -> Path | None:
        """Returns the file of a kept picture; None where there is none (any more)."""

    @abstractmethod
    def models(self) -> list[ModelView]:
        """Returns the models that can be activated; empty where a file is configured.

        Raises:
            ModelStoreError: The store can't be read.
        """

    @abstractmethod
    def activate(self, model_hash: str, name: str | None = None) -> None:
        """Switches to that model; blocks until it has passed or was taken back.

        Args:
            model_hash: Content hash.
            name: Its name in the store; needed only if the station has it under several names.

        Raises:
            ModelStoreError: There is no such model, or it did not pass; the old one judges on.
            EngineFault: It failed under load; likewise.
        """

    @abstractmethod
    def rollback(self, name: str | None = None) -> None:
        """Switches to the model that judged before; blocks and raises as `activate`.

        Args:
            name: Of which; may be left out where the station runs one of the store only.
        """

    @abstractmethod
    def note_model(self, model_hash: str, note: str) -> ModelView | None:
        """Stores a note on a model; an empty one removes it.

        Returns:
            The model; None if this station has no model with that hash.

        Raises:
            OutputError: The store can't be written.
        """

    @abstractmethod
    def start_shadow(self, camera: str, model_hash: str) -> ShadowView:
        """Starts the trial of a model on a camera, in place of a trial that runs there.

        Raises:
            ModelStoreError: There is no such model, it is the live one already, the camera has no
                live model, or there is too little memory.
            ModelFileError: The file can't be used.
        """

    @abstractmethod
    def shadow(self, camera: str) -> ShadowView | None:
        """Returns the trial on a camera, also one that has failed; None if there is none."""

    @abstractmethod
    def stop_shadow(self, camera: str) -> bool:
        """Ends the trial on a camera; returns whether there was one."""

    @abstractmethod
    def shadow_picture(self, camera: str, number: str) -> bytes | None:
        """Returns the JPEG of a frame on which the models differ; None if it is not kept."""

    @abstractmethod
    def label(self, entry: str, wanted: LabelToSet, by: str) -> Labelled | None:
        """Labels a kept picture, or takes its label back; committed when it returns.

        Args:
            entry: Id of the picture.
            wanted: The label.
            by: Who says so, as in the audit trail.

        Returns:
            The label it had before.

        Raises:
            LabelError: There is no such picture (any more).
            StoreError: The label can't be stored.
        """

    @abstractmethod
    def labels(self) -> list[LabelView]:
        """Returns every label, the latest first.

        Raises:
            StoreError: They can't be read.
        """

    @abstractmethod
    def label_summary(self, camera: str) -> LabelSummary:
        """Returns what the labels say of the model that judges a camera now.

        Raises:
            StoreError: They can't be read.
        """

    @abstractmethod
    def set_threshold(self, camera: str, wanted: ThresholdToSet, by: str) -> None:
        """Sets the threshold of the model that judges a camera now, from the next frame on.

        Raises:
            LabelError: It would reject all parts, or let labelled defects pass, and is not forced.
            StoreError: It can't be stored; nothing changes.
        """

    @abstractmethod
    def undo_threshold(self, camera: str) -> None:
        """Takes the latest threshold back; the one before holds again.

        Raises:
            LabelError: None was set for the model that judges now.
            StoreError: It can't be stored; nothing changes.
        """

    @property
    @abstractmethod
    def teaching(self) -> Teaching:
        """Collects pictures, and trains models on them."""

    @abstractmethod
    def reset_parts(self, cameras: Collection[str]) -> None:
        """Begins the counting of these cameras' parts anew."""


def _judging(engine: EngineView, overview: Overview) -> str:
    if not engine.model:
        return f"{engine.name}: no model"
    own = [camera.threshold for camera in overview.cameras if camera.name in engine.cameras]
    texts = ("none" if one is None else f"{one:g}" for one in own or [overview.threshold])
    return f"{engine.model} {engine.model_hash[:12]}, threshold {', '.join(dict.fromkeys(texts))}"
