"""What evaluation finds: figures of merit with their intervals, and the records that hold them.

`report.json` is a `Report`.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy.stats import beta
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from differnet_runtime.benchmark.report import processor
from differnet_runtime.errors import DataError
from differnet_runtime.inspection.operating_points import Costs, OperatingPoint, Scores, ranked
from differnet_runtime.model_file.metadata import ModelMetadata

from .datasets import ImageFile, Label

CONFIDENCE = 0.95
RESAMPLES = 1000

_PACKAGES = (
    "differnet-edge",
    "numpy",
    "onnxruntime",
    "onnxruntime-gpu",
    "opencv-python",
    "opencv-python-headless",
    "tensorrt",
)


def describe_machine() -> dict[str, str]:
    """Returns processor, cores, system and the versions of what scores frames, by name."""
    return {
        "processor": processor(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: found for name in _PACKAGES if (found := _version(name)) is not None},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Figure(_Frozen):
    """A value with its confidence interval."""

    value: float
    low: float
    high: float
    confidence: float = CONFIDENCE


class Rate(Figure):
    """A share, `count` of `of`, with Clopper and Pearson's exact interval."""

    count: int
    of: int


class KindRow(_Frozen):
    """Figures of one class of defect, or one degree of uncertainty, against the good parts."""

    kind: str
    images: int
    image_auroc: float | None
    rejected: Rate | None


Heatmap = tuple[tuple[float, ...], ...]


class ImageResult(_Frozen):
    """The verdict on one image.

    `heatmap` holds rows of values and `head` the name of the head that decided, if the model has
    them. `mask` is the file that marks the defect's pixels. `code` and `reason` say why
    an image is NO_DECISION; its score is kept.
    """

    path: str
    label: str
    kind: str
    score: float | None
    verdict: str
    code: str | None = None
    reason: str | None = None
    heatmap: Heatmap | None = None
    head: str | None = None
    mask: str | None = None


class HeadRow(_Frozen):
    """One head's AUROC, with and without its coupling blocks (`start_auroc`).

    The row named `joined` is of the whole model. `decided` counts the images whose highest score
    was this head's.
    """

    name: str
    epochs: int
    image_auroc: float
    start_auroc: float
    decided: int


class Seeds(_Frozen):
    """AUROCs of flows that were trained on the same data with other seeds."""

    seeds: tuple[int, ...]
    aurocs: tuple[float, ...]
    mean: float
    standard_deviation: float


class Localization(_Frozen):
    """How well heatmaps find the pixels of defects.

    `scale` is the value drawn in full colour. The metrics are None if no image has a mask.
    `unusable_masks` names the masks that could not be used, one line each; their images are in no
    metric.
    """

    folder: str
    drawn: int
    with_masks: int
    scale: float
    pixel_auroc: float | None
    aupro: float | None
    unusable_masks: tuple[str, ...] = ()


class Undecided(_Frozen):
    """Number of images without a decision, by label and by code (`blurred`, `wrong_size`)."""

    good: int = 0
    defect: int = 0
    uncertain: int = 0
    codes: dict[str, int] = {}


class Report(_Frozen):
    """All that evaluation found.

    Figures that compare good with defective parts are None if one of the two is missing. Images
    without a decision (`no_decision`, `undecided`) count as rejected at every threshold; in
    `image_auroc`, `image_aupr` and the AUROC of the `kinds` they count by their scores.
    `threshold` gave the verdicts; `model_threshold` is the model's own. `operating_points` say
    what other thresholds would do, with expected costs if `costs` were given; `cheapest` has the
    lowest. `machine` is where `latency_ms` was measured. `look` is what screening found in the
    normal images before training.
    """

    name: str
    scored_by: str
    good: int
    defect: int
    image_auroc: Figure | None
    image_aupr: float | None
    threshold: float | None
    model_threshold: float | None = None
    calibration: str | None
    false_reject: Rate | None
    miss: Rate | None
    no_decision: int
    undecided: Undecided = Undecided()
    operating_points: tuple[OperatingPoint, ...] = ()
    costs: Costs | None = None
    cheapest: OperatingPoint | None = None
    advice: tuple[str, ...] = ()
    kinds: tuple[KindRow, ...]
    uncertain: tuple[KindRow, ...]
    baselines: dict[str, Figure] | None
    minus_gaussian: Figure | None
    earns_its_place: str
    latency_ms: dict[str, float] | None
    machine: dict[str, str] | None = None
    seeds: Seeds | None
    localization: Localization | None = None
    heads: tuple[HeadRow, ...] = ()
    training: dict[str, Any]
    look: dict[str, Any] = {}
    note: str
    model: ModelMetadata
    results: tuple[ImageResult, ...]
    baseline_scores: dict[str, tuple[float, ...]]


def printable(text: str) -> str:
    """Replaces bytes that are not UTF-8, so that JSON and HTML can hold the text."""
    return os.fsencode(text).decode("utf-8", "replace")


class Groups:
    """Scores of images by label and kind.

    Args:
        images: The N images judged.
        values: `(N,)` scores.
        undecided: `(N,)`, whether an image is NO_DECISION, whatever its score; None if none is.

    Raises:
        DataError: None of the images is labelled good or defective.
    """

    def __init__(
        self,
        images: Sequence[ImageFile],
        values: NDArray[np.float64],
        undecided: NDArray[np.bool_] | None = None,
    ) -> None:
        self.labels = np.array([image.label.value for image in images])
        self.kinds = np.array([image.kind for image in images])
        self.values = values
        self.rejectable = values if undecided is None else np.where(undecided, np.inf, values)
        """The scores, infinite for images that are rejected at every threshold."""
        if not np.isin(self.labels, [Label.GOOD.value, Label.DEFECT.value]).any():
            raise DataError(
                "there is no picture to judge by: none shows a good or a defective part"
            )

    @property
    def both(self) -> bool:
        """Whether there are good and defective parts, so that the two can be compared."""
        return {Label.GOOD.value, Label.DEFECT.value} <= set(self.labels)

    def of(self, label: Label, values: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """Returns the scores (or other values) of the images with a label."""
        return np.asarray((self.values if values is None else values)[self.labels == label.value])

    def pair(self, values: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Returns other scores of the same images, those of good and those of defective parts."""
        scores = values.astype(np.float64)
        return self.of(Label.GOOD, scores), self.of(Label.DEFECT, scores)

    def rows(self, label: Label, threshold: float | None) -> tuple[KindRow, ...]:
        """Returns a row for each kind of a label."""
        rows, good, labelled = [], self.of(Label.GOOD), self.labels == label.value
        for kind in sorted(set(self.kinds[labelled])):
            chosen = labelled & (self.kinds == kind)
            scores = self.values[chosen]
            rejects = self.rejectable[chosen]
            rows.append(
                KindRow(
                    kind=printable(str(kind)),
                    images=len(scores),
                    image_auroc=auroc(good, scores) if len(good) else None,
                    rejected=None
                    if threshold is None
                    else rate(rejected(rejects, threshold), len(scores)),
                )
            )
        return tuple(rows)


def auroc(good: Scores, defect: Scores) -> float:
    """Returns the area under the ROC curve."""
    return float(roc_auc_score(*_labelled(good, defect)))


def aupr(good: Scores, defect: Scores) -> float:
    """Returns the average precision, defects as the positive class."""
    return float(average_precision_score(*_labelled(good, defect)))


def bootstrap_auroc(good: Scores, defect: Scores, *, seed: int = 0) -> Figure:
    """Returns the AUROC with a percentile interval from a stratified bootstrap.

    If every pair is in order, no resample can show an error and the percentiles would claim
    certainty: the interval is then the exact one of min(good, defects) independent pairs.
    """
    value, pairs = auroc(good, defect), min(len(good), len(defect))
    if value in (0.0, 1.0):
        exact = rate(round(value * pairs), pairs)
        return Figure(value=value, low=exact.low, high=exact.high)
    low, high = _interval(_resampled(good, defect, seed))
    return Figure(value=value, low=low, high=high)


def paired_difference(
    first: tuple[Scores, Scores], second: tuple[Scores, Scores], *, seed: int = 0
) -> Figure:
    """Returns the AUROC of `first` minus `second`, (good, defect) each, on the same resamples."""
    low, high = _interval(_resampled(*first, seed) - _resampled(*second, seed))
    return Figure(value=auroc(*first) - auroc(*second), low=low, high=high)


def _resampled(good: Scores, defect: Scores, seed: int) -> Scores:
    """Returns the AUROC of `RESAMPLES` resamples; the same ones for equal counts and seeds."""
    random = np.random.default_rng(seed)
    good, defect = ranked(good), ranked(defect)
    return np.array(
        [
            _fast_auroc(
                good[random.integers(0, len(good), len(good))],
                defect[random.integers(0, len(defect), len(defect))],
            )
            for _ in range(RESAMPLES)
        ]
    )


def _interval(values: Scores) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _fast_auroc(good: Scores, defect: Scores) -> float:
    """Returns the share of (good, defect) pairs in the right order, ties counting half."""
    ordered = np.sort(good)
    below = np.searchsorted(ordered, defect, side="left")
    up_to = np.searchsorted(ordered, defect, side="right")
    return float((below + up_to).mean() / (2 * len(good)))


def rate(count: int, of: int) -> Rate:
    """Returns `count / of` with Clopper and Pearson's interval (1934)."""
    tail = (1 - CONFIDENCE) / 2
    low = beta.ppf(tail, count, of - count + 1) if count > 0 else 0.0
    high = beta.ppf(1 - tail, count + 1, of - count) if count < of else 1.0
    return Rate(value=count / of, low=float(low), high=float(high), count=count, of=of)


def rejected(scores: Scores, threshold: float) -> int:
    """Returns the number of scores above the threshold or not finite."""
    return int((ranked(scores) > threshold).sum())


def roc(good: Scores, defect: Scores) -> tuple[Scores, Scores]:
    """Returns the ROC curve: false-reject rates and detection rates."""
    false_rejects, detected, _ = roc_curve(*_labelled(good, defect))
    return false_rejects, detected


def _labelled(good: Scores, defect: Scores) -> tuple[Scores, Scores]:
    labels = np.concatenate([np.zeros(len(good)), np.ones(len(defect))])
    return labels, ranked(np.concatenate([good, defect]))
