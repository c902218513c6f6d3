"""Trains and calibrates a model of several heads on normal images.

Mirrored copies of few good images are more samples of how features vary together. With few images
the means are known well enough, but the covariances are not. Each kind of copy has its own mean,
and only deviations from it add to the covariance. In a mirrored copy, a window shows what is on the
opposite side of the part; laid back, it shows the same place. Symmetrical parts gain by the former,
others by the latter or by neither: held-out images decide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from differnet_runtime.command import progress
from differnet_runtime.errors import CalibrationError
from differnet_runtime.inspection.calibration import calibrate, check_enough, check_rate
from differnet_runtime.model_file.contract import InputContract
from differnet_runtime.model_file.detection_limits import DetectionLimits
from differnet_runtime.model_file.metadata import Calibration, Head, ModelMetadata

from .baselines import Baselines, bank_of
from .datasets import ImageFile
from .extractors import FeatureExtractor, build_extractor
from .features import FeatureReader, ViewPlan, file_array
from .gaussian import CHUNK
from .head_fitting import (
    FOLDS,
    FittedHead,
    FoldPart,
    Gaussians,
    HeadData,
    Keep,
    Values,
    fit_head,
    fold_of,
    groups_of,
    head_data,
    of_parts,
    part_names,
)
from .heads import ONE_VIEW, HeadedModel, Scale, joined_scores, scale_of, set_scale
from .job import TrainingSettings, image_records
from .limit_search import measure_limits
from .model import Model
from .recipes import Recipe
from .screening import check_varied, examine_good, ranking, without_strange
from .trainer import Checkpoint

HEAD_CHECKPOINT = "heads.checkpoint"
FITTING = 2
"""Version of how heads are fitted (folds, copies); a run of another version is not resumed."""
BANK_HEAD = "coarse"
"""The head whose features the nearest-neighbour baseline uses."""

SHOWN = 256
"""Number of images that tell what heatmaps of good parts look like."""

FEW = 200
"""Largest number of images that copies are made of; more images are enough without them."""

LARGE = 256 * 2**20
"""Bytes of all heads' features from which on each head is fitted from a file of its own: each of
many passes over one head would else read all heads' features from the disk.
"""


class Learned(NamedTuple):
    """What training gives: a model with its metadata and baselines, and the training record."""

    model: Model
    metadata: ModelMetadata
    baselines: Baselines
    record: dict[str, Any]


def learn_heads(job: TrainingSettings) -> Learned:
    """Trains and calibrates a model of several heads.

    Raises:
        DataError: Images are unreadable, too few or duplicated, or the pattern matches none.
        CalibrationError: There are too few images for the requested rate.
        WeightsError: The extractor's weights can't be had.
        TrainingError: Training can't start or continue.
        OutputError: The checkpoint can't be written.
    """
    _refuse_early(job)
    extractor = build_extractor(**job.recipe.reading(), weights=job.weights)
    heads = head_shapes(job.recipe, extractor, job.contract)
    reader = FeatureReader(
        extractor, job.contract, job.cache, heads=heads, skip_unreadable=job.skip_unreadable
    )
    examined = examine_good(reader, job.data.good, job.doubtful, grouped=job.parts_are_named)
    features = reader.read(examined.images, ViewPlan.fixed(ONE_VIEW.angles), "features")
    check_varied(features.values, 2 * FOLDS)
    groups = groups_of(features.images, examined.parts(features.content), job.groups)
    everything = FoldPart(features.images, features.content, features.values[:, 0], tuple(groups))
    kept, left_out, found = without_strange(heads, everything, job.seed, job.doubtful)
    fingerprint = job.fingerprint(
        extractor.spec,
        kept.content,
        groups=kept.groups,
        calibration=job.calibration,
        fitting=FITTING,
    )
    calibrating = _calibrating_alone(job, kept.groups)
    train, calibration = kept.taken(~calibrating), kept.taken(calibrating)
    keep = KeptOnDisk(Checkpoint(job.output / HEAD_CHECKPOINT, fingerprint))
    copies = read_copies(reader, train.images)
    fitted = fit_heads(
        heads, train.values, train.groups, job.recipe, job.seed, keep, copies, job.cache
    )
    model = joined_model(job.contract, extractor, fitted, job.recipe)
    scales = [Scale(head.typical, head.spread) for head in model.heads]
    unseen = joined_scores([one.unseen for one in fitted], scales)
    threshold = _calibrate(job, model, unseen, train, calibration)
    # Of whole windows, which are the means of the subwindows that heatmaps show later.
    heatmaps = model.judge_features(train.values[:SHOWN]).heatmaps
    assert heatmaps is not None
    metadata = ModelMetadata(
        name=job.data.name,
        input=job.contract,
        views=ONE_VIEW,
        extractor=extractor.spec,
        heads=model.heads,
        score="likelihood",
        windows=set_scale(model.windows, heatmaps, threshold.threshold),
        calibration=threshold,
        appearance=examined.appearance,
        picture_sizes=examined.sizes,
        detection_limits=_measure_limits(
            job, reader, model, fitted, train, calibration, threshold.threshold
        )
        if job.detection_limits
        else None,
        provenance=job.provenance(
            max(head.epochs for head in model.heads), fingerprint, train.content
        ),
    )
    record = {
        "recipe": job.recipe.model_dump(mode="json"),
        "history": {"heads": _history(fitted, job.recipe)},
        "groups": list(train.groups),
        "parts": {
            name: image_records(part.images, part.content)
            for name, part in (("train", train), ("calibration", calibration))
        },
        "look": {
            **examined.with_strange(found, left_out.images).record(),
            "different_parts": len(set(kept.groups)),
            "strangest": _strangest(job, model, unseen, train, left_out),
        },
    }
    baselines = Baselines(None, bank_of(model.reader.part(train.values, BANK_HEAD)))
    return Learned(model, metadata, baselines, record)


def _refuse_early(job: TrainingSettings) -> None:
    """Checks what needs only the names and the number of images, before any is read."""
    check_rate(job.false_reject_rate)
    names = part_names(job.data.good, job.groups)
    groups = [n or str(image.path) for n, image in zip(names, job.data.good, strict=True)]
    alone = _calibrating_alone(job, groups)
    fold_of([group for group, out in zip(groups, alone, strict=True) if not out], job.seed)


def _calibrating_alone(job: TrainingSettings, groups: Sequence[str]) -> NDArray[np.bool_]:
    """Returns which images only calibrate, `(N,)`: none with folds, else a fifth of the groups."""
    if job.calibration == "folds":
        return np.zeros(len(groups), bool)
    alone: NDArray[np.bool_] = fold_of(groups, job.seed + 1) == 0
    check_enough(len(set(np.array(groups)[alone])), job.false_reject_rate)
    return alone


def head_shapes(
    recipe: Recipe, extractor: FeatureExtractor, contract: InputContract
) -> tuple[Head, ...]:
    """Returns the shapes of a recipe's heads on an extractor's taps, for an input."""
    channels = extractor.channels_by_tap()
    return tuple(
        head.head(sum(channels[tap] for tap in head.taps), contract) for head in recipe.heads
    )


def fit_heads(
    heads: Sequence[Head],
    values: Values,
    groups: Sequence[str],
    recipe: Recipe,
    seed: int,
    keep: Keep,
    copies: Values | None = None,
    folder: Path | None = None,
) -> list[FittedHead]:
    """Fits heads by cross-validation; see `head_fitting.fit_head`.

    Args:
        heads: Shapes of the heads.
        values: `(N, D) float32`: all heads' features, in the heads' order.
        groups: Each image's group; folds never divide a group.
        recipe: Settings of the coupling blocks' training.
        seed: Seed of the folds, the order and the noise.
        keep: Stores what was trained, so that a run can be resumed.
        copies: `(N, C, D) float32`, features of mirrored copies, used only if they help.
        folder: For files of single heads' features; None takes the system's for temporary files.

    Raises:
        DataError: There are too few different images.
        TrainingError: The features or the loss are not finite.
        OutputError: The disk has no room for the features.
    """
    fold = fold_of(groups, seed)
    steps = iter(progress(range(len(heads) * (FOLDS + 1)), "fitting the heads", unit="fit"))
    parts: Iterable[tuple[Head, HeadData]] = head_data(heads, values, fold, copies)
    if copies is not None:
        parts = choose_copies(list(parts))
    if values.nbytes > LARGE:
        parts = ((head, replace(data, values=_alone(data.values, folder))) for head, data in parts)
    fitted = [
        fit_head(head, data, recipe, seed, lambda: next(steps, None), keep) for head, data in parts
    ]
    next(steps, None)  # ends the line
    return fitted


def _alone(values: Values, folder: Path | None) -> Values:
    """Copies one head's features into a file of their own; see `LARGE`."""
    copied = file_array(values.shape, folder)
    for start in range(0, len(values), CHUNK):
        copied[start : start + CHUNK] = values[start : start + CHUNK]
    return copied


def read_copies(reader: FeatureReader, images: Sequence[ImageFile]) -> Values | None:
    """Reads features of mirrored copies, `(N, 3, D) float32`; None for more than `FEW` images.

    Raises:
        DataError: Images can't be read.
        OutputError: The disk has no room for the features.
    """
    if len(images) > FEW:
        return None
    return reader.read(images, ViewPlan.mirrored(), "mirrored copies").values


def choose_copies(parts: Sequence[tuple[Head, HeadData]]) -> list[tuple[Head, HeadData]]:
    """Returns the heads' features, each head's with the copies that help it.

    A head with windows takes the copies as they lie, or laid back so that a window shows the same
    place of the part, or none: whichever makes held-out images, unmirrored, most likely. The whole
    image gives only one sample per image, too few to compare likelihoods: its head takes copies if
    another one does.
    """
    chosen = [_most_likely(head, data) for head, data in parts if not head.whole]
    helped, rest = any(data.copies is not None for data in chosen), iter(chosen)
    return [
        (head, (data if helped else replace(data, copies=None)) if head.whole else next(rest))
        for head, data in parts
    ]


def _most_likely(head: Head, data: HeadData) -> HeadData:
    copies = data.copies
    assert copies is not None
    shape = (-1, head.rows, head.columns, copies.shape[-1])
    laid_back = [
        np.flip(copies[:, view].reshape(shape), tuple(axis + 1 for axis in axes))
        for view, axes in enumerate(ViewPlan.mirrored().mirrors)
    ]
    places = np.stack(laid_back, axis=1).reshape(copies.shape)
    candidates = replace(data, copies=None), data, replace(data, copies=places)
    return min(candidates, key=lambda one: Gaussians(head, one, 0).held_out)


class KeptOnDisk:
    """Stores trained tensors in a checkpoint, so that a killed run can be resumed; a `Keep`."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint, self._stored = checkpoint, checkpoint.load()

    def __call__(self, name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Returns the tensors stored under a name, or makes and stores them."""
        if name not in self._stored:
            self._stored[name] = make()
            self._checkpoint.save(self._stored)
        return dict(self._stored[name])


def joined_model(
    contract: InputContract,
    extractor: FeatureExtractor,
    fitted: Sequence[FittedHead],
    recipe: Recipe,
    *,
    without_last: bool = False,
) -> HeadedModel:
    """Builds a model from fitted heads, scaled by scores of images that they had not seen.

    Args:
        contract: How frames become input.
        extractor: The frozen extractor, in eval mode.
        fitted: The heads, in the recipe's order.
        recipe: Holds each head's handicap.
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
        flow.load_state_dict((one.without_last if without_last else one.flow).state_dict())
    return model.eval()


def _calibrate(
    job: TrainingSettings,
    model: HeadedModel,
    unseen: NDArray[np.float64],
    train: FoldPart,
    calibration: FoldPart,
) -> Calibration:
    """Sets the threshold by out-of-fold scores, or by images that only calibrate."""
    if job.calibration == "folds":
        return _by_folds(job, unseen.tolist(), train.groups)
    scores = model.judge_features(calibration.values).scores.tolist()
    return calibrate(of_parts(scores, calibration.groups), job.false_reject_rate, scored_by="torch")


def _by_folds(job: TrainingSettings, scores: Sequence[float], groups: Sequence[str]) -> Calibration:
    return calibrate(
        of_parts(scores, groups), job.false_reject_rate, scored_by="torch", method="out_of_fold"
    )


def _measure_limits(
    job: TrainingSettings,
    reader: FeatureReader,
    model: HeadedModel,
    fitted: Sequence[FittedHead],
    train: FoldPart,
    calibration: FoldPart,
    threshold: float,
) -> DetectionLimits | None:
    """Measures detection limits on images that the judging model has not seen."""
    if job.calibration == "split":
        return measure_limits(model, reader, calibration.images, threshold, seed=job.seed)
    rows = np.flatnonzero(fold_of(train.groups, job.seed) == FOLDS - 1)
    last = [train.images[row] for row in rows]
    judge = joined_model(job.contract, model.extractor, fitted, job.recipe, without_last=True)
    return measure_limits(judge, reader, last, threshold, seed=job.seed, judged_by="fold")


def _strangest(
    job: TrainingSettings,
    model: HeadedModel,
    unseen: NDArray[np.float64],
    kept: FoldPart,
    left_out: FoldPart,
) -> list[dict[str, Any]]:
    """Returns the record's entries on the strangest images; see `screening.ranking`."""

    def threshold(scores: Sequence[float], groups: Sequence[str]) -> float | None:
        try:
            return _by_folds(job, scores, groups).threshold
        except CalibrationError:  # one image would spoil it: the reason why it was left out
            return None

    return ranking(model, kept, unseen, left_out, threshold if job.calibration == "folds" else None)


def _history(fitted: Sequence[FittedHead], recipe: Recipe) -> dict[str, dict[str, Any]]:
    """Returns each head's training curve, and the scale of the Gaussian that it starts from."""
    return {
        one.flow.head.name: {
            "epochs": one.epochs,
            "held_out": one.held_out,
            "share": one.share,
            "mirrored": one.mirrored,
            "start": scale_of(one.unseen_start, of.handicap)._asdict(),
        }
        for one, of in zip(fitted, recipe.heads, strict=True)
    }
