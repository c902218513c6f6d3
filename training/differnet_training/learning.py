"""Trains, calibrates and saves a model on normal images; recipes with one flow are trained here.

Recipes with heads are trained in `head_learning`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from differnet_runtime.inspection.calibration import calibrate
from differnet_runtime.model_file.metadata import ModelMetadata

from .baselines import Baselines
from .datasets import ImageFile, Splits, check_no_overlap, split_good
from .datasets.base import FEWEST_TRAINING_IMAGES
from .extractors import build_extractor
from .features import FeatureReader, Features, ViewPlan
from .flow import NormalizingFlow
from .head_fitting import groups_of, of_parts
from .head_learning import HEAD_CHECKPOINT, Learned, learn_heads
from .heads import set_scale
from .job import TrainingSettings, image_records
from .limit_search import measure_limits
from .model import BASELINES, DifferNet, save_model, write_training
from .recipes import Recipe
from .report import write_look_page
from .screening import check_varied, examine_good
from .trainer import Checkpoint, EpochFeatures, History, fit_flow

CHECKPOINTS = ("selection.checkpoint", "training.checkpoint", HEAD_CHECKPOINT)


def learn(job: TrainingSettings) -> ModelMetadata:
    """Trains and calibrates a model and saves it; resumes a run that was killed.

    Raises:
        DataError: Images are unreadable, too few or duplicated.
        CalibrationError: There are too few images for the requested rate.
        WeightsError: The extractor's weights can't be had.
        TrainingError: Training can't start or continue.
        OutputError: The model can't be written.
    """
    job.recipe.check_tiles(job.contract.tiles)
    check_no_overlap(job.data)
    learned = learn_heads(job) if job.recipe.heads else _learn_one_flow(job)
    learned.baselines.save(job.output / BASELINES)
    write_training(job.output, learned.record)
    metadata = save_model(job.output, learned.model.eval(), learned.metadata)
    for name in CHECKPOINTS:  # last: a full disk loses no trained weights
        (job.output / name).unlink(missing_ok=True)
    write_look_page(job.output, metadata)
    return metadata


def _learn_one_flow(job: TrainingSettings) -> Learned:
    """Trains one flow; a share of the images is kept for early stopping and for calibration."""
    recipe, views, windows = job.recipe, job.recipe.views(), job.recipe.windows()
    extractor = build_extractor(**recipe.reading(), weights=job.weights)
    reader = FeatureReader(
        extractor, job.contract, job.cache, windows=windows, skip_unreadable=job.skip_unreadable
    )
    examined = examine_good(reader, job.data.good, job.doubtful, grouped=job.parts_are_named)
    contents = [examined.content[image.path] for image in examined.images]
    names = groups_of(examined.images, examined.parts(contents), job.groups)
    splits = split_good(examined.images, job.seed, job.false_reject_rate, names)
    if recipe.patience is None:  # nothing stops early, so the validation images are trained on too
        splits = Splits((*splits.train, *splits.val), (), splits.calibration)
    seen = _read_training(job, reader, splits)
    calibration = reader.read(
        splits.calibration, ViewPlan.fixed(views.angles), "calibration features"
    )
    fingerprint = job.fingerprint(extractor.spec, seen.first.content, train_images=seen.train)
    flow, history = _fit(job, seen, extractor.spec.features, fingerprint)
    model = DifferNet(job.contract, views, extractor, flow.spec, recipe.score, windows)
    model.flow = flow
    group_of = {image.path: name for image, name in zip(examined.images, names, strict=True)}
    found = model.judge_features(calibration.values)
    scores = of_parts(found.scores.tolist(), [group_of[image.path] for image in calibration.images])
    threshold = calibrate(scores, job.false_reject_rate, scored_by="torch")
    if windows is not None and found.heatmaps is not None:
        windows = set_scale(windows, found.heatmaps, threshold.threshold)
    metadata = ModelMetadata(
        name=job.data.name,
        input=job.contract,
        views=views,
        extractor=extractor.spec,
        flow=flow.spec,
        score=recipe.score,
        windows=windows,
        calibration=threshold,
        appearance=examined.appearance,
        picture_sizes=examined.sizes,
        detection_limits=measure_limits(
            model, reader, calibration.images, threshold.threshold, seed=job.seed
        )
        if job.detection_limits
        else None,
        provenance=job.provenance(history.best_epochs, fingerprint, seen.first.content),
    )
    records = image_records(seen.first.images, seen.first.content)
    record = {
        "recipe": recipe.model_dump(mode="json"),
        "history": {**vars(history), "best_epochs": history.best_epochs},
        "parts": {
            "train": records[: seen.train],
            "stopping": records[seen.train :],
            "calibration": image_records(calibration.images, calibration.content),
        },
        "look": examined.record(),
    }
    baselines = Baselines.fit(seen.first.values, placed=flow.spec.places > 0)
    return Learned(model, metadata, baselines, record)


@dataclass(frozen=True)
class _TrainingFeatures:
    """What the flow learns from: the training images, then the validation images.

    Args:
        first: Features of epoch 0, of all images.
        epoch: Features of any epoch, of all images.
        train: The first so many images are the training images.
        val: `(M, V, ..., D) float32` of the validation images, in the views of calibration; None
            if nothing stops training early.
    """

    first: Features
    epoch: EpochFeatures
    train: int
    val: Tensor | None


def _read_training(
    job: TrainingSettings, reader: FeatureReader, splits: Splits
) -> _TrainingFeatures:
    views = job.recipe.views()
    first, epoch = training_features(job.recipe, reader, (*splits.train, *splits.val), job.seed)
    check_varied(first.values, FEWEST_TRAINING_IMAGES)
    train = len(set(splits.train).intersection(first.images))
    if job.recipe.patience is None:
        return _TrainingFeatures(first, epoch, train, None)
    values = first.values[train:]
    if views.angles != views.trained:
        plan = ViewPlan.fixed(views.angles)
        values = reader.read(first.images[train:], plan, "held-out features").values
    return _TrainingFeatures(first, epoch, train, torch.from_numpy(values))


def _fit(
    job: TrainingSettings, seen: _TrainingFeatures, dimension: int, fingerprint: str
) -> tuple[NormalizingFlow, History]:
    """Chooses the number of epochs by held-out likelihood, then trains on all images."""
    recipe, epochs, history = job.recipe, job.recipe.epochs, None
    selection, final = (
        Checkpoint(job.output / name, fingerprint, job.checkpoint_every_s)
        for name in CHECKPOINTS[:2]
    )
    if seen.val is not None:
        _, history = fit_flow(
            lambda epoch: seen.epoch(epoch)[: seen.train],
            dimension,
            recipe,
            job.seed,
            epochs=epochs,
            held_out=seen.val,
            checkpoint=selection,
            description="choosing the number of epochs",
        )
        epochs = history.best_epochs
    flow, last = fit_flow(seen.epoch, dimension, recipe, job.seed, epochs=epochs, checkpoint=final)
    return flow, history or last


def training_features(
    recipe: Recipe, reader: FeatureReader, images: Sequence[ImageFile], seed: int
) -> tuple[Features, EpochFeatures]:
    """Reads what a flow trains on, in the views that the recipe trains on.

    Args:
        recipe: Its rotation decides between fixed and random views, drawn once or every epoch.
        reader: Reads the images through the cache.
        images: The images to train on.
        seed: Seed of random views.

    Returns:
        The features of epoch 0, and the source of every epoch's features.

    Raises:
        DataError: Images can't be read.
    """
    if recipe.rotation != "random-fresh":
        angles = recipe.views().trained
        plan = (
            ViewPlan.random(recipe.draws, str(seed)) if angles == "any" else ViewPlan.fixed(angles)
        )
        cached = reader.read(images, plan, "training features")
        tensor = torch.from_numpy(cached.values)
        return cached, lambda _: tensor

    uncached = FeatureReader(
        reader.extractor,
        reader.contract,
        None,
        windows=reader.windows,
        skip_unreadable=reader.skip_unreadable,
    )

    @lru_cache(maxsize=1)
    def fresh(epoch: int) -> Features:
        plan = ViewPlan.random(recipe.draws, f"{seed} {epoch}")
        return uncached.read(images, plan, f"features of epoch {epoch + 1}")

    return fresh(0), lambda epoch: torch.from_numpy(fresh(epoch).values)
