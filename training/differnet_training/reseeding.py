"""The same training pictures under other seeds: how much of a figure is chance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from differnet_runtime.errors import TrainingError

from .datasets import Label, Picture
from .features import FeatureReader, Features, ViewPlan
from .learning import score_features
from .metrics import auroc
from .model import DifferNet
from .recipes import Recipe
from .results import Groups, Seeds
from .trainer import fit_flow


def refit(
    model: DifferNet,
    record: dict[str, Any],
    reader: FeatureReader,
    features: Features,
    base: int,
    count: int,
) -> Seeds:
    """Refits the flow on the recorded training pictures, with the recorded epochs, per seed."""
    if "parts" not in record:
        raise TrainingError("the model holds no record of its training; --seeds needs one")
    recipe = Recipe.model_validate_json(json.dumps(record["recipe"]))
    entries = [*record["parts"]["train"], *record["parts"]["stopping"]]
    missing = [entry["path"] for entry in entries if not Path(entry["path"]).is_file()]
    if missing or recipe.views().trained == "any":
        raise TrainingError(
            f"--seeds needs the training pictures where they were ({len(missing)} are gone, the "
            f"first: {missing[0]})"
            if missing
            else "--seeds refits on fixed views; this model was trained on random rotations"
        )
    pictures = [Picture(Path(entry["path"])) for entry in entries]
    strict = FeatureReader(reader.extractor, reader.contract, reader.cache_folder)
    train = strict.read(pictures, ViewPlan.fixed(recipe.views().trained), "training features")  # type: ignore[arg-type]
    changed = [
        str(picture.path)
        for picture, content, entry in zip(train.pictures, train.content, entries, strict=True)
        if content != entry["sha256"]
    ]
    if changed:
        raise TrainingError(
            f"--seeds needs the training pictures as they were ({len(changed)} have changed, the "
            f"first: {changed[0]}). Put them back, or train again."
        )
    tensor = torch.from_numpy(train.values)
    groups, aurocs = Groups(features.pictures, np.zeros(len(features.pictures))), []
    for seed in range(base, base + count):
        model.flow, _ = fit_flow(
            lambda _: tensor,
            tensor.shape[-1],
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
