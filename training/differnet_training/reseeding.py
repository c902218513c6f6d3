"""The same training pictures under other seeds: how much of a figure is chance."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from differnet_runtime.errors import TrainingError

from .datasets import Label, Picture
from .features import FeatureReader, Features
from .learning import training_features
from .metrics import auroc
from .model import DifferNet
from .recipes import Recipe
from .results import Groups, Seeds
from .scoring import score_features
from .trainer import fit_flow


def refit(
    model: DifferNet,
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
    return Seeds(
        seeds=tuple(range(base, base + count)),
        aurocs=tuple(aurocs),
        mean=float(np.mean(aurocs)),
        standard_deviation=float(np.std(aurocs, ddof=1)),
    )


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
