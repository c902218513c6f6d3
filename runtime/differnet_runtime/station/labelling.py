"""What an operator corrects: labels of kept pictures, and the threshold that follows from them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

from ..errors import LabelError, StoreError
from ..evidence.index import EvidenceItem
from ..inference.process import EngineProcess
from ..labels import (
    LabelDatabase,
    Labelled,
    LabelStore,
    ThresholdChange,
    Thresholds,
    changed,
    misses,
    summary,
)
from ..model_file.metadata import Calibration
from ..sentences import sentence
from ..web.model_views import LabelSummary, LabelToSet, LabelView, ThresholdToSet

if TYPE_CHECKING:
    from .models import StationModel
    from .station import Station


_MOST_REJECTED = 0.5
"""A threshold that rejects a greater share of the calibration's good parts must be forced."""
_CHANGES = 20
"""So many changes of threshold are shown."""


class Labelling:
    """Answers what concerns labels and thresholds.

    Args:
        station: Being built; it is asked once it runs.
        book: Where both are stored.
    """

    def __init__(self, station: Station, book: LabelDatabase) -> None:
        self._station, self.book = station, book
        self.store, self._thresholds = LabelStore(book), Thresholds(book)

    def threshold(self, camera: str, model: StationModel, engine: EngineProcess) -> float | None:
        """Returns the threshold in place of the model's for what an engine scores; None for it.

        Args:
            camera: Name.
            model: That judges it; in a reload the camera's last frames are still the old one's.
            engine: One of the model's.

        Raises:
            EngineFault: The engine was never meant for this camera.
        """
        model.require_its_own(camera, engine)
        return self._threshold(camera, model, engine)

    def threshold_of(self, camera: str, model: str, configured: float | None) -> float | None:
        """Returns the threshold in place of a model's; None for it; see `Thresholds.threshold`."""
        return self._thresholds.threshold(camera, model, configured)

    def _threshold(self, camera: str, model: StationModel, engine: EngineProcess) -> float | None:
        return self.threshold_of(camera, engine.model_hash, model.threshold(camera, engine))

    def label(self, entry: str, wanted: LabelToSet, by: str) -> Labelled | None:
        """See `Control.label`."""
        before = self.store.find(entry)
        if wanted.label is None:
            self.store.remove(entry)
        else:
            item = self._station.evidence.find(entry)
            known = before if item is None else _labelled(item)
            if known is None:
                raise LabelError(sentence("picture_gone", picture=entry))
            update = {**wanted.model_dump(), "labelled_at_s": time.time(), "labelled_by": by}
            self.store.set(known.model_copy(update=update))
        self._station.evidence.notes.mark(entry, labelled=wanted.label is not None)
        return before

    def known(self) -> dict[str, Labelled]:
        """Returns every label by its picture's id; none while they can't be read."""
        try:
            return {one.id: one for one in self.store.all()}
        except StoreError:
            return {}

    def in_use(self, camera: str) -> float | None:
        """Returns the threshold that decides on a camera's frames now; None without one."""
        return self._in_use(camera, *self._judging(camera))

    def common(self) -> float | None:
        """Returns the threshold of all cameras where they have the same; else the engine's own."""
        found = {self.in_use(name) for name in self._station.cameras}
        if len(found) == 1:
            return found.pop()
        first = self._station.models.first
        return first.judging(first.planned.cameras[0])

    def labels(self) -> list[LabelView]:
        """See `Control.labels`."""
        evidence = self._station.evidence
        return [
            LabelView(**one.model_dump(), picture=evidence.path(one.id) is not None)
            for one in self.store.all()
        ]

    def summary(self, camera: str) -> LabelSummary:
        """See `Control.label_summary`."""
        model, engine = self._judging(camera)
        in_use, change = self._in_use(camera, model, engine), self._change(camera, model, engine)
        configured = model.threshold(camera, engine)
        set_by: Literal["model", "configuration", "station"] = (
            "station" if change else "model" if configured is None else "configuration"
        )
        found = summary(self.store.all(), camera, engine.model_hash, in_use)
        return LabelSummary(
            **found.model_dump(),
            camera=camera,
            name=engine.metadata.name,
            hash=engine.model_hash,
            threshold=in_use,
            set_by=set_by,
            changes=self._thresholds.history(camera)[:_CHANGES],
        )

    def set_threshold(self, camera: str, wanted: ThresholdToSet, by: str) -> None:
        """See `Control.set_threshold`."""
        (model, engine), new = self._judging(camera), wanted.threshold
        if engine.absent:
            raise LabelError(sentence("threshold_no_model", camera=camera))
        old = self._in_use(camera, model, engine)
        calibration = engine.metadata.calibration
        if calibration is not None and new < calibration.lowest_plausible:
            raise LabelError(
                sentence("threshold_too_low", threshold=new, lowest=calibration.lowest_plausible)
            )
        if not wanted.force:
            self._refuse(camera, engine, old, new)
        self._thresholds.set(
            changed(
                camera,
                engine.model_hash,
                by,
                old=old,
                new=new,
                configured=model.threshold(camera, engine),
            )
        )

    def _refuse(self, camera: str, engine: EngineProcess, old: float | None, new: float) -> None:
        """Refuses what is probably a mistake.

        Raises:
            LabelError: More labelled defects would pass, or most good parts be rejected.
        """
        labels = self.store.all()
        passed = misses(labels, camera, engine.model_hash, new)
        before = 0 if old is None else misses(labels, camera, engine.model_hash, old)
        if passed > before:
            raise LabelError(
                sentence("threshold_misses", threshold=new, misses=passed, before=before)
            )
        calibration = engine.metadata.calibration
        if calibration is not None and (share := _rejected(calibration, new)) > _MOST_REJECTED:
            raise LabelError(sentence("threshold_rejects", threshold=new, share=share))

    def undo_threshold(self, camera: str) -> None:
        """See `Control.undo_threshold`."""
        model, engine = self._judging(camera)
        if self._change(camera, model, engine) is None:
            raise LabelError(sentence("threshold_not_set", camera=camera))
        self._thresholds.undo(camera, engine.model_hash)

    def _judging(self, camera: str) -> tuple[StationModel, EngineProcess]:
        """Returns what judges a camera; the first model where a reload just removes it."""
        model = self._station.models.of(camera) or self._station.models.first
        return model, model.switch.engine

    def _change(
        self, camera: str, model: StationModel, engine: EngineProcess
    ) -> ThresholdChange | None:
        configured = model.threshold(camera, engine)
        return self._thresholds.valid(camera, engine.model_hash, configured)

    def _in_use(self, camera: str, model: StationModel, engine: EngineProcess) -> float | None:
        if engine.absent:
            return None
        own, calibration = self._threshold(camera, model, engine), engine.metadata.calibration
        return own if own is not None else calibration.threshold if calibration else None


def _labelled(item: EvidenceItem) -> Labelled:
    return Labelled(
        id=item.id,
        label="good",  # what is wanted takes its place
        labelled_at_s=0.0,
        labelled_by="",
        at_s=item.at_s,
        camera=item.camera,
        part=item.part,
        first=item.first,
        verdict=item.verdict,
        score=item.score,
        threshold=item.threshold,
        model=item.model,
        view=item.view,
    )


def _rejected(calibration: Calibration, threshold: float) -> float:
    """Returns the share of the calibration's good parts above a threshold."""
    scores = calibration.good_scores
    above = sum(score > threshold for score in scores) + calibration.rejected
    return above / (len(scores) + calibration.rejected)
