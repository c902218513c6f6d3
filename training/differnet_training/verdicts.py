"""The verdicts on labelled pictures, as a camera would get them, from scores at hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from differnet_runtime.calibration import judged
from differnet_runtime.command import progress
from differnet_runtime.config.integrity import IntegrityConfig
from differnet_runtime.errors import ImageReadError
from differnet_runtime.images import read_image
from differnet_runtime.inspection import Answer, frame_of, inspect_frame, unreadable
from differnet_runtime.integrity import IntegrityGate
from differnet_runtime.metadata import ModelMetadata
from differnet_runtime.records import Decision, Verdict

from .datasets import Label, Picture
from .results import Undecided

_NO_THRESHOLD = "no_threshold"


class _KnownScore:
    """An engine that gives a score which was computed before."""

    def __init__(self, metadata: ModelMetadata) -> None:
        self.metadata = metadata
        self.value = np.nan
        self._prepared = np.empty(metadata.input.shape, np.uint8)

    def buffer(self) -> NDArray[np.uint8]:
        return self._prepared

    def infer(self, _prepared: NDArray[np.uint8], _deadline_s: float | None = None) -> Answer:
        return Answer(judged(self.value, self.metadata.calibration), "", 0.0, "")


def verdicts(
    pictures: Sequence[Picture],
    values: NDArray[np.float64],
    metadata: ModelMetadata,
    threshold: float | None,
) -> tuple[Decision, ...]:
    """Returns the verdict on each picture: NO_DECISION where a camera's frame would get none.

    Args:
        pictures: N of them.
        values: `(N,)` scores.
        metadata: Of the model.
        threshold: Used in place of the model's.
    """
    engine, gate = _KnownScore(metadata), IntegrityGate(IntegrityConfig(), metadata)
    found = []
    pairs = zip(pictures, values, strict=True)
    for picture, value in progress(pairs, "checking", total=len(pictures), unit="image"):
        engine.value = float(value)
        try:
            frame = frame_of(read_image(picture.path), str(picture.path))
        except ImageReadError as error:
            found.append(unreadable(error))
            continue
        inspected = inspect_frame(frame, engine, gate, threshold=threshold, score_refused=True)
        found.append(inspected.decision)
    return tuple(found)


def is_undecided(decision: Decision) -> bool:
    """Whether a picture is NO_DECISION for its own sake, and not for want of a threshold."""
    return decision.verdict is Verdict.NO_DECISION and decision.code != _NO_THRESHOLD


def count_undecided(pictures: Sequence[Picture], decisions: Sequence[Decision]) -> Undecided:
    """Counts the pictures without a decision, by label and by code."""
    chosen = [pair for pair in zip(pictures, decisions, strict=True) if is_undecided(pair[1])]
    labels = Counter(picture.label for picture, _ in chosen)
    codes = Counter(decision.code or "" for _, decision in chosen)
    return Undecided(
        good=labels[Label.GOOD],
        defect=labels[Label.DEFECT],
        uncertain=labels[Label.UNCERTAIN],
        codes=dict(codes.most_common()),
    )
