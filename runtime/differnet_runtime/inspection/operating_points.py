"""What each threshold does to labelled pictures: good parts rejected against defects missed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

MOST_POINTS = 1000
"""Most thresholds that are kept, evenly spread over the sorted scores."""

DEFECT_SHARE = 0.01
"""Share of defective parts that costs assume, if none is given."""

PARTS = 1000
"""Number of parts that expected costs are for."""

Scores = NDArray[np.float64]


def ranked(scores: Scores) -> Scores:
    """Replaces scores that are not finite by the highest rank: a machine rejects such a part."""
    return np.where(np.isfinite(scores), scores, np.finfo(np.float64).max)


class OperatingPoint(BaseModel):
    """A threshold, and what it does to the judged pictures.

    Args:
        threshold: Scores above it are defects.
        false_rejects: Number of good parts that are rejected.
        misses: Number of defective parts that are judged good.
        cost: Expected cost of 1,000 parts; None where no costs were given.
    """

    model_config = ConfigDict(frozen=True)

    threshold: float
    false_rejects: int
    misses: int
    cost: float | None = None


class Costs(BaseModel):
    """What wrong verdicts cost, in any one unit.

    Args:
        miss: Cost of a defective part that is judged good.
        reject: Cost of a good part that is rejected.
        defect_share: Assumed share of defective parts among all.

    Example:
        >>> costs = Costs(miss=100.0, reject=2.0)
        >>> costs.expected(np.array([0.05]), np.array([0.1])).round().tolist()
        [199.0]
    """

    model_config = ConfigDict(frozen=True)

    miss: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    reject: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    defect_share: Annotated[float, Field(gt=0, lt=1)] = DEFECT_SHARE

    def expected(self, false_reject_rate: Scores, miss_rate: Scores) -> Scores:
        """Returns the expected cost of 1,000 parts at each pair of rates."""
        misses = self.defect_share * miss_rate * self.miss
        return PARTS * (misses + (1.0 - self.defect_share) * false_reject_rate * self.reject)


def operating_points(
    good: Scores, defect: Scores, in_use: float | None = None, costs: Costs | None = None
) -> tuple[OperatingPoint, ...]:
    """Returns a point for each threshold that changes a verdict, the lowest threshold first.

    A threshold lies between two neighbouring scores and has as few digits as possible, so that it
    can be copied from a page without changing a verdict. Of many, the cheapest is always kept.

    Args:
        good: Scores of good parts; one that is not finite is rejected at every threshold.
        defect: Scores of defective parts, with the same rule.
        in_use: The threshold in use, which gets a point of its own.
        costs: Costs of wrong verdicts; they need scores of both kinds of parts.
    """
    together = np.concatenate([good, defect])
    scores = np.unique(together[np.isfinite(together)])
    if not len(scores):
        return ()
    count = _Counter(good, defect, costs)
    least, greatest = float(scores[0]), float(scores[-1])
    # The lowest threshold lies below all scores, but not below 0 where they are above it.
    lower = 0.8 * least if least > 0.0 else least - max(1.0, abs(least))
    upper = greatest + max(0.25 * abs(greatest), 1e-9)
    ends = np.concatenate([[lower], scores, [upper]])
    points = [
        count.point(_between(float(ends[k]), float(ends[k + 1]))) for k in _kept(count, ends[:-1])
    ]
    if in_use is not None:
        points = [point for point in points if point.threshold != in_use] + [count.point(in_use)]
    return tuple(sorted(points, key=lambda point: point.threshold))


def cheapest(
    points: Sequence[OperatingPoint], in_use: float | None = None
) -> OperatingPoint | None:
    """Returns the cheapest point; among equals the one in use, else the one that misses least."""

    def order(point: OperatingPoint) -> tuple[float, bool, int]:
        assert point.cost is not None
        return point.cost, point.threshold != in_use, point.misses

    return min((point for point in points if point.cost is not None), key=order, default=None)


class _Counter:
    """Counts the wrong verdicts at thresholds."""

    def __init__(self, good: Scores, defect: Scores, costs: Costs | None) -> None:
        self._good, self._defect = np.sort(ranked(good)), np.sort(ranked(defect))
        self._costs = costs

    def counts(self, thresholds: Scores) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        passed = np.searchsorted(self._good, thresholds, side="right")
        return len(self._good) - passed, np.searchsorted(self._defect, thresholds, side="right")

    def costs(self, thresholds: Scores) -> Scores | None:
        if self._costs is None:
            return None
        false_rejects, misses = self.counts(thresholds)
        return self._costs.expected(false_rejects / len(self._good), misses / len(self._defect))

    def point(self, threshold: float) -> OperatingPoint:
        at = np.array([threshold])
        (false_rejects,), (misses,) = self.counts(at)
        costs = self.costs(at)
        return OperatingPoint(
            threshold=threshold,
            false_rejects=int(false_rejects),
            misses=int(misses),
            cost=None if costs is None else float(costs[0]),
        )


def _kept(count: _Counter, thresholds: Scores) -> list[int]:
    """Returns the positions of at most `MOST_POINTS` thresholds, the cheapest among them."""
    if len(thresholds) <= MOST_POINTS:
        return list(range(len(thresholds)))
    kept = set(np.linspace(0, len(thresholds) - 1, MOST_POINTS - 1).round().astype(int).tolist())
    costs = count.costs(thresholds)
    return sorted(kept if costs is None else kept | {int(costs.argmin())})


def _between(low: float, high: float) -> float:
    """Returns the number with the fewest digits between two; `low` where there is none."""
    middle = low + (high - low) / 2
    for digits in range(17):
        rounded = float(f"{middle:.{digits}e}")
        if low < rounded < high:
            return rounded
    return low
