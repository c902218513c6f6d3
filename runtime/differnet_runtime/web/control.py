"""The interface of a station to the web server, which `station/control.py` implements."""

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
    EvidenceEntry,
    EvidenceKind,
    Health,
    Overview,
)


class Control(ABC):
    """The interface of a station to the web server; called by several threads at once.

    Args:
        recent: The latest verdicts, to which the station adds each.
        audit: The audit trail of the station.
    """

    def __init__(self, recent: RecentEvents, audit: AuditTrail) -> None:
        self.recent, self.audit = recent, audit
        self.troubles = Troubles()

    @abstractmethod
    def cameras(self) -> Collection[str]:
        """Returns the names of the cameras; other methods are called with these names only."""

    @abstractmethod
    def live(self) -> bool:
        """Returns whether every stage has made progress recently; if not, a restart is due."""

    @abstractmethod
    def health(self) -> Health:
        """Returns whether the station works, and the reasons if it does not."""

    @abstractmethod
    def overview(self) -> Overview:
        """Returns the state of everything; each viewer asks for it about once a second."""

    def judging(self) -> list[str]:
        """Returns each active model and its thresholds, in words for the audit trail."""
        overview = self.overview()
        return [_judging(engine, overview) for engine in overview.engines or [overview.engine]]

    @abstractmethod
    def jpeg(self, camera: str, *, overlay: bool) -> Jpeg | None:
        """Returns the newest judged frame as a JPEG; None before the first.

        Args:
            camera: Name of the camera.
            overlay: Whether heatmap and verdict are drawn on it.
        """

    @abstractmethod
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

    @abstractmethod
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

    @abstractmethod
    def evidence_file(self, entry: str, kind: EvidenceKind) -> Path | None:
        """Returns the file of a kept picture; None if it does not exist any more."""

    @abstractmethod
    def models(self) -> list[ModelView]:
        """Returns the models that can be activated; empty if a model file is configured.

        Raises:
            ModelStoreError: The store can't be read.
        """

    @abstractmethod
    def activate(self, model_hash: str, name: str | None = None) -> None:
        """Switches to a model; blocks until it has passed its checks or was rolled back.

        Args:
            model_hash: Content hash of the model.
            name: Its name in the store; needed only if the station has it under several names.

        Raises:
            ModelStoreError: There is no such model, or it did not pass; the old one judges on.
            EngineFault: It failed under load; the old one judges on.
        """

    @abstractmethod
    def rollback(self, name: str | None = None) -> None:
        """Switches back to the previous model; blocks and raises like `activate`.

        Args:
            name: Name of the model; None if the station runs only one of the store.
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
        """Starts the trial of a model on a camera, and ends a trial that runs there.

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
        """Labels a kept picture, or removes its label; committed when this returns.

        Args:
            entry: Id of the picture.
            wanted: The label that it gets.
            by: Author, as in the audit trail.

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
        """Returns what the labels say about a camera's current model.

        Raises:
            StoreError: They can't be read.
        """

    @abstractmethod
    def set_threshold(self, camera: str, wanted: ThresholdToSet, by: str) -> None:
        """Sets the threshold of a camera's current model, from the next frame on.

        Raises:
            LabelError: It would reject all parts, or let labelled defects pass, and is not forced.
            StoreError: It can't be stored; nothing changes.
        """

    @abstractmethod
    def undo_threshold(self, camera: str) -> None:
        """Undoes the latest change of the threshold.

        Raises:
            LabelError: None was set for the current model.
            StoreError: It can't be stored; nothing changes.
        """

    @property
    @abstractmethod
    def teaching(self) -> Teaching:
        """The data sets and trainings of the page Teach."""

    @abstractmethod
    def reset_parts(self, cameras: Collection[str]) -> None:
        """Resets the part counts of these cameras to zero."""


def _judging(engine: EngineView, overview: Overview) -> str:
    if not engine.model:
        return f"{engine.name}: no model"
    own = [camera.threshold for camera in overview.cameras if camera.name in engine.cameras]
    texts = ("none" if one is None else f"{one:g}" for one in own or [overview.threshold])
    return f"{engine.model} {engine.model_hash[:12]}, threshold {', '.join(dict.fromkeys(texts))}"
