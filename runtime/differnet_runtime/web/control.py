"""What can be asked of a station; the daemon answers, the web server passes on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from ..events import InspectionEvent
from .audit import AuditTrail
from .recent import RecentEvents
from .troubles import Troubles
from .views import (
    CameraView,
    EngineView,
    EvidenceEntry,
    EvidenceKind,
    EvidenceView,
    Health,
    ModelView,
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
    "Jpeg",
    "ModelView",
    "OutboxView",
    "Overview",
    "SettingView",
    "SinkView",
    "WebView",
]


@dataclass(frozen=True)
class Jpeg:
    """A picture of a camera, ready to be sent.

    Args:
        number: Rises with every new picture of the camera.
        captured_ns: `time.monotonic_ns()` after its frame was read.
        data: The file.
        event: The verdict on this very frame.
    """

    number: int
    captured_ns: int
    data: bytes
    event: InspectionEvent


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

    def judging(self) -> str:
        """Returns what judges now, for the audit trail: the model and its threshold."""
        overview = self.overview()
        threshold = "none" if overview.threshold is None else f"{overview.threshold:g}"
        engine = overview.engine
        return f"{engine.model} {engine.model_hash[:12]}, threshold {threshold}"

    @abstractmethod
    def jpeg(self, camera: str, *, overlay: bool) -> Jpeg | None:
        """Returns the newest judged frame (`web.live.LivePicture` does it); None before the first.

        Args:
            camera: Name.
            overlay: With heatmap and verdict drawn on it.
        """

    @abstractmethod
    def trigger(self, camera: str, part: str | None) -> InspectionEvent:
        """Judges a part now; blocks until the verdict, at most the camera's deadline.

        Raises:
            CameraError: The camera runs free, or a part before is still being judged.
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
    def activate(self, model_hash: str) -> None:
        """Switches to that model; blocks until it has passed or was taken back.

        Raises:
            ModelStoreError: There is no such model, or it did not pass; the old one judges on.
            EngineFault: It failed under load; likewise.
        """

    @abstractmethod
    def rollback(self) -> None:
        """Switches to the model that judged before; blocks and raises as `activate`."""
