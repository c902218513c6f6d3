"""Measures each head's AUROC, and what its flow adds to the Gaussian that it starts from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .baselines import Baselines
from .datasets import Label
from .features import Features
from .gaussian import CHUNK
from .head_learning import BANK_HEAD
from .heads import HeadedModel
from .metrics import Figure, auroc
from .results import Groups, HeadRow
from .scoring import Scored, judge_features


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


def start_model_scores(model: HeadedModel, record: dict[str, Any], features: Features) -> Scored:
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
