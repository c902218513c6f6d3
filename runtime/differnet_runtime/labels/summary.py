"""What labels say of a model: its false rejects and misses, and what another threshold would do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ..metadata import Part
from ..operating_points import OperatingPoint, operating_points
from .records import Labelled


class Point(Part):
    """A threshold, and what it does to the labelled parts; see `OperatingPoint`."""

    threshold: float
    false_rejects: int
    misses: int


class Summary(Part):
    """What the labels of one camera say of one model.

    Args:
        good: Parts labelled good that have a score by this model.
        defect: Parts labelled defective; likewise.
        unscored: Labelled parts without a score: they had no decision.
        false_rejects: Good parts that were rejected.
        misses: Defective parts that were judged good.
        points: What each threshold that changes a verdict would have done, the lowest first.
    """

    good: int
    defect: int
    unscored: int
    false_rejects: int
    misses: int
    points: list[Point]


def misses(labels: Iterable[Labelled], camera: str, model: str, threshold: float) -> int:
    """Returns how many labelled defects of a camera a threshold lets pass."""
    return sum(
        one.label == "defect" and one.score is not None and one.score <= threshold
        for one in labels
        if (one.camera, one.model) == (camera, model)
    )


def summary(labels: Iterable[Labelled], camera: str, model: str, in_use: float | None) -> Summary:
    """Sums up the labels on a camera's verdicts by a model.

    Args:
        labels: All there are.
        camera: Name.
        model: Content hash.
        in_use: The threshold that judges now; it gets a point of its own.
    """
    found = [one for one in labels if (one.camera, one.model) == (camera, model)]
    scored = [one for one in found if one.score is not None]
    good, defect = (
        np.array([one.score for one in scored if one.label == label], np.float64)
        for label in ("good", "defect")
    )
    points: Sequence[OperatingPoint] = operating_points(good, defect, in_use)
    return Summary(
        good=len(good),
        defect=len(defect),
        unscored=len(found) - len(scored),
        false_rejects=sum(one.wrong and one.label == "good" for one in scored),
        misses=sum(one.wrong and one.label == "defect" for one in scored),
        points=[Point(**point.model_dump(exclude={"cost"})) for point in points],
    )
