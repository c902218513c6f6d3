"""What the flows of a model add to the Gaussians that they start from, and how much is chance.

`head_rows` compares each head with its Gaussian; `refit` trains the flows again with other seeds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from differnet_runtime.errors import TrainingError

from .baselines import Baselines
from .datasets import ImageFile
from .features import FeatureReader, Features, ViewPlan
from .gaussian import chunks
from .head_fitting import made
from .head_learning import BANK_HEAD, fit_heads, joined_model, read_copies
from .heads import HeadedModel
from .learning import training_features
from .model import DifferNet, Model
from .recipes import Recipe
from .results import Figure, Groups, HeadRow, Seeds, auroc
from .trainer import EpochFeatures, fit_flow


def start_model(model: HeadedModel, record: dict[str, Any]) -> HeadedModel:
    """Returns the model before its flows were trained: Gaussians without coupling blocks.

    Args:
        model: The trained model with heads.
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


def nearest_scores(
    model: HeadedModel, baselines: Baselines, features: Features
) -> NDArray[np.float64]:
    """Returns `(N,)` scores by nearest neighbours among the windows of one head.

    An image's score is the highest of its window scores, as for the head itself.
    """
    values = features.values.reshape(len(features.values), -1)
    return np.concatenate(
        [
            baselines.distances(model.reader.part(part, BANK_HEAD)).max(axis=1)
            for part in chunks(values)
        ]
    )


def head_rows(
    model: HeadedModel, record: dict[str, Any], features: Features, groups: Groups
) -> tuple[HeadRow, ...]:
    """Returns a row for each head, and one for the joined score."""
    now = model.judge_features(features.values)
    start = start_model(model, record).judge_features(features.values)
    assert now.heads is not None
    assert start.heads is not None
    decided = now.heads.argmax(axis=1)
    rows = [
        HeadRow(
            name=head.name,
            epochs=head.epochs,
            image_auroc=auroc(*groups.pair(now.heads[:, position])),
            start_auroc=auroc(*groups.pair(start.heads[:, position])),
            decided=int((decided == position).sum()),
        )
        for position, head in enumerate(model.heads)
    ]
    joined = HeadRow(
        name="joined",
        epochs=max(head.epochs for head in model.heads),
        image_auroc=auroc(*groups.pair(now.scores)),
        start_auroc=auroc(*groups.pair(start.scores)),
        decided=len(decided),
    )
    return (*rows, joined)


def heads_sentence(rows: Sequence[HeadRow], difference: Figure) -> str:
    """Says in a sentence what the flows added to the Gaussians that the heads start from.

    Args:
        rows: The result of `head_rows`.
        difference: AUROC of the joined score minus that of the joined Gaussians.
    """
    trained = [row for row in rows if row.epochs and row.name != "joined"]
    if not trained:
        return (
            "Training a flow did not help on held-out good pictures: every head is the Gaussian "
            "that its flow starts from. More, or more varied, good pictures may change that."
        )
    text = "; ".join(
        f"the {row.name} head's flow ({row.epochs} epochs) changes that head's AUROC by "
        f"{100 * (row.image_auroc - row.start_auroc):+.2f} points"
        for row in trained
    )
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
    """Trains the flows again on the recorded training images with `count` seeds from `base` on.

    The number of epochs of one flow is the recorded one. Random rotations, folds, order and noise
    change with the seed.

    Args:
        model: The trained model, which is not changed.
        record: Its training record, with the images' hashes.
        reader: Reads the features of its training images.
        features: Features of the test images, which each refitted model scores.
        base: Seed of the first refit.
        count: Number of seeds to try.

    Raises:
        TrainingError: There is no record, or the training images are gone or have changed.
    """
    if "parts" not in record:
        raise TrainingError("the model holds no record of its training; --seeds needs one")
    entries = [*record["parts"]["train"], *record["parts"].get("stopping", ())]
    missing = [entry["path"] for entry in entries if not Path(entry["path"]).is_file()]
    if missing:
        raise TrainingError(
            f"--seeds needs the training pictures where they were ({len(missing)} are gone, the "
            f"first: {missing[0]})"
        )
    strict = FeatureReader(
        reader.extractor,
        reader.contract,
        reader.cache_folder,
        windows=reader.windows,
        heads=reader.heads,
    )
    recipe = Recipe.model_validate_json(json.dumps(record["recipe"]))
    images = [ImageFile(Path(entry["path"])) for entry in entries]
    seeds = range(base, base + count)

    def unchanged(found: Features) -> Features:
        """Refuses features of images that have changed since training."""
        changed = [
            str(image.path)
            for image, content, entry in zip(found.images, found.content, entries, strict=True)
            if content != entry["sha256"]
        ]
        if changed:
            raise TrainingError(
                f"--seeds needs the training pictures as they were ({len(changed)} have changed, "
                f"the first: {changed[0]}). Put them back, or train again."
            )
        return found

    def refitted() -> Iterator[Model]:
        """Yields a model for each seed."""
        source: EpochFeatures | None = None
        if isinstance(model, HeadedModel):
            plan = ViewPlan.fixed(model.views.angles)
            values = unchanged(strict.read(images, plan, "training features")).values[:, 0]
            copies = read_copies(strict, images)
            shapes = [head.model_copy(update={"epochs": 0}) for head in model.heads]
            for seed in seeds:
                fitted = fit_heads(shapes, values, record["groups"], recipe, seed, made, copies)
                yield joined_model(model.contract, model.extractor, fitted, recipe)
            return
        for seed in seeds:
            if source is None or recipe.views().trained == "any":
                first, source = training_features(recipe, strict, images, seed)
                unchanged(first)
            one = DifferNet(
                model.contract,
                model.views,
                model.extractor,
                model.flow.spec,
                model.score,
                model.windows,
            )
            one.flow, _ = fit_flow(
                source,
                model.flow.spec.features,
                recipe,
                seed,
                epochs=record["history"]["best_epochs"],
                description=f"seed {seed}",
            )
            yield one.eval()

    groups = Groups(features.images, np.zeros(len(features.images)))
    aurocs = [auroc(*groups.pair(one.judge_features(features.values).scores)) for one in refitted()]
    return Seeds(
        seeds=tuple(seeds),
        aurocs=tuple(aurocs),
        mean=float(np.mean(aurocs)),
        standard_deviation=float(np.std(aurocs, ddof=1)),
    )
