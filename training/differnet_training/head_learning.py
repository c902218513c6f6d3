"""Trains and calibrates a model of several heads from good pictures.

Refuses good pictures that are all alike: what they teach is nothing but rounding.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from differnet_runtime.command import progress
from differnet_runtime.errors import CalibrationError, DataError
from differnet_runtime.files import write_bytes
from differnet_runtime.inspection.calibration import calibrate, check_enough, check_rate
from differnet_runtime.model_file.contract import InputContract
from differnet_runtime.model_file.detection_limits import DetectionLimits
from differnet_runtime.model_file.metadata import Calibration, Head, ModelMetadata, Windows

from . import strange
from .baselines import Baselines, bank_of
from .extractors import FeatureExtractor, build_extractor
from .features import FeatureReader, ViewPlan
from .head_fitting import (
    FOLDS,
    FittedHead,
    FoldPart,
    Keep,
    fit_head,
    fold_of,
    groups_of,
    head_data,
    of_parts,
    part_names,
)
from .heads import ONE_VIEW, HeadedModel
from .job import TrainingSettings, parts_are_named, provenance
from .limit_search import measure_limits
from .model import BASELINES, save_model, write_training
from .recipes import Recipe
from .scoring import judge_features
from .strange import Scale, examine_good, joined_scores, scale_of, without_strange


def check_varied(values: NDArray[np.float32], least: int) -> None:
    """Refuses pictures of which too few differ, though their files do.

    Args:
        values: `(N, ...) float32` features; those of equal pixels are equal bit for bit.
        least: So many pictures must differ.

    Raises:
        DataError: Fewer differ.
    """
    different = len({hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in values})
    if different < least:
        raise DataError(
            f"of the {len(values)} good pictures only {different} differ; the others equal one of "
            f"them pixel for pixel. At least {least} different ones are needed: take pictures of "
            "different parts."
        )


HEAD_CHECKPOINT = "heads.checkpoint"
BANK_HEAD = "coarse"
"""The head whose features the nearest-neighbour baseline uses."""

SHOWN = 256
"""How many pictures are used to find out what heatmaps of good parts look like."""

_log = logging.getLogger(__name__)


def learn_heads(job: TrainingSettings) -> ModelMetadata:
    """Trains and calibrates a model of several heads and saves it.

    Raises:
        DataError: Pictures are unreadable, too few or duplicated, or the pattern matches none.
        CalibrationError: There are too few pictures for the requested rate.
        WeightsError: The extractor's weights can't be had.
        TrainingError: Training can't start or continue.
        OutputError: The model can't be written.
    """
    _refuse_early(job)
    extractor = build_extractor(**job.recipe.reading(), weights=job.weights)
    heads = head_shapes(job.recipe, extractor, job.contract)
    reader = FeatureReader(
        extractor, job.contract, job.cache, heads=heads, skip_unreadable=job.skip_unreadable
    )
    examined = examine_good(reader, job.data.good, job.doubtful, grouped=parts_are_named(job))
    features = reader.read(examined.pictures, ViewPlan.fixed(ONE_VIEW.angles), "features")
    check_varied(features.values, 2 * FOLDS)
    groups = groups_of(features.pictures, examined.parts(features.content), job.groups)
    everything = FoldPart(features.pictures, features.content, features.values[:, 0], tuple(groups))
    kept, left_out, found = without_strange(heads, everything, job.seed, job.doubtful)
    parts = _divided(job, kept)
    fingerprint = _fingerprint(job, extractor, kept)
    keep = KeptOnDisk(job.output / HEAD_CHECKPOINT, fingerprint)
    train = parts.train
    fitted = fit_heads(heads, train.values, train.groups, job.recipe, job.seed, keep)
    model = joined_model(job.contract, extractor, fitted, job.recipe)
    unseen = _unseen(model, fitted)
    threshold = _threshold(job, model, unseen, parts)
    metadata = ModelMetadata(
        name=job.data.name,
        input=job.contract,
        views=ONE_VIEW,
        extractor=extractor.spec,
        heads=model.heads,
        score="likelihood",
        windows=_scaled(model, parts.train.values[:SHOWN], threshold.threshold),
        calibration=threshold,
        appearance=examined.appearance,
        picture_sizes=examined.sizes,
        detection_limits=_limits(job, reader, model, fitted, parts, threshold.threshold),
        provenance=provenance(
            job, max(head.epochs for head in model.heads), fingerprint, parts.train.content
        ),
    )
    bank = bank_of(model.reader.part(parts.train.values, BANK_HEAD))
    Baselines(None, bank).save(job.output / BASELINES)
    look = {
        **examined.with_strange(found, left_out.pictures).record(),
        "different_parts": len(set(kept.groups)),
        "strangest": _strangest(job, model, unseen, parts.train, left_out),
    }
    write_training(job.output, {**_record(job, fitted, parts), "look": look})
    metadata = save_model(job.output, model.eval(), metadata)
    (job.output / HEAD_CHECKPOINT).unlink(missing_ok=True)  # last: a full disk loses no fit
    return metadata


def _refuse_early(job: TrainingSettings) -> None:
    """Checks what needs only the names and the number of pictures, before any is read."""
    check_rate(job.false_reject_rate)
    names = part_names(job.data.good, job.groups)
    groups = [n or str(p.path) for n, p in zip(names, job.data.good, strict=True)]
    left = _left_to_calibration(job, groups)
    fold_of([group for group, out in zip(groups, left, strict=True) if not out], job.seed)


def _left_to_calibration(job: TrainingSettings, groups: Sequence[str]) -> NDArray[np.bool_]:
    """Returns which pictures only calibrate: none, or a fifth of the groups."""
    if job.calibration == "folds":
        return np.zeros(len(groups), bool)
    left: NDArray[np.bool_] = fold_of(groups, job.seed + 1, FOLDS) == 0
    calibrating = {group for group, out in zip(groups, left, strict=True) if out}
    check_enough(len(calibrating), job.false_reject_rate)
    return left


def head_shapes(
    recipe: Recipe, extractor: FeatureExtractor, contract: InputContract
) -> tuple[Head, ...]:
    """Returns the shapes of a recipe's heads on an extractor's taps, for an input."""
    tap = extractor.spec.tap
    assert isinstance(tap, tuple)
    with torch.no_grad():
        maps = extractor.maps(torch.zeros(1, 3, 64, 64))
    channels = {one: int(found.shape[1]) for one, found in zip(tap, maps, strict=True)}
    return tuple(
        head.head(sum(channels[one] for one in head.taps), contract) for head in recipe.heads
    )


@dataclass(frozen=True)
class _Parts:
    """The pictures that heads are fitted on, and those that only calibrate (none, with folds)."""

    train: FoldPart
    calibration: FoldPart


def _divided(job: TrainingSettings, part: FoldPart) -> _Parts:
    """Divides the pictures; `split` leaves a fifth of the groups to calibration."""
    left = _left_to_calibration(job, part.groups)
    return _Parts(part.taken(~left), part.taken(left))


def fit_heads(
    heads: Sequence[Head],
    values: NDArray[np.float32],
    groups: Sequence[str],
    recipe: Recipe,
    seed: int,
    keep: Keep,
) -> list[FittedHead]:
    """Fits heads by cross-validation; see `head_fitting.fit_head`.

    Args:
        heads: Their shapes.
        values: `(N, D) float32`: all heads' features, in the heads' order.
        groups: Each picture's group; folds never divide a group.
        recipe: The settings.
        seed: Of the folds, the order and the noise.
        keep: Stores what was trained, so that a run can be resumed.

    Raises:
        DataError: There are too few different pictures.
        TrainingError: The features or the loss are not finite.
    """
    fold = fold_of(groups, seed)
    steps = iter(progress(range(len(heads) * (FOLDS + 1)), "fitting the heads", unit="fit"))
    fitted = [
        fit_head(head, data, recipe, seed, lambda: next(steps, None), keep)
        for head, data in head_data(heads, values, fold)
    ]
    next(steps, None)  # ends the line
    return fitted


class KeptOnDisk:
    """Stores trained tensors on disk, so that a run that was killed can be resumed.

    Args:
        path: The file.
        fingerprint: Identifies data, recipe and seed; a file with another one is not used.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self._path = path
        self._stored: dict[str, Any] = {"fingerprint": fingerprint}
        if path.is_file():
            try:
                found = torch.load(path, weights_only=True)
            except Exception:  # a damaged file raises many kinds; training then starts over
                _log.warning("the checkpoint %s is damaged; training starts over", path)
                return
            if not isinstance(found, dict):
                _log.warning("the checkpoint %s is damaged; training starts over", path)
            elif found.get("fingerprint") == fingerprint:
                self._stored = found
            else:
                _log.warning("%s is of other data or settings; training starts over", path)

    def __call__(self, name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Returns the tensors stored under a name, or makes and stores them."""
        if name not in self._stored:
            self._stored[name] = make()
            buffer = io.BytesIO()
            torch.save(self._stored, buffer)
            write_bytes(self._path, buffer.getvalue())
        return dict(self._stored[name])


def joined_model(
    contract: InputContract,
    extractor: FeatureExtractor,
    fitted: Sequence[FittedHead],
    recipe: Recipe,
    *,
    without_last: bool = False,
) -> HeadedModel:
    """Makes a model of fitted heads, scaled by scores of pictures that they had not seen.

    Args:
        contract: The input.
        extractor: Frozen.
        fitted: The heads.
        recipe: Of the heads.
        without_last: Take the heads fitted without the last fold.
    """
    heads = [
        one.flow.head.model_copy(
            update={**scale_of(one.unseen, of.handicap)._asdict(), "epochs": one.epochs}
        )
        for one, of in zip(fitted, recipe.heads, strict=True)
    ]
    model = HeadedModel(contract, extractor, heads)
    for flow, one in zip(model.flows, fitted, strict=True):
        source = one.without_last if without_last else one.flow
        flow.load_state_dict(source.state_dict())
    return model.eval()


def _unseen(model: HeadedModel, fitted: Sequence[FittedHead]) -> NDArray[np.float64]:
    """Returns the joined out-of-fold scores of the pictures that heads were fitted on."""
    scales = [Scale(head.typical, head.spread) for head in model.heads]
    return joined_scores([one.unseen for one in fitted], scales)


def _threshold(
    job: TrainingSettings, model: HeadedModel, unseen: NDArray[np.float64], parts: _Parts
) -> Calibration:
    if job.calibration == "folds":
        return _by_folds(job, unseen.tolist(), parts.train.groups)
    scores = judge_features(model, parts.calibration.values).scores.tolist()
    groups = parts.calibration.groups
    return calibrate(of_parts(scores, groups), job.false_reject_rate, scored_by="torch")


def _by_folds(job: TrainingSettings, scores: Sequence[float], groups: Sequence[str]) -> Calibration:
    return calibrate(
        of_parts(scores, groups), job.false_reject_rate, scored_by="torch", method="out_of_fold"
    )


def _limits(
    job: TrainingSettings,
    reader: FeatureReader,
    model: HeadedModel,
    fitted: Sequence[FittedHead],
    parts: _Parts,
    threshold: float,
) -> DetectionLimits | None:
    """Paints on pictures that the judging model has not seen, if the job asks for it."""
    if not job.detection_limits:
        return None
    if job.calibration == "split":
        return measure_limits(model, reader, parts.calibration.pictures, threshold, seed=job.seed)
    fold = fold_of(parts.train.groups, job.seed)
    last = [parts.train.pictures[row] for row in np.flatnonzero(fold == FOLDS - 1)]
    judge = joined_model(job.contract, model.extractor, fitted, job.recipe, without_last=True)
    return measure_limits(judge, reader, last, threshold, seed=job.seed, judged_by="fold")


def _strangest(
    job: TrainingSettings,
    model: HeadedModel,
    unseen: NDArray[np.float64],
    kept: FoldPart,
    left_out: FoldPart,
) -> list[dict[str, Any]]:
    """Returns what the record says of the strangest good pictures; see `strange.ranking`."""

    def judged(part: FoldPart, scores: NDArray[np.float64] | None) -> strange.JudgedPictures:
        if scores is None:
            found = judge_features(model, part.values).scores if part.pictures else np.empty(0)
            scores = found.astype(np.float64)

        def heatmaps(rows: NDArray[np.intp]) -> NDArray[np.float32]:
            maps = judge_features(model, part.values[rows]).heatmaps
            assert maps is not None
            return maps

        return strange.JudgedPictures(part, scores, heatmaps)

    def threshold(scores: Sequence[float], groups: Sequence[str]) -> float | None:
        try:
            return _by_folds(job, scores, groups).threshold
        except CalibrationError:  # one picture would spoil it: the reason why it was left out
            return None

    by_folds = threshold if job.calibration == "folds" else None
    return strange.ranking(judged(kept, unseen), judged(left_out, None), by_folds)


def _scaled(model: HeadedModel, values: NDArray[np.float32], threshold: float) -> Windows:
    """Sets the fixed scale of the heatmaps' colours; see `metadata.Windows`."""
    heatmaps = judge_features(model, values).heatmaps
    assert heatmaps is not None
    low = float(np.median(heatmaps))
    return model.windows.model_copy(update={"low": low, "high": 2 * threshold - low})


def _fingerprint(job: TrainingSettings, extractor: FeatureExtractor, part: FoldPart) -> str:
    what = {
        "recipe": job.recipe.model_dump(mode="json"),
        "input": job.contract.model_dump(mode="json"),
        "extractor": extractor.spec.weights_sha256,
        "seed": job.seed,
        "pictures": part.content,
        "groups": part.groups,
        "calibration": job.calibration,
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _record(job: TrainingSettings, fitted: Sequence[FittedHead], parts: _Parts) -> dict[str, Any]:
    starts = [
        scale_of(one.unseen_start, of.handicap)
        for one, of in zip(fitted, job.recipe.heads, strict=True)
    ]
    return {
        "recipe": job.recipe.model_dump(mode="json"),
        "history": {
            "heads": {
                one.flow.head.name: {
                    "epochs": one.epochs,
                    "held_out": one.held_out,
                    "share": one.share,
                    "start": start._asdict(),
                }
                for one, start in zip(fitted, starts, strict=True)
            },
        },
        "groups": list(parts.train.groups),
        "parts": {
            name: [
                {"path": str(picture.path), "sha256": content}
                for picture, content in zip(part.pictures, part.content, strict=True)
            ]
            for name, part in (("train", parts.train), ("calibration", parts.calibration))
        },
    }
