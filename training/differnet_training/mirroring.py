"""Mirrored copies of few good images: more samples of how features vary together.

With few images, the means are known well enough, but the covariances are not. Each kind of copy
has its own mean, and only deviations from it add to the covariance. A part that isn't symmetrical,
or is lit from one side, therefore does no harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from differnet_runtime.model_file.metadata import Head

from .datasets import ImageFile
from .features import FeatureReader, ViewPlan
from .head_fitting import Gaussians, Values, head_data

FEW = 200
"""Largest number of images that copies are made of; more images are enough without them."""


def read_copies(reader: FeatureReader, images: Sequence[ImageFile]) -> Values | None:
    """Reads features of mirrored copies, `(N, 3, D) float32`; None for more than `FEW` images.

    Raises:
        DataError: Images can't be read.
        OutputError: The disk has no room for the features.
    """
    if len(images) > FEW:
        return None
    return reader.read(images, ViewPlan.mirrored(), "mirrored copies").values


def copies_help(
    heads: Sequence[Head], values: Values, copies: Values, fold: NDArray[np.intp]
) -> bool:
    """Returns whether copies make held-out good images, unmirrored, more likely.

    The heads with windows decide for all. The whole-image head has only one sample per image, too
    few to compare likelihoods.

    Args:
        heads: Shapes of the heads.
        values: `(N, D) float32`, all heads' features.
        copies: `(N, C, D) float32`, those of the copies.
        fold: `(N,)`, the fold of each image.
    """
    gain = 0.0
    for head, data in head_data(heads, values, fold, copies):
        if not head.whole:
            without = replace(data, copies=None)
            gain += Gaussians(head, without, 0).held_out - Gaussians(head, data, 0).held_out
    return gain > 0
