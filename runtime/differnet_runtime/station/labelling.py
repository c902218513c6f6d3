"""What an operator corrects: labels of kept pictures, and the threshold that follows."""

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
    misses,
    summary,
)
from ..model_file.metadata import Calibration
from ..sentences import sentence
from ..web.model_views import LabelSummary, LabelToSet, LabelView, ThresholdToSet

if TYPE_CHECKING:
    from .station import Station


_MOST_REJECTED = 0.5
"""A threshold that rejects a greater share of the calibration's good parts must be forced."""
_CHANGES = 20
"""Number of threshold changes that are shown."""


class Labelling:
    """Stores labels and thresholds that people set, and says what follows from them.

    Args:
        station: The station; may still be under construction.
        book: Database of labels and thresholds.
    """

    def __init__(self, station: Station, book: LabelDatabase) -> None:
        self._station, self.book = station, book
        self.store, self.thresholds = LabelStore(book), Thresholds(book)

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
        before = self.store.find(entry)
        if wanted.label is None:
            self.store.remove(entry)
        else:
            known = self._station.evidence.find(entry) or before
            if known is None:
                raise LabelError(sentence("picture_gone", picture=entry))
            said = {**wanted.model_dump(), "labelled_at_s": time.time(), "labelled_by": by}
            self.store.set(_labelled(known, **said))
        self._station.evidence.notes.mark(entry, labelled=wanted.label is not None)
        return before

    def known(self) -> dict[str, Labelled]:
        """Returns every label by the id of its picture; empty while they can't be read."""
        try:
            return {one.id: one for one in self.store.all()}
        except StoreError:
            return {}

    def in_use(self, camera: str) -> float | None:
        """Returns the threshold that decides on a camera's frames now; None if there is none."""
        return self._in_use(camera, self._judging(camera))

    def common(self) -> float | None:
        """Returns the common threshold of all cameras, or else the first model's configured one."""
        found = {self.in_use(name) for name in self._station.cameras}
        if len(found) == 1:
            return found.pop()
        first = self._station.models.first
        engine = first.switch.engine
        return _effective(engine.thresholds.get(first.planned.cameras[0]), engine)

    def labels(self) -> list[LabelView]:
        """Returns every label, the latest first.

        Raises:
            StoreError: They can't be read.
        """
        evidence = self._station.evidence
        return [
            LabelView(**one.model_dump(), picture=evidence.path(one.id) is not None)
            for one in self.store.all()
        ]

    def summary(self, camera: str) -> LabelSummary:
        """Returns what the labels say about a camera's current model.

        Raises:
            StoreError: They can't be read.
        """
        engine = self._judging(camera)
        in_use, configured = self._in_use(camera, engine), engine.thresholds.get(camera)
        set_here = (camera, engine.model_hash, configured) in self.thresholds.set_here
        set_by: Literal["model", "configuration", "station"] = (
            "station" if set_here else "model" if configured is None else "configuration"
        )
        found = summary(self.store.all(), camera, engine.model_hash, in_use)
        return LabelSummary(
            **found.model_dump(),
            camera=camera,
            name=engine.metadata.name,
            hash=engine.model_hash,
            threshold=in_use,
            set_by=set_by,
            changes=self.thresholds.history(camera)[:_CHANGES],
        )

    def set_threshold(self, camera: str, wanted: ThresholdToSet, by: str) -> None:
        """Sets the threshold of a camera's current model, from the next frame on.

        Raises:
            LabelError: It would reject all parts, or let labelled defects pass, and is not forced.
            StoreError: It can't be stored; nothing changes.
        """
        engine, new = self._judging(camera), wanted.threshold
        if engine.absent:
            raise LabelError(sentence("threshold_no_model", camera=camera))
        old = self._in_use(camera, engine)
        calibration = engine.metadata.calibration
        if calibration is not None and new < calibration.lowest_plausible:
            raise LabelError(
                sentence("threshold_too_low", threshold=new, lowest=calibration.lowest_plausible)
            )
        if not wanted.force:
            self._refuse(camera, engine, old, new)
        self.thresholds.set(
            ThresholdChange(
                at_s=time.time(),
                by=by,
                camera=camera,
                model=engine.model_hash,
                old=old,
                new=new,
                configured=engine.thresholds.get(camera),
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
        """Undoes the latest change of the threshold.

        Raises:
            LabelError: None was set for the current model.
            StoreError: It can't be stored; nothing changes.
        """
        engine = self._judging(camera)
        key = (camera, engine.model_hash, engine.thresholds.get(camera))
        if key not in self.thresholds.set_here:
            raise LabelError(sentence("threshold_not_set", camera=camera))
        self.thresholds.undo(camera, engine.model_hash)

    def _judging(self, camera: str) -> EngineProcess:
        """Returns what judges a camera; the first model if a reload just removes the camera."""
        return (self._station.models.of(camera) or self._station.models.first).switch.engine

    def _in_use(self, camera: str, engine: EngineProcess) -> float | None:
        configured = engine.thresholds.get(camera)
        own = self.thresholds.threshold(camera, engine.model_hash, configured)
        return _effective(own, engine)


def _effective(own: float | None, engine: EngineProcess) -> float | None:
    """Returns the threshold that decides: the station's own, or else the model's."""
    if engine.absent:
        return None
    calibration = engine.metadata.calibration
    return own if own is not None else calibration.threshold if calibration else None


def _labelled(item: EvidenceItem | Labelled, **label: object) -> Labelled:
    """Returns the label of a kept picture, with all that must be known when the picture is gone."""
    fields = {name: getattr(item, name) for name in Labelled.model_fields if hasattr(item, name)}
    return Labelled.model_validate(fields | label)


def _rejected(calibration: Calibration, threshold: float) -> float:
    """Returns the share of the calibration's good parts that a threshold rejects, from 0 to 1."""
    scores = calibration.good_scores
    above = sum(score > threshold for score in scores) + calibration.rejected
    return above / (len(scores) + calibration.rejected)
