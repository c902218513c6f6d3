"""Scores of features that were read before, as the model scores frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from differnet_runtime.model_file.metadata import Windows

from .baselines import in_chunks
from .gaussian import CHUNK
from .heads import HeadedModel
from .model import DifferNet

Model = DifferNet | HeadedModel


@dataclass(frozen=True)
class ModelScores:
    """What a model says of N pictures' features.

    Args:
        scores: `(N,) float32`.
        heads: `(N, H) float32`, the heads' scores; None for a model without heads.
        heatmaps: `(N, rows, columns) float32`; None for a model without windows.
    """

    scores: NDArray[np.float32]
    heads: NDArray[np.float32] | None
    heatmaps: NDArray[np.float32] | None


def judge_features(model: Model, features: NDArray[np.float32]) -> ModelScores:
    """Scores features that were read before as the model scores frames.

    Args:
        model: In eval mode.
        features: `(N, V, ..., D)`; `(N, D)` or `(N, 1, D)` for a model with heads.
    """
    if isinstance(model, DifferNet):
        heatmaps = None if model.windows is None else window_scores(model, features)
        return ModelScores(score_features(model, features), None, heatmaps)
    parts = []
    with torch.inference_mode():
        for k in range(0, len(features), CHUNK):
            rows = features[k : k + CHUNK].reshape(-1, features.shape[-1])
            parts.append(model.judge(torch.from_numpy(rows.copy())))
    scores, heads, maps = (
        np.concatenate([np.asarray(field) for field in fields])
        for fields in zip(*parts, strict=True)
    )
    return ModelScores(scores, heads, maps)


def score_features(model: DifferNet, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores `(N, V, ..., D)` features as the model scores frames; returns `(N,) float32`."""
    return in_chunks(features, _row_scores(model)).astype(np.float32)


def window_scores(model: DifferNet, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the heatmaps `(N, rows, columns) float32` of `(N, V, windows, D)` features."""
    assert model.windows is not None
    grid, score = model.windows, _row_scores(model)
    parts = (features[k : k + CHUNK] for k in range(0, len(features), CHUNK))
    rows = np.concatenate([score(part).mean(axis=1) for part in parts])
    return rows.reshape(-1, grid.rows, grid.columns).astype(np.float32)


def scaled(windows: Windows, good_maps: NDArray[np.float32], threshold: float) -> Windows:
    """Sets the fixed scale of the heatmaps' colours; see `metadata.Windows`."""
    low = float(np.median(good_maps))
    return windows.model_copy(update={"low": low, "high": 2 * threshold - low})


def _row_scores(model: DifferNet) -> Callable[[NDArray[np.float32]], NDArray[np.float64]]:
    def score(part: NDArray[np.float32]) -> NDArray[np.float64]:
        rows = torch.from_numpy(part.reshape(-1, part.shape[-1]).copy())
        with torch.inference_mode():
            return model.score_features(rows).double().numpy().reshape(part.shape[:-1])

    return score
