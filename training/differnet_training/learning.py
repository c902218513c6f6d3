"""From good pictures to a calibrated model: split, features, flow, baselines, threshold."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from differnet_runtime.calibration import DEFAULT_FALSE_REJECT_RATE, calibrate
from differnet_runtime.metadata import InputContract, ModelMetadata, Provenance

from .baselines import Baselines
from .datasets import DataSet, Parts, Picture, check_no_overlap, split_good
from .extractors import FeatureExtractor, build_extractor
from .features import FeatureReader, Features, ViewPlan
from .model import DifferNet
from .model_directory import BASELINES, save_model, write_training
from .recipes import Recipe
from .trainer import EpochFeatures, History, fit_flow

CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class Job:
    """One training run.

    Args:
        data: Good pictures (and test pictures, which are only checked against duplicates).
        recipe: The settings.
        contract: How frames become input.
        seed: Of the split, the weights, the order and the noise.
        false_reject_rate: For the threshold.
        output: Folder of the model.
        cache: Folder of the feature cache; None computes every feature afresh.
        weights: Extractor weights file; None takes the default.
        skip_unreadable: Go on without pictures that can't be read.
        checkpoint_every_s: For resuming; at most so often.
    """

    data: DataSet
    recipe: Recipe
    contract: InputContract
    output: Path
    cache: Path | None
    seed: int = 0
    false_reject_rate: float = DEFAULT_FALSE_REJECT_RATE
    weights: Path | None = None
    skip_unreadable: bool = False
    checkpoint_every_s: float = 10.0


def learn(job: Job) -> ModelMetadata:
    """Trains and calibrates a model and saves it; a run that was cut short goes on.

    Raises:
        DataError: Unreadable, too few or doubled pictures.
        WeightsError: The extractor's weights can't be had.
        TrainingError: Training can't start or go on.
        OutputError: The model can't be written.
    """
    check_no_overlap(job.data)
    parts = split_good(job.data.good, job.seed, job.false_reject_rate)
    if job.recipe.patience is None:  # nothing stops early, so all may be learned from
        parts = Parts((*parts.train, *parts.stopping), (), parts.calibration)
    extractor = build_extractor(job.recipe.extractor, tap=job.recipe.tap, weights=job.weights)
    reader = FeatureReader(
        extractor, job.contract, job.cache, skip_unreadable=job.skip_unreadable
    )
    views = job.recipe.views()
    fixed = ViewPlan.fixed(views.angles)
    train, source = _training_features(job.recipe, reader, parts.train, job.seed)
    stopping = reader.read(parts.stopping, fixed, "held-out features") if parts.stopping else None
    calibration = reader.read(parts.calibration, fixed, "calibration features")

    fingerprint = _fingerprint(job, extractor, train, stopping)
    flow, history = fit_flow(
        source,
        extractor.spec.features,
        torch.from_numpy(stopping.values) if stopping else None,
        job.recipe,
        job.seed,
        checkpoint=job.output / CHECKPOINT,
        fingerprint=fingerprint,
        checkpoint_every_s=job.checkpoint_every_s,
    )
    model = DifferNet(job.contract, views, extractor, flow.spec, job.recipe.score)
    model.flow = flow
    metadata = ModelMetadata(
        name=job.data.name,
        input=job.contract,
        views=views,
        extractor=extractor.spec,
        flow=flow.spec,
        score=job.recipe.score,
        calibration=calibrate(
            score_features(model, calibration.values).tolist(),
            job.false_reject_rate,
            scored_by="torch",
        ),
        provenance=_provenance(job, history, fingerprint, len(train.pictures)),
    )
    seen = train.values if stopping is None else np.concatenate([train.values, stopping.values])
    Baselines.fit(seen).save(job.output / BASELINES)
    used = {"train": train, "stopping": stopping, "calibration": calibration}
    write_training(job.output, _record(job.recipe, history, used))
    metadata = save_model(job.output, model.eval(), metadata)
    (job.output / CHECKPOINT).unlink(missing_ok=True)
    return metadata


def score_features(model: DifferNet, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores `(N, V, D) float32` features as the model scores frames; returns `(N,) float32`."""
    count, views, dimension = features.shape
    with torch.inference_mode():
        scores = model.score_features(torch.from_numpy(features.reshape(-1, dimension).copy()))
        means: NDArray[np.float32] = scores.reshape(count, views).mean(dim=1).numpy()
    return means


def _training_features(
    recipe: Recipe, reader: FeatureReader, pictures: tuple[Picture, ...], seed: int
) -> tuple[Features, EpochFeatures]:
    """Returns the features of epoch 0 and the source of every epoch's."""
    if recipe.rotation != "random-fresh":
        plan = (
            ViewPlan.random(recipe.draws, f"{seed}")
            if recipe.rotation == "random"
            else ViewPlan.fixed(recipe.views().trained)  # type: ignore[arg-type]
        )
        cached = reader.read(pictures, plan, "training features")
        tensor = torch.from_numpy(cached.values)
        return cached, lambda _: tensor

    uncached = FeatureReader(reader.extractor, reader.contract, None)

    @lru_cache(maxsize=1)
    def fresh(epoch: int) -> Features:
        plan = ViewPlan.random(recipe.draws, f"{seed} {epoch}")
        return uncached.read(kept, plan, f"features of epoch {epoch + 1}")

    first = reader.read(pictures, ViewPlan.fixed((0.0,)), "reading the pictures")
    kept = first.pictures
    return fresh(0), _tensors(fresh)


def _tensors(features: Callable[[int], Features]) -> EpochFeatures:
    def source(epoch: int) -> Tensor:
        return torch.from_numpy(features(epoch).values)

    return source


def _fingerprint(
    job: Job, extractor: FeatureExtractor, train: Features, stopping: Features | None
) -> str:
    what = {
        "recipe": job.recipe.model_dump(mode="json"),
        "input": job.contract.model_dump(mode="json"),
        "extractor": extractor.spec.weights_sha256,
        "seed": job.seed,
        "train": train.content,
        "stopping": stopping.content if stopping else (),
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _provenance(job: Job, history: History, fingerprint: str, images: int) -> Provenance:
    packages = ("differnet-edge", "torch", "timm", "numpy")
    return Provenance(
        recipe=job.recipe.name,
        seed=job.seed,
        images=images,
        epochs=history.best_epoch + 1,
        data_sha256=fingerprint,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        versions={"python": platform.python_version(), **{name: version(name) for name in packages}},
    )


def _record(
    recipe: Recipe, history: History, parts: dict[str, Features | None]
) -> dict[str, Any]:
    return {
        "recipe": recipe.model_dump(mode="json"),
        "history": vars(history),
        "parts": {
            name: [
                {"path": str(picture.path), "sha256": content}
                for picture, content in zip(features.pictures, features.content, strict=True)
            ]
            for name, features in parts.items()
            if features is not None
        },
    }
