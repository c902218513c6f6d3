"""Brings the heads' scores to one scale and joins them, as `HeadedModel.join` does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from differnet_runtime.errors import DataError

from .heads import LEAST


class Scale(NamedTuple):
    """A head's `typical` and `spread`; see `metadata.Head`."""

    typical: float
    spread: float


def scale_of(unseen: NDArray[np.float64], handicap: float) -> Scale:
    """Returns a head's scale, computed from scores of good pictures that it had not seen.

    Args:
        unseen: `(N,)`, those scores.
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
    """Returns the joined scores `(N,)`, computed as in `HeadedModel.join`."""
    z = np.stack(
        [
            np.log(positive(scores) / scale.typical) / scale.spread
            for scores, scale in zip(unseen, scales, strict=True)
        ]
    )
    top = z.max(axis=0)
    joined = top + np.log(np.exp(z - top).mean(axis=0))
    unit = min(scale.spread for scale in scales)
    scores: NDArray[np.float64] = np.exp(unit * joined)
    return scores


def positive(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Raises scores to above 0, as `HeadFlow.standardized` does, so that they have logarithms."""
    positive = np.where(scores > 1.0, scores, np.exp(np.minimum(scores, 1.0) - 1.0))
    return np.maximum(positive, LEAST)
