"""The same training pictures under other seeds: how much of a figure is chance."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from differnet_runtime.errors import TrainingError

from .datasets import Label, Picture
from .features import FeatureReader, Features, ViewPlan
from .head_fitting import made
from .head_learning import fit_heads, joined_model
from .heads import HeadedModel
from .learning import training_features
from .metrics import auroc
from .recipes import Recipe
from .results import Groups, Seeds
from .scoring import Model, judge_features, score_features
from .trainer import fit_flow


def refit(
    model: Model,
    record: dict[str, Any],
    reader: FeatureReader,
    features: Features,
    base: int,
    count: int,
) -> Seeds:
    """Refits the flow on the recorded training pictures, with the recorded epochs, per seed.

    A model that was trained on random rotations gets other rotations with each seed as well.

    Raises:
        TrainingError: There is no record, or the training pictures are gone or have changed.
    """
    if "parts" not in record:
        raise TrainingError("the model holds no record of its training; --seeds needs one")
    if isinstance(model, HeadedModel):
        return _refit_heads(model, record, reader, features, range(base, base + count))
    recipe = Recipe.model_validate_json(json.dumps(record["recipe"]))
    entries = [*record["parts"]["train"], *record["parts"]["stopping"]]
    _refuse_missing(entries)
    pictures = [Picture(Path(entry["path"])) for entry in entries]
    strict = FeatureReader(
        reader.extractor, reader.contract, reader.cache_folder, windows=reader.windows
    )
    groups, aurocs = Groups(features.pictures, np.zeros(len(features.pictures))), []
    source = None
    for seed in range(base, base + count):
        if source is None or recipe.views().trained == "any":
            first, source = training_features(recipe, strict, pictures, seed)
            _refuse_changed(first, entries)
        model.flow, _ = fit_flow(
            source,
            first.values.shape[-1],
            recipe,
            seed,
            epochs=record["history"]["best_epochs"],
            description=f"seed {seed}",
        )
        values = score_features(model, features.values).astype(np.float64)
        aurocs.append(auroc(groups.of(Label.GOOD, values), groups.of(Label.DEFECT, values)))
    return _spread(range(base, base + count), aurocs)


def _spread(seeds: range, aurocs: Sequence[float]) -> Seeds:
    return Seeds(
        seeds=tuple(seeds),
        aurocs=tuple(aurocs),
        mean=float(np.mean(aurocs)),
        standard_deviation=float(np.std(aurocs, ddof=1)),
    )


def _refit_heads(
    model: HeadedModel,
    record: dict[str, Any],
    reader: FeatureReader,
    features: Features,
    seeds: range,
) -> Seeds:
    """Fits the heads again with each seed: other folds, order and noise."""
    recipe = Recipe.model_validate_json(json.dumps(record["recipe"]))
    entries = record["parts"]["train"]
    _refuse_missing(entries)
    strict = FeatureReader(
        reader.extractor, reader.contract, reader.cache_folder, heads=reader.heads
    )
    pictures = [Picture(Path(entry["path"])) for entry in entries]
    trained = strict.read(pictures, ViewPlan.fixed(model.views.angles), "training features")
    _refuse_changed(trained, entries)
    groups, aurocs = Groups(features.pictures, np.zeros(len(features.pictures))), []
    shapes = [head.model_copy(update={"epochs": 0}) for head in model.heads]
    for seed in seeds:
        fitted = fit_heads(shapes, trained.values[:, 0], record["groups"], recipe, seed, made)
        refitted = joined_model(model.contract, model.extractor, fitted, recipe)
        values = judge_features(refitted, features.values).scores.astype(np.float64)
        aurocs.append(auroc(groups.of(Label.GOOD, values), groups.of(Label.DEFECT, values)))
    return _spread(seeds, aurocs)


def _refuse_missing(entries: Sequence[dict[str, str]]) -> None:
    missing = [entry["path"] for entry in entries if not Path(entry["path"]).is_file()]
    if missing:
        raise TrainingError(
            f"--seeds needs the training pictures where they were ({len(missing)} are gone, the "
            f"first: {missing[0]})"
        )


def _refuse_changed(features: Features, entries: Sequence[dict[str, str]]) -> None:
    changed = [
        str(picture.path)
        for picture, content, entry in zip(
            features.pictures, features.content, entries, strict=True
        )
        if content != entry["sha256"]
    ]
    if changed:
        raise TrainingError(
            f"--seeds needs the training pictures as they were ({len(changed)} have changed, the "
            f"first: {changed[0]}). Put them back, or train again."
        )
