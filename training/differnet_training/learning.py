"""From good pictures to a calibrated model: split, features, flow, baselines, threshold."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from differnet_runtime.inspection.calibration import calibrate
from differnet_runtime.model_file.metadata import ModelMetadata

from .baselines import Baselines
from .datasets import ImageFile, Splits, check_no_overlap, split_good
from .datasets.base import FEWEST_TRAINING_IMAGES
from .extractors import FeatureExtractor, build_extractor
from .features import FeatureReader, Features, ViewPlan
from .flow import NormalizingFlow
from .head_fitting import groups_of, of_parts
from .head_learning import check_varied, learn_heads
from .job import TrainingSettings, check_tiles, parts_are_named, provenance
from .limit_search import measure_limits
from .model import BASELINES, DifferNet, save_model, write_training
from .pictures import write_look_page
from .recipes import Recipe
from .scoring import scaled, score_features, window_scores
from .strange import Examined, examine_good
from .trainer import Checkpoint, EpochFeatures, History, fit_flow

__all__ = ["CHECKPOINTS", "TrainingSettings", "learn", "training_features"]

CHECKPOINTS = ("selection.checkpoint", "training.checkpoint")


def learn(job: TrainingSettings) -> ModelMetadata:
    """Trains and calibrates a model and saves it; a run that was cut short goes on.

    Raises:
        DataError: Unreadable, too few or doubled pictures.
        WeightsError: The extractor's weights can't be had.
        TrainingError: Training can't start or go on.
        OutputError: The model can't be written.
    """
    check_tiles(job.recipe, job.contract.tiles)
    metadata = _learn(job)
    write_look_page(job.output, metadata)
    return metadata


def _learn(job: TrainingSettings) -> ModelMetadata:
    check_no_overlap(job.data)
    return learn_heads(job) if job.recipe.heads else _learn_one_flow(job)


def _learn_one_flow(job: TrainingSettings) -> ModelMetadata:
    extractor = build_extractor(**job.recipe.reading(), weights=job.weights)
    windows = job.recipe.windows()
    reader = FeatureReader(
        extractor,
        job.contract,
        job.cache,
        windows=windows,
        skip_unreadable=job.skip_unreadable,
    )
    examined = examine_good(reader, job.data.good, job.doubtful, grouped=parts_are_named(job))
    groups = _groups(job, examined)
    of_pictures = [groups[picture.path] for picture in examined.pictures]
    parts = split_good(examined.pictures, job.seed, job.false_reject_rate, of_pictures)
    if job.recipe.patience is None:  # nothing stops early, so all may be learned from
        parts = Splits((*parts.train, *parts.stopping), (), parts.calibration)
    calibration_views = ViewPlan.fixed(job.recipe.views().angles)
    material = _read_material(job, reader, parts)
    calibration = reader.read(parts.calibration, calibration_views, "calibration features")
    fingerprint = _fingerprint(job, extractor, material)
    flow, history = _fit(job, material, extractor.spec.features, fingerprint)
    views, score = job.recipe.views(), job.recipe.score
    model = DifferNet(job.contract, views, extractor, flow.spec, score, windows)
    model.flow = flow
    scores = score_features(model, calibration.values).tolist()
    scores = of_parts(scores, [groups[picture.path] for picture in calibration.pictures])
    threshold = calibrate(scores, job.false_reject_rate, scored_by="torch")
    if windows is not None:
        maps = window_scores(model, calibration.values)
        windows = scaled(windows, maps, threshold.threshold)
    limits = None
    if job.detection_limits:
        limits = measure_limits(
            model, reader, calibration.pictures, threshold.threshold, seed=job.seed
        )
    metadata = ModelMetadata(
        name=job.data.name,
        input=job.contract,
        views=model.views,
        extractor=extractor.spec,
        flow=flow.spec,
        score=score,
        windows=windows,
        calibration=threshold,
        appearance=examined.appearance,
        picture_sizes=examined.sizes,
        detection_limits=limits,
        provenance=provenance(job, history.best_epochs, fingerprint, material.first.content),
    )
    Baselines.fit(material.first.values, placed=flow.spec.places > 0).save(job.output / BASELINES)
    record = _record(job.recipe, history, material, calibration)
    write_training(job.output, {**record, "look": examined.record()})
    metadata = save_model(job.output, model.eval(), metadata)
    for name in CHECKPOINTS:
        (job.output / name).unlink(missing_ok=True)
    return metadata


def _groups(job: TrainingSettings, examined: Examined) -> dict[Path, str]:
    """Names the part that each picture shows; no part is divided."""
    contents = [examined.content[picture.path] for picture in examined.pictures]
    names = groups_of(examined.pictures, examined.parts(contents), job.groups)
    return {picture.path: name for picture, name in zip(examined.pictures, names, strict=True)}


@dataclass(frozen=True)
class _Material:
    """What the flow learns from: the training part, then the part that stops training early.

    Args:
        first: Features of epoch 0, of both parts.
        epoch: Features of any epoch, of both parts.
        train_images: The first so many pictures are the training part.
        held_out: `(M, V, ..., D) float32` of the other part, in the views of calibration; None
            where nothing stops training early.
    """

    first: Features
    epoch: EpochFeatures
    train_images: int
    held_out: Tensor | None

    def train_epoch(self, epoch: int) -> Tensor:
        """Returns the training part's features of an epoch."""
        return self.epoch(epoch)[: self.train_images]


def _read_material(job: TrainingSettings, reader: FeatureReader, parts: Splits) -> _Material:
    recipe, views = job.recipe, job.recipe.views()
    first, epoch = training_features(recipe, reader, (*parts.train, *parts.stopping), job.seed)
    check_varied(first.values, FEWEST_TRAINING_IMAGES)
    train = set(parts.train)
    train_images = sum(picture in train for picture in first.pictures)
    held_out = None
    if recipe.patience is not None and views.angles == views.trained:
        held_out = torch.from_numpy(first.values[train_images:])
    elif recipe.patience is not None:
        plan = ViewPlan.fixed(views.angles)
        kept = first.pictures[train_images:]
        held_out = torch.from_numpy(reader.read(kept, plan, "held-out features").values)
    return _Material(first, epoch, train_images, held_out)


def _fit(
    job: TrainingSettings, material: _Material, dimension: int, fingerprint: str
) -> tuple[NormalizingFlow, History]:
    """Chooses the number of epochs by held-out likelihood, then trains on both parts."""
    recipe, epochs, history = job.recipe, job.recipe.epochs, None
    selection, final = (
        Checkpoint(job.output / name, fingerprint, job.checkpoint_every_s) for name in CHECKPOINTS
    )
    if material.held_out is not None:
        _, history = fit_flow(
            material.train_epoch,
            dimension,
            recipe,
            job.seed,
            epochs=epochs,
            held_out=material.held_out,
            checkpoint=selection,
            description="choosing the number of epochs",
        )
        epochs = history.best_epochs
    flow, last = fit_flow(
        material.epoch, dimension, recipe, job.seed, epochs=epochs, checkpoint=final
    )
    return flow, history or last


def training_features(
    recipe: Recipe, reader: FeatureReader, pictures: Sequence[ImageFile], seed: int
) -> tuple[Features, EpochFeatures]:
    """Reads what a flow trains on, in the views that the recipe trains on.

    Args:
        recipe: Its rotation decides between fixed and random views, drawn once or every epoch.
        reader: Reads the pictures.
        pictures: To learn from.
        seed: Of random views.

    Returns:
        The features of epoch 0, and the source of every epoch's.

    Raises:
        DataError: Pictures can't be read.
    """
    if recipe.rotation != "random-fresh":
        trained = recipe.views().trained
        plan = (
            ViewPlan.random(recipe.draws, str(seed))
            if trained == "any"
            else ViewPlan.fixed(trained)
        )
        cached = reader.read(pictures, plan, "training features")
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
        return uncached.read(pictures, plan, f"features of epoch {epoch + 1}")

    return fresh(0), _tensors(fresh)


def _tensors(features: Callable[[int], Features]) -> EpochFeatures:
    def source(epoch: int) -> Tensor:
        return torch.from_numpy(features(epoch).values)

    return source


def _fingerprint(job: TrainingSettings, extractor: FeatureExtractor, material: _Material) -> str:
    what = {
        "recipe": job.recipe.model_dump(mode="json"),
        "input": job.contract.model_dump(mode="json"),
        "extractor": extractor.spec.weights_sha256,
        "seed": job.seed,
        "pictures": material.first.content,
        "train_images": material.train_images,
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _record(
    recipe: Recipe, history: History, material: _Material, calibration: Features
) -> dict[str, Any]:
    seen, n = material.first, material.train_images
    parts = {
        "train": zip(seen.pictures[:n], seen.content[:n], strict=True),
        "stopping": zip(seen.pictures[n:], seen.content[n:], strict=True),
        "calibration": zip(calibration.pictures, calibration.content, strict=True),
    }
    return {
        "recipe": recipe.model_dump(mode="json"),
        "history": {**vars(history), "best_epochs": history.best_epochs},
        "parts": {
            name: [{"path": str(picture.path), "sha256": content} for picture, content in pairs]
            for name, pairs in parts.items()
        },
    }
