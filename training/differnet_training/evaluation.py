"""Judges a trained model by labelled images, beside a Gaussian and nearest neighbours.

Images that the model learned from are left out, or refused.
"""

from __future__ import annotations

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
from differnet_runtime.images import digest, read_image
from differnet_runtime.inspection.calibration import describe
from differnet_runtime.inspection.image_checks import IntegrityGate
from differnet_runtime.inspection.operating_points import Costs, cheapest, operating_points
from differnet_runtime.inspection.verdict import Answer, frame_of, inspect_frame, judged, unreadable
from differnet_runtime.model_file.metadata import Calibration, ModelMetadata
from differnet_runtime.records import Decision, Verdict

from .advice import advise
from .baselines import Baselines
from .datasets import DataSet, ImageFile, Label
from .features import FeatureReader, Features, ViewPlan
from .head_evaluation import head_rows, heads_sentence, nearest_scores, refit, start_model
from .heads import HeadedModel, ModelScores
from .localization import localize
from .model import BASELINES, Model, load_model, read_training
from .results import (
    Figure,
    Groups,
    HeadRow,
    ImageResult,
    Report,
    Undecided,
    aupr,
    bootstrap_auroc,
    describe_machine,
    paired_difference,
    printable,
    rate,
    rejected,
)


def without_trained(data: DataSet, record: dict[str, Any]) -> DataSet:
    """Leaves out the normal images that a model was trained on, if the data set is undivided.

    Args:
        data: Any data set; one that is divided is returned unchanged.
        record: The training record, with the images' hashes.

    Returns:
        The data set; its note says how many images were left out.

    Raises:
        DataError: Nothing is left.
    """
    trained = _trained(record)
    if not data.undivided or not trained:
        return data
    findings = record.get("look", {}).get("findings", ())
    doubtful = {one["sha256"] for one in findings if one["left_out"]}  # no fair test either
    contents = {image: digest(image.path) for image in data.test if image.label is Label.GOOD}
    test = tuple(image for image in data.test if contents.get(image) not in trained | doubtful)
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


def _trained(record: dict[str, Any]) -> set[str]:
    return {entry["sha256"] for part in record.get("parts", {}).values() for entry in part}


def _refuse_trained(features: Features, trained: set[str]) -> None:
    """Refuses images that the model was trained on, byte for byte; lists them."""
    doubled = [
        str(image.path)
        for image, content in zip(features.images, features.content, strict=True)
        if content in trained
    ]
    if doubled:
        listed = "\n".join(f"  {path}" for path in doubled[:20])
        raise DataError(
            f"{len(doubled)} test pictures were used in training, which makes every figure look "
            f"better than it is. Judge by others:\n{listed}"
        )


class _KnownScore:
    """A stand-in for an engine that answers with a score computed before."""

    def __init__(self, metadata: ModelMetadata) -> None:
        self.metadata = metadata
        self.value = np.nan
        self._prepared = np.empty(metadata.input.shape, np.uint8)

    def buffer(self) -> NDArray[np.uint8]:
        return self._prepared

    def infer(self, _prepared: NDArray[np.uint8], _deadline_s: float | None = None) -> Answer:
        return Answer(judged(self.value, self.metadata.calibration), "", 0.0, "")


def verdicts(
    images: Sequence[ImageFile],
    values: NDArray[np.float64],
    metadata: ModelMetadata,
    threshold: float | None,
) -> tuple[Decision, ...]:
    """Returns the verdict on each image: NO_DECISION where a camera's frame would get it.

    Args:
        images: The N images judged.
        values: `(N,)` scores.
        metadata: Calibration, input and limits of the image checks.
        threshold: Used in place of the model's.
    """
    engine, gate = _KnownScore(metadata), IntegrityGate(IntegrityConfig(), metadata)
    found = []
    pairs = zip(images, values, strict=True)
    for image, value in progress(pairs, "checking", total=len(images), unit="image"):
        engine.value = float(value)
        try:
            frame = frame_of(read_image(image.path), str(image.path))
        except ImageReadError as error:
            found.append(unreadable(error))
            continue
        inspected = inspect_frame(frame, engine, gate, threshold=threshold, score_refused=True)
        found.append(inspected.decision)
    return tuple(found)


def _count_undecided(
    images: Sequence[ImageFile], decisions: Sequence[Decision], undecided: NDArray[np.bool_]
) -> Undecided:
    """Counts the images without a decision, by label and by code."""
    rows = np.flatnonzero(undecided).tolist()
    labels = Counter(images[row].label.value for row in rows)
    codes = Counter(decisions[row].code or "" for row in rows)
    return Undecided(**labels, codes=dict(codes.most_common()))


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
    """Judges a trained model by labelled images.

    Args:
        folder: Folder of the model.
        data: Labelled images in `data.test`. With good or defective parts alone, the figures that
            compare the two are left out.
        cache: Folder of the feature cache.
        scores: Scores of an exported file by path, in place of torch's; an image without one
            counts as rejected.
        latency_ms: Milliseconds of each frame, if they were measured on this machine just now.
        scored_by: Name of what gave the scores.
        calibration: The exported file's, which `differnet calibrate` may have changed; None takes
            the model's.
        threshold: Used in place of the model's.
        costs: What wrong verdicts cost; needs good and defective parts.
        seeds: Number of seeds to refit the flow with, to show the spread.
        heatmaps: Folder for heatmaps of the defective images; None draws none.
        skip_unreadable: Continue without images that can't be read.

    Raises:
        DataError: Nothing is left to judge, test images were trained on, or one class is missing
            where both are needed.
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
        subwindows=True,
        skip_unreadable=skip_unreadable,
    )
    features = reader.read(data.test, ViewPlan.fixed(metadata.views.angles), "test features")
    _refuse_trained(features, _trained(record))
    with step("judging"):
        found = model.judge_features(features.values)
        values = found.scores.astype(np.float64)
        if scores is not None:
            values = np.array([scores.get(image.path, np.nan) for image in features.images])
        own = metadata.calibration.threshold if metadata.calibration else None
        in_use = own if threshold is None else threshold
        decisions = verdicts(features.images, values, metadata, in_use)
        undecided = np.array(
            [one.verdict is Verdict.NO_DECISION and one.code != "no_threshold" for one in decisions]
        )
        groups = Groups(features.images, values, undecided)
        figures = _figures(groups, in_use, costs)
    with step("comparing with the baselines"):
        baseline_scores = _baseline_scores(folder, model, record, features)
        heads: tuple[HeadRow, ...] = ()
        if isinstance(model, HeadedModel) and groups.both:
            heads = head_rows(model, record, features, groups)
        compared = _compared(groups, baseline_scores, metadata, heads)
    report = Report(
        name=printable(data.name),
        scored_by=scored_by,
        note=data.note,
        model=metadata,
        training=record.get("history", {}),
        look=json.loads(printable(json.dumps(record.get("look", {}), ensure_ascii=False))),
        latency_ms=_latency(latency_ms),
        machine=describe_machine() if latency_ms else None,
        seeds=refit(model, record, reader, features, metadata.provenance.seed, seeds)
        if seeds > 1
        else None,
        localization=localize(model, features.images, heatmaps, metadata.windows)
        if heatmaps
        else None,
        no_decision=int(undecided.sum()),
        undecided=_count_undecided(features.images, decisions, undecided),
        threshold=in_use,
        model_threshold=own,
        calibration=describe(metadata.calibration) if metadata.calibration else None,
        costs=costs,
        results=_results(features.images, values, found, metadata, decisions),
        heads=heads,
        **figures,
        **compared,
    )
    with step("advice"):
        return report.model_copy(update={"advice": advise(report)})


def _refuse_one_class(data: DataSet, seeds: int, costs: Costs | None) -> None:
    """Refuses options that compare good with defective parts where one of the two is missing."""
    labels = {image.label for image in data.test}
    if {Label.GOOD, Label.DEFECT} <= labels:
        return
    for option, asked in (("--seeds", seeds > 1), ("--cost-miss and --cost-reject", costs)):
        if asked:
            missing = "defective" if Label.GOOD in labels else "good"
            raise DataError(
                f"{option} needs good and defective parts to judge by; {data.name} has no "
                f"{missing} ones. Add some, or leave the option out."
            )


def _figures(groups: Groups, threshold: float | None, costs: Costs | None) -> dict[str, Any]:
    """Returns the report's figures on good and defective parts."""
    good, defect = groups.pair(groups.values)
    good_or_refused, defect_or_refused = groups.pair(groups.rejectable)
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
        "false_reject": false_reject,
        "miss": miss,
        "operating_points": points,
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
    """Returns the report's figures on the baselines."""
    if not baseline_scores or not groups.both:
        return {
            "baselines": None,
            "minus_gaussian": None,
            "earns_its_place": "No comparison: it takes good and defective parts."
            if baseline_scores
            else "No baselines: the model was imported, not trained here.",
            "baseline_scores": {},
        }
    difference = paired_difference(
        groups.pair(groups.values), groups.pair(baseline_scores["gaussian"])
    )
    sentence = heads_sentence(heads, difference) if heads else _sentence(difference, metadata)
    return {
        "baselines": {
            name: bootstrap_auroc(*groups.pair(values)) for name, values in baseline_scores.items()
        },
        "minus_gaussian": difference,
        "earns_its_place": sentence,
        "baseline_scores": {
            name: tuple(values.tolist()) for name, values in baseline_scores.items()
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
    if not isinstance(model, HeadedModel):
        return {
            "gaussian": baselines.gaussian(features.values),
            "nearest_neighbour": baselines.nearest(features.values),
        }
    start = start_model(model, record).judge_features(features.values)
    return {
        "gaussian": start.scores.astype(np.float64),
        "nearest_neighbour": nearest_scores(model, baselines, features),
    }


def _latency(latency_ms: Sequence[float] | None) -> dict[str, float] | None:
    if not latency_ms:
        return None
    p50, p95, p99 = (float(value) for value in np.quantile(latency_ms, [0.5, 0.95, 0.99]))
    most, frames = float(max(latency_ms)), float(len(latency_ms))
    return {"p50": p50, "p95": p95, "p99": p99, "max": most, "frames": frames}


def _results(
    images: Sequence[ImageFile],
    values: NDArray[np.float64],
    found: ModelScores,
    metadata: ModelMetadata,
    decisions: Sequence[Decision],
) -> tuple[ImageResult, ...]:
    results = []
    for index, (image, value, decision) in enumerate(zip(images, values, decisions, strict=True)):
        heatmap = head = None
        if found.heatmaps is not None:
            heatmap = tuple(tuple(float(f"{v:.4g}") for v in row) for row in found.heatmaps[index])
        if found.heads is not None:
            head = metadata.heads[int(found.heads[index].argmax())].name
        results.append(
            ImageResult(
                path=printable(str(image.path)),
                label=image.label.value,
                kind=printable(image.kind),
                score=float(value) if np.isfinite(value) else None,
                verdict=decision.verdict.value,
                code=decision.code,
                reason=decision.reason,
                heatmap=heatmap,
                head=head,
                mask=None if image.mask is None else printable(str(image.mask)),
            )
        )
    return tuple(results)
