"""What a model is worth on labelled pictures, beside a Gaussian and nearest neighbours.

Keeps pictures that a model learned from out of its evaluation.

The verdicts on labelled pictures, as a camera would get them, from scores at hand.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from differnet_runtime.command import progress, step
from differnet_runtime.config.models import IntegrityConfig
from differnet_runtime.errors import DataError, ImageReadError
from differnet_runtime.images import read_bytes, read_image
from differnet_runtime.inspection.calibration import describe, judged
from differnet_runtime.inspection.image_checks import IntegrityGate
from differnet_runtime.inspection.operating_points import Costs, cheapest, operating_points
from differnet_runtime.inspection.verdict import Answer, frame_of, inspect_frame, unreadable
from differnet_runtime.model_file.metadata import Calibration, ModelMetadata
from differnet_runtime.records import Decision, Verdict

from .advice import advise
from .baselines import Baselines
from .datasets import DataSet, ImageFile, Label
from .features import FeatureReader, Features, ViewPlan
from .head_evaluation import head_rows, heads_sentence, nearest_scores, refit, start_model_scores
from .heads import HeadedModel
from .localization import localize
from .metrics import Figure, aupr, bootstrap_auroc, paired_difference, rate, rejected
from .model import BASELINES, load_model, read_training
from .results import Groups, HeadRow, ImageResult, Report, Undecided, describe_machine, printable
from .scoring import Model, ModelScores, judge_features


def without_trained(data: DataSet, record: dict[str, Any]) -> DataSet:
    """Leaves out the good pictures that trained a model, of a data set that is not divided.

    Args:
        data: Any data set; one that is divided stays as it is.
        record: The training record, with the pictures' hashes.

    Returns:
        The data set; its note says how many pictures were left out.

    Raises:
        DataError: Nothing is left.
    """
    trained = _trained(record)
    if not data.undivided or not trained:
        return data
    doubtful = _doubtful(record)
    contents = {p: _content(p) for p in data.test if p.label is Label.GOOD}
    test = tuple(p for p in data.test if contents.get(p) not in trained | doubtful)
    left_out = sum(content in trained for content in contents.values())
    dropped = len(data.test) - len(test) - left_out
    if not test:
        raise DataError(
            f"the model learned from all {left_out} pictures of {data.name}; judged by them, it "
            "would look better than it is. Name others with --data."
        )
    if len(test) == len(data.test):
        return data
    note = f"{left_out} good pictures that the model learned from were left out."
    if dropped:
        note += f" So were {dropped} that training had left out as doubtful."
    return replace(data, test=test, note=f"{data.note} {note}".strip())


def check_unseen(features: Features, record: dict[str, Any]) -> None:
    """Refuses pictures that the model was trained on, byte for byte.

    Raises:
        DataError: Lists them.
    """
    seen = _trained(record)
    doubled = [
        str(picture.path)
        for picture, content in zip(features.pictures, features.content, strict=True)
        if content in seen
    ]
    if doubled:
        listed = "\n".join(f"  {path}" for path in doubled[:20])
        raise DataError(
            f"{len(doubled)} test pictures were used in training, which makes every figure look "
            f"better than it is. Judge by others:\n{listed}"
        )


def _trained(record: dict[str, Any]) -> set[str]:
    return {entry["sha256"] for part in record.get("parts", {}).values() for entry in part}


def _doubtful(record: dict[str, Any]) -> set[str]:
    """Returns the hashes of good pictures that training left out: they are no fair test."""
    findings = record.get("look", {}).get("findings", ())
    return {one["sha256"] for one in findings if one["left_out"]}


def _content(picture: ImageFile) -> str | None:
    try:
        return hashlib.sha256(read_bytes(picture.path)).hexdigest()
    except ImageReadError:
        return None  # reading its features names it


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
    pictures: Sequence[ImageFile],
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


def count_undecided(pictures: Sequence[ImageFile], decisions: Sequence[Decision]) -> Undecided:
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


def evaluate(
    folder: Path,
    data: DataSet,
    *,
    cache: Path | None,
    scores: Mapping[Path, float] | None = None,
    latency_ms: Sequence[float] | None = None,
    scored_by: str = "torch",
    calibration: Calibration | None = None,
    threshold: float | None = None,
    costs: Costs | None = None,
    seeds: int = 1,
    heatmaps: Path | None = None,
    skip_unreadable: bool = False,
) -> Report:
    """Judges a trained model by labelled pictures.

    Args:
        folder: The model's folder.
        data: Labelled pictures in `data.test`; with good or with defective ones alone, what
            compares the two is left out.
        cache: Folder of the feature cache.
        scores: Scores by an exported file, by path, in place of torch's; a picture without one
            counts as rejected.
        latency_ms: Milliseconds of each frame, where they were measured: here, just now.
        scored_by: What gave the scores.
        calibration: The exported file's, which `differnet calibrate` may have set again; None
            takes the model's.
        threshold: Judge at this one in place of the model's.
        costs: What wrong verdicts cost; needs good and defective pictures.
        seeds: Refit the flow with so many seeds, to show the spread.
        heatmaps: Folder for heatmaps of the defective pictures; None draws none.
        skip_unreadable: Go on without pictures that can't be read.

    Raises:
        DataError: Nothing is left to judge, test pictures were trained on, or one class is
            missing where both are needed.
        ModelFileError: There is no whole model.
        TrainingError: `seeds` is asked of a model without a record of its training.
    """
    if seeds < 1:
        raise DataError(f"--seeds takes a whole number from 1 on; received {seeds}")
    model, metadata = load_model(folder)
    metadata = metadata.replaced(calibration=calibration or metadata.calibration)
    record = read_training(folder)
    data = without_trained(data, record)
    _refuse_one_class(data, seeds, costs)
    reader = FeatureReader(
        model.extractor,
        metadata.input,
        cache,
        windows=None if metadata.heads else model.windows,
        heads=metadata.heads,
        skip_unreadable=skip_unreadable,
    )
    features = reader.read(data.test, ViewPlan.fixed(metadata.views.angles), "test features")
    check_unseen(features, record)
    with step("judging"):
        found = judge_features(model, features.values)
        values = found.scores.astype(np.float64)
        if scores is not None:
            values = np.array([scores.get(p.path, np.nan) for p in features.pictures])
        in_use = _threshold(metadata) if threshold is None else threshold
        decisions = verdicts(features.pictures, values, metadata, in_use)
        undecided = np.array([is_undecided(decision) for decision in decisions])
        groups = Groups(features.pictures, values, undecided)
        judged = _judged(groups, metadata, in_use, costs)
    with step("comparing with the baselines"):
        baseline_scores = _baseline_scores(folder, model, record, features)
        heads: tuple[HeadRow, ...] = ()
        if isinstance(model, HeadedModel) and groups.both:
            heads = head_rows(model, record, features, groups)
        compared = _compared(groups, baseline_scores, metadata, heads)
    base = metadata.provenance.seed
    report = Report(
        name=printable(data.name),
        scored_by=scored_by,
        note=data.note,
        model=metadata,
        training=record.get("history", {}),
        look=json.loads(printable(json.dumps(record.get("look", {}), ensure_ascii=False))),
        latency_ms=_latency(latency_ms),
        machine=describe_machine() if latency_ms else None,
        seeds=refit(model, record, reader, features, base, seeds) if seeds > 1 else None,
        localization=localize(model, features.pictures, heatmaps, metadata.windows)
        if heatmaps
        else None,
        no_decision=int(undecided.sum()),
        undecided=count_undecided(features.pictures, decisions),
        results=_results(features, values, found, metadata, decisions),
        heads=heads,
        **judged,
        **compared,
    )
    with step("advice"):
        return report.model_copy(update={"advice": advise(report)})


def _refuse_one_class(data: DataSet, seeds: int, costs: Costs | None) -> None:
    """Refuses options that compare good with defective parts where one of the two is missing."""
    labels = {picture.label for picture in data.test}
    if {Label.GOOD, Label.DEFECT} <= labels:
        return
    for option, asked in (("--seeds", seeds > 1), ("--cost-miss and --cost-reject", costs)):
        if asked:
            missing = "defective" if Label.GOOD in labels else "good"
            raise DataError(
                f"{option} needs good and defective parts to judge by; {data.name} has no "
                f"{missing} ones. Add some, or leave the option out."
            )


def _threshold(metadata: ModelMetadata) -> float | None:
    return metadata.calibration.threshold if metadata.calibration else None


def _judged(
    groups: Groups, metadata: ModelMetadata, threshold: float | None, costs: Costs | None
) -> dict[str, Any]:
    good, defect = groups.of(Label.GOOD), groups.of(Label.DEFECT)
    good_or_refused = groups.of(Label.GOOD, groups.rejectable)
    defect_or_refused = groups.of(Label.DEFECT, groups.rejectable)
    calibration = metadata.calibration
    false_reject = miss = None
    if threshold is not None and len(good):
        false_reject = rate(rejected(good_or_refused, threshold), len(good))
    if threshold is not None and len(defect):
        miss = rate(len(defect) - rejected(defect_or_refused, threshold), len(defect))
    points = operating_points(good_or_refused, defect_or_refused, threshold, costs)
    return {
        "good": len(good),
        "defect": len(defect),
        "image_auroc": bootstrap_auroc(good, defect) if groups.both else None,
        "image_aupr": aupr(good, defect) if groups.both else None,
        "threshold": threshold,
        "model_threshold": _threshold(metadata),
        "calibration": describe(calibration) if calibration else None,
        "false_reject": false_reject,
        "miss": miss,
        "operating_points": points,
        "costs": costs,
        "cheapest": cheapest(points, threshold),
        "kinds": groups.rows(Label.DEFECT, threshold),
        "uncertain": groups.rows(Label.UNCERTAIN, threshold),
    }


def _compared(
    groups: Groups,
    baseline_scores: dict[str, NDArray[np.float64]],
    metadata: ModelMetadata,
    heads: Sequence[HeadRow],
) -> dict[str, Any]:
    if not baseline_scores or not groups.both:
        return {
            "baselines": None,
            "minus_gaussian": None,
            "earns_its_place": "No comparison: it takes good and defective parts."
            if baseline_scores
            else "No baselines: the model was imported, not trained here.",
            "baseline_scores": {},
        }

    def pair(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return groups.of(Label.GOOD, values), groups.of(Label.DEFECT, values)

    difference = paired_difference(pair(groups.values), pair(baseline_scores["gaussian"]))
    return {
        "baselines": {
            name: bootstrap_auroc(*pair(values)) for name, values in baseline_scores.items()
        },
        "minus_gaussian": difference,
        "earns_its_place": heads_sentence(heads, difference)
        if heads
        else _sentence(difference, metadata),
        "baseline_scores": {
            name: tuple(float(value) for value in values)
            for name, values in baseline_scores.items()
        },
    }


def _sentence(difference: Figure, metadata: ModelMetadata) -> str:
    if metadata.provenance.epochs == 0:
        return (
            "Held-out good pictures chose no epoch of training: the model is the Gaussian that the "
            "flow starts from. More, or more varied, good pictures may change that."
        )
    points = (
        f"{100 * difference.value:+.2f} points of AUROC against a Gaussian on the same features"
    )
    interval = f"(95 % interval {100 * difference.low:+.2f} to {100 * difference.high:+.2f})"
    if difference.low > 0:
        return f"The flow earns its place: {points} {interval}."
    if difference.high < 0:
        return f"The flow does NOT earn its place here: {points} {interval}."
    return f"The flow neither helps nor hurts measurably: {points} {interval}."


def _baseline_scores(
    folder: Path, model: Model, record: dict[str, Any], features: Features
) -> dict[str, NDArray[np.float64]]:
    if not (folder / BASELINES).is_file():
        return {}
    baselines = Baselines.load(folder / BASELINES)
    if isinstance(model, HeadedModel):
        return {
            "gaussian": start_model_scores(model, record, features).scores.astype(np.float64),
            "nearest_neighbour": nearest_scores(model, baselines, features),
        }
    return {
        "gaussian": baselines.gaussian(features.values),
        "nearest_neighbour": baselines.nearest(features.values),
    }


def _latency(latency_ms: Sequence[float] | None) -> dict[str, float] | None:
    if not latency_ms:
        return None
    quantiles = np.quantile(latency_ms, [0.5, 0.95, 0.99])
    names = ("p50", "p95", "p99")
    return {
        **{name: float(value) for name, value in zip(names, quantiles, strict=True)},
        "max": float(max(latency_ms)),
        "frames": float(len(latency_ms)),
    }


def _results(
    features: Features,
    values: NDArray[np.float64],
    found: ModelScores,
    metadata: ModelMetadata,
    decisions: Sequence[Decision],
) -> tuple[ImageResult, ...]:
    results = []
    rows = zip(features.pictures, values, decisions, strict=True)
    for index, (picture, value, decision) in enumerate(rows):
        result = _result(picture, value, decision)
        if found.heatmaps is not None:
            heat = (tuple(float(f"{v:.4g}") for v in row) for row in found.heatmaps[index])
            result = result.model_copy(update={"heatmap": tuple(heat)})
        if found.heads is not None:
            head = metadata.heads[int(found.heads[index].argmax())].name
            result = result.model_copy(update={"head": head})
        results.append(result)
    return tuple(results)


def _result(picture: ImageFile, value: float, decision: Decision) -> ImageResult:
    return ImageResult(
        path=printable(str(picture.path)),
        label=picture.label.value,
        kind=printable(picture.kind),
        score=float(value) if np.isfinite(value) else None,
        verdict=decision.verdict.value,
        code=decision.code,
        reason=decision.reason,
        mask=None if picture.mask is None else printable(str(picture.mask)),
    )
