"""Figures of kept runs: AUROC, misses and false rejects, of a half or the whole."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from differnet_runtime.errors import CalibrationError
from differnet_runtime.inspection.calibration import calibrate
from differnet_runtime.inspection.operating_points import ranked
from differnet_training.results import CONFIDENCE, auroc, bootstrap_auroc, rate, rejected

from .halves import CHOOSE, REPORT, WHOLE
from .judged import Record

RATES = (0.05, 0.01)
RESAMPLES = 1000
Scores = NDArray[np.float64]
Named = dict[str, float]


def named_scores(record: Record, half: str) -> tuple[Named, Named]:
    """Returns the scores of good and of defective pictures by kind and name."""
    good: Named = {}
    defect: Named = {}
    for name in (CHOOSE, REPORT) if half == WHOLE else (half,):
        for kind, scores in record["scores"].get(name, {}).items():
            into = good if kind == "good" else defect
            for file, score in scores.items():
                into[f"{kind}/{file}"] = np.nan if score is None else score
    return good, defect


def figures(record: Record, half: str) -> dict[str, Any]:
    """Returns what a run reached on a half, `whole` for both."""
    good, defect = (np.array(list(part.values())) for part in named_scores(record, half))
    interval = bootstrap_auroc(good, defect)
    return {
        "good": len(good),
        "defect": len(defect),
        "image_auroc": {"value": interval.value, "low": interval.low, "high": interval.high},
        "own_threshold": [_at_own(record, good, defect, wanted) for wanted in RATES],
        "judged_threshold": [_at_judged(good, defect, wanted) for wanted in RATES],
        "pixels": record["pixels"].get(half),
    }


def _at_own(record: Record, good: Scores, defect: Scores, wanted: float) -> dict[str, float] | None:
    """Counts at the threshold of the method's own good scores; None where they are too few."""
    folds = record.get("calibrated", "split") != "split"
    how = {"method": record["calibrated"]} if folds else {}
    try:
        scores = record["calibration"]
        threshold = calibrate(scores, wanted, scored_by="torch", **how).threshold
    except CalibrationError:
        return None
    return {
        "rate": wanted,
        "false_rejects": rejected(good, threshold),
        "misses": len(defect) - rejected(defect, threshold),
    }


def _at_judged(good: Scores, defect: Scores, wanted: float) -> dict[str, float]:
    """Counts misses where at most that share of the judged good pictures is rejected."""
    allowed = int(wanted * len(good) + 1e-9)
    threshold = float(np.sort(ranked(good))[::-1][allowed])
    return {"rate": wanted, "misses": len(defect) - rejected(defect, threshold)}


class Resampled:
    """AUROC of runs of one set, averaged over their seeds, with resamples of the pictures.

    A resample draws the pictures of each side that any of the runs judged, so that two methods
    that are given the same names have the same resamples: their differences are paired.

    Args:
        runs: Of one method, each with another seed.
        names: Good and defective pictures to draw from; None takes those of the runs.
    """

    def __init__(
        self,
        runs: Sequence[tuple[Named, Named]],
        names: tuple[Sequence[str], Sequence[str]] | None = None,
    ) -> None:
        names = names_of(runs) if names is None else names
        weights = _weights(names)
        self.fewer = min(len(names[0]), len(names[1]))
        self.value = float(np.mean([auroc(*map(_values, run)) for run in runs]))
        self.draws: Scores = np.mean([_drawn(run, names, weights) for run in runs], axis=0)


def names_of(runs: Sequence[tuple[Named, Named]]) -> tuple[list[str], list[str]]:
    """Returns the names of all good and all defective pictures of some runs."""
    return sorted({n for g, _ in runs for n in g}), sorted({n for _, d in runs for n in d})


def mean_interval(parts: Sequence[Resampled]) -> tuple[float, float]:
    """Returns the middle 95 % of the mean of some sets.

    Where every pair is in order no resample can show an error: the interval is then the exact one
    of as many independent pairs as the sets have (`metrics.bootstrap_auroc`).
    """
    value, pairs = float(np.mean([part.value for part in parts])), sum(p.fewer for p in parts)
    if value in (0.0, 1.0):
        exact = rate(round(value * pairs), pairs)
        return exact.low, exact.high
    return interval(np.mean([part.draws for part in parts], axis=0))


def interval(draws: Scores) -> tuple[float, float]:
    """Returns the middle 95 % of resamples."""
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _values(scores: Named) -> Scores:
    return np.array(list(scores.values()))


def _weights(names: tuple[Sequence[str], Sequence[str]]) -> tuple[Scores, Scores]:
    """Returns how often each picture is drawn: `(RESAMPLES, N)` for good and for defective."""
    text = "\n".join([*names[0], *names[1]])
    random = np.random.default_rng(zlib.crc32(text.encode()))
    good, defect = (
        random.multinomial(len(side), np.full(len(side), 1 / len(side)), RESAMPLES).astype(float)
        for side in names
    )
    return good, defect


def _drawn(
    run: tuple[Named, Named],
    names: tuple[Sequence[str], Sequence[str]],
    weights: tuple[Scores, Scores],
) -> Scores:
    """Returns the AUROC of one run in each resample."""
    sides, drawn = [], []
    for scores, side, weight in zip(run, names, weights, strict=True):
        present = [k for k, name in enumerate(side) if name in scores]
        sides.append(ranked(np.array([scores[side[k]] for k in present])))
        drawn.append(weight[:, present])
    good, defect = sides
    wins = (defect > good[:, None]) + 0.5 * (defect == good[:, None])
    pairs = drawn[0].sum(axis=1) * drawn[1].sum(axis=1)
    found: Scores = ((drawn[0] @ wins) * drawn[1]).sum(axis=1) / np.maximum(pairs, 1.0)
    return found
