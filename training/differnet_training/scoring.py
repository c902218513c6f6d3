"""Scores of features that were read before, as the model scores frames."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from differnet_runtime.metadata import Windows

from .baselines import in_chunks
from .gaussian import CHUNK
from .model import DifferNet


def score_features(model: DifferNet, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores `(N, V, ..., D)` features as the model scores frames; returns `(N,) float32`."""
    return in_chunks(features, _row_scores(model)).astype(np.float32)


def window_scores(model: DifferNet, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the heatmaps `(N, n, n) float32` of `(N, V, n * n, D)` features."""
    assert model.windows is not None
    n, score = model.windows.grid, _row_scores(model)
    parts = (features[k : k + CHUNK] for k in range(0, len(features), CHUNK))
    rows = np.concatenate([score(part).mean(axis=1) for part in parts])
    return rows.reshape(-1, n, n).astype(np.float32)


def scaled(windows: Windows, good_maps: NDArray[np.float32], threshold: float) -> Windows:
    """Sets the fixed scale of the heatmaps' colours; see `metadata.Windows`."""
    low = float(np.median(good_maps))
    return Windows(grid=windows.grid, low=low, high=2 * threshold - low)


def _row_scores(model: DifferNet) -> Callable[[NDArray[np.float32]], NDArray[np.float64]]:
    def score(part: NDArray[np.float32]) -> NDArray[np.float64]:
        rows = torch.from_numpy(part.reshape(-1, part.shape[-1]).copy())
        with torch.inference_mode():
            return model.score_features(rows).double().numpy().reshape(part.shape[:-1])

    return score
