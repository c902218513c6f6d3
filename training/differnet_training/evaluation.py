"""What a model is worth on labelled pictures, beside a Gaussian and nearest neighbours."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from differnet_runtime.calibration import describe
from differnet_runtime.command import step
from differnet_runtime.errors import DataError
from differnet_runtime.metadata import Calibration, ModelMetadata
from differnet_runtime.records import Decision

from .advice import advise
from .baselines import Baselines
from .datasets import DataSet, Label, Picture
from .features import FeatureReader, Features, ViewPlan
from .head_evaluation import head_rows, heads_sentence, nearest_scores, start_model_scores
from .heads import HeadedModel
from .localization import localize
from .machine import describe_machine
from .metrics import Figure, aupr, bootstrap_auroc, paired_difference, rate, rejected
from .model_directory import BASELINES, load_model, read_training
from .operating_points import Costs, cheapest, operating_points
from .reseeding import refit
from .results import Groups, HeadRow, Report, Result, printable
from .scoring import Model, Scored, judge_features
from .unseen import check_unseen, without_trained
from .verdicts import count_undecided, is_undecided, verdicts


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
    found: Scored,
    metadata: ModelMetadata,
    decisions: Sequence[Decision],
) -> tuple[Result, ...]:
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


def _result(picture: Picture, value: float, decision: Decision) -> Result:
    return Result(
        path=printable(str(picture.path)),
        label=picture.label.value,
        kind=printable(picture.kind),
        score=float(value) if np.isfinite(value) else None,
        verdict=decision.verdict.value,
        code=decision.code,
        reason=decision.reason,
        mask=None if picture.mask is None else printable(str(picture.mask)),
    )
