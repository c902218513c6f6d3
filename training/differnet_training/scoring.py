"""Scores features that were read before, as the model scores frames, and joins heads' scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from differnet_runtime.errors import DataError
from differnet_runtime.model_file.metadata import Windows

from .baselines import in_chunks
from .gaussian import chunks
from .heads import LEAST, HeadedModel
from .model import DifferNet

Model = DifferNet | HeadedModel


@dataclass(frozen=True)
class ModelScores:
    """A model's scores and heatmaps of N images.

    Args:
        scores: `(N,) float32`.
        heads: `(N, H) float32`, the heads' scores; None for a model without heads.
        heatmaps: `(N, rows, columns) float32`; None for a model without windows.
    """

    scores: NDArray[np.float32]
    heads: NDArray[np.float32] | None
    heatmaps: NDArray[np.float32] | None


def judge_features(model: Model, features: NDArray[np.float32]) -> ModelScores:
    """Scores features that were read before.

    Args:
        model: In eval mode.
        features: `(N, V, ..., D)`; `(N, D)` or `(N, 1, D)` for a model with heads.
    """
    if isinstance(model, DifferNet):
        heatmaps = None if model.windows is None else window_scores(model, features)
        return ModelScores(score_features(model, features), None, heatmaps)
    with torch.inference_mode():
        found = [
            model.judge(torch.from_numpy(part.reshape(-1, part.shape[-1]).copy()))
            for part in chunks(features)
        ]
    return ModelScores(
        *(np.concatenate([np.asarray(t) for t in tensors]) for tensors in zip(*found, strict=True))
    )


def score_features(model: DifferNet, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores `(N, V, ..., D)` features; returns `(N,) float32`."""
    return in_chunks(features, _row_scores(model)).astype(np.float32)


def window_scores(model: DifferNet, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the heatmaps `(N, rows, columns) float32` of `(N, V, windows, D)` features."""
    assert model.windows is not None
    score = _row_scores(model)
    rows = np.concatenate([score(part).mean(axis=1) for part in chunks(features)])
    return rows.reshape(-1, model.windows.rows, model.windows.columns).astype(np.float32)


def _row_scores(model: DifferNet) -> Callable[[NDArray[np.float32]], NDArray[np.float64]]:
    def score(part: NDArray[np.float32]) -> NDArray[np.float64]:
        rows = torch.from_numpy(part.reshape(-1, part.shape[-1]).copy())
        with torch.inference_mode():
            return model.score_features(rows).double().numpy().reshape(part.shape[:-1])

    return score


def set_scale(windows: Windows, heatmaps: NDArray[np.float32], threshold: float) -> Windows:
    """Sets the fixed colour scale of heatmaps; see `metadata.Windows`.

    Args:
        windows: The grid, without a scale.
        heatmaps: `(N, rows, columns)`, of normal images.
        threshold: The threshold, halfway between low and high.
    """
    low = float(np.median(heatmaps))
    return windows.model_copy(update={"low": low, "high": 2 * threshold - low})


class Scale(NamedTuple):
    """A head's `typical` and `spread`; see `metadata.Head`."""

    typical: float
    spread: float


def scale_of(unseen: NDArray[np.float64], handicap: float) -> Scale:
    """Returns a head's scale, computed from scores of normal images that it had not seen.

    Args:
        unseen: `(N,)` scores.
        handicap: See `recipes.HeadRecipe`.

    Raises:
        DataError: The scores do not differ at all.
    """
    logs = np.log(positive(unseen))
    spread = float(logs.std(ddof=1))
    if spread < 1e-9:
        raise DataError(
            "the good pictures give the same score, as if all were the same picture. Take "
            "pictures of different parts."
        )
    return Scale(float(np.exp(logs.mean() + handicap * spread)), spread)


def joined_scores(
    unseen: Sequence[NDArray[np.float64]], scales: Sequence[Scale]
) -> NDArray[np.float64]:
    """Returns the heads' joined scores `(N,)`, computed as in `HeadedModel.join`."""
    z = np.stack(
        [
            np.log(positive(scores) / scale.typical) / scale.spread
            for scores, scale in zip(unseen, scales, strict=True)
        ]
    )
    top = z.max(axis=0)
    joined = top + np.log(np.exp(z - top).mean(axis=0))
    return np.asarray(np.exp(min(scale.spread for scale in scales) * joined))


def positive(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Raises scores above 0, as `HeadFlow.standardized` does, so that they have logarithms."""
    return np.maximum(np.where(scores > 1.0, scores, np.exp(np.minimum(scores, 1.0) - 1.0)), LEAST)
