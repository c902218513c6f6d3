"""The same training pictures under other seeds: how much of a figure is chance.

Measures each head's AUROC, and what its flow adds to the Gaussian that it starts from.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from differnet_runtime.errors import TrainingError

from .baselines import Baselines
from .datasets import ImageFile, Label
from .features import FeatureReader, Features, ViewPlan
from .gaussian import CHUNK
from .head_fitting import made
from .head_learning import BANK_HEAD, fit_heads, joined_model
from .heads import HeadedModel
from .learning import training_features
from .metrics import Figure, auroc
from .recipes import Recipe
from .results import Groups, HeadRow, Seeds
from .scoring import Model, ModelScores, judge_features, score_features
from .trainer import fit_flow


def start_model(model: HeadedModel, record: dict[str, Any]) -> HeadedModel:
    """Returns the model before its flows were trained: Gaussians without coupling blocks.

    Args:
        model: The trained model.
        record: Its training record, which holds the scales of the untrained heads.
    """
    history = record.get("history", {}).get("heads", {})
    heads = []
    for head in model.heads:
        scale = history.get(head.name, {}).get("start", {})
        flow = head.flow.model_copy(update={"blocks": 0})
        heads.append(head.model_copy(update={"flow": flow, "epochs": 0, **scale}))
    start = HeadedModel(model.contract, model.extractor, heads)
    for begun, trained in zip(start.flows, model.flows, strict=True):
        begun.centre, begun.matrix = trained.centre, trained.matrix
    return start.eval()


def start_model_scores(
    model: HeadedModel, record: dict[str, Any], features: Features
) -> ModelScores:
    """Scores features by the Gaussians that the heads start from."""
    return judge_features(start_model(model, record), features.values)


def nearest_scores(
    model: HeadedModel, baselines: Baselines, features: Features
) -> NDArray[np.float64]:
    """Returns `(N,)` scores by nearest neighbours among the windows of one head.

    A picture's score is the highest of its window scores, as for the head itself.
    """
    found = []
    values = features.values.reshape(len(features.values), -1)
    for begin in range(0, len(values), CHUNK):
        rows = model.reader.part(values[begin : begin + CHUNK], BANK_HEAD)
        found.append(baselines.distances(rows).max(axis=1))
    return np.concatenate(found)


def head_rows(
    model: HeadedModel, record: dict[str, Any], features: Features, groups: Groups
) -> tuple[HeadRow, ...]:
    """Returns a row for each head, and one for the joined score."""
    now = judge_features(model, features.values)
    start = start_model_scores(model, record, features)
    assert now.heads is not None
    assert start.heads is not None

    def worth(values: NDArray[np.float32]) -> float:
        scores = values.astype(np.float64)
        return auroc(groups.of(Label.GOOD, scores), groups.of(Label.DEFECT, scores))

    decided = now.heads.argmax(axis=1)
    rows = [
        HeadRow(
            name=head.name,
            epochs=head.epochs,
            image_auroc=worth(now.heads[:, position]),
            start_auroc=worth(start.heads[:, position]),
            decided=int((decided == position).sum()),
        )
        for position, head in enumerate(model.heads)
    ]
    joined = HeadRow(
        name="joined",
        epochs=max(head.epochs for head in model.heads),
        image_auroc=worth(now.scores),
        start_auroc=worth(start.scores),
        decided=len(decided),
    )
    return (*rows, joined)


def heads_sentence(rows: Sequence[HeadRow], difference: Figure) -> str:
    """Says in a sentence what the flows added to the Gaussians that the heads start from.

    Args:
        rows: Of `head_rows`.
        difference: AUROC of the joined score minus that of the joined Gaussians.
    """
    trained = [row for row in rows if row.epochs and row.name != "joined"]
    if not trained:
        return (
            "Training a flow did not help on held-out good pictures: every head is the Gaussian "
            "that its flow starts from. More, or more varied, good pictures may change that."
        )
    parts = [
        f"the {row.name} head's flow ({row.epochs} epochs) changes that head's AUROC by "
        f"{100 * (row.image_auroc - row.start_auroc):+.2f} points"
        for row in trained
    ]
    text = "; ".join(parts)
    return (
        f"{text[0].upper()}{text[1:]}, and the joined score's by {100 * difference.value:+.2f} "
        f"(95 % interval {100 * difference.low:+.2f} to {100 * difference.high:+.2f})."
    )


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
    pictures = [ImageFile(Path(entry["path"])) for entry in entries]
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
    pictures = [ImageFile(Path(entry["path"])) for entry in entries]
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
