"""Two sets of scores held together.

A relative difference tells how far the scores are apart; a verdict flip tells whether anybody
would notice: a frame that one calls good and the other a defect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from differnet_runtime.command import progress
from differnet_training.scoring import Model

LIMIT = 1e-4
"""Greatest relative difference between torch and a file in FP32."""

HALF_LIMIT = 2e-2
"""Greatest relative difference between torch and a file in FP16."""

INT8_LIMIT = 0.25
"""Greatest relative difference between torch and a file in INT8, on pictures."""

Frame = NDArray[np.uint8]
Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Comparison:
    """What was found on frames that a camera could give.

    Args:
        names: Of the frames.
        trained: Scores by torch, `(N,) float32`.
        exported: Scores by the file, `(N,) float32`.
        threshold: The file's; None without one.
        limit: Greatest relative difference allowed.
    """

    names: tuple[str, ...]
    trained: Scores
    exported: Scores
    threshold: float | None
    limit: float

    @property
    def differences(self) -> NDArray[np.float64]:
        """Relative differences `(N,)`; NaN where a score is not finite."""
        return relative_difference(self.trained, self.exported)

    @property
    def greatest(self) -> float:
        """The greatest relative difference."""
        return float(self.differences.max(initial=0.0))

    @property
    def median(self) -> float:
        """The median relative difference."""
        return float(np.median(self.differences)) if self.names else 0.0

    @property
    def flips(self) -> tuple[str, ...]:
        """Names of the frames whose verdict differs."""
        if self.threshold is None:
            return ()
        differs = (self.trained > self.threshold) != (self.exported > self.threshold)
        return tuple(name for name, flip in zip(self.names, differs, strict=True) if flip)

    @property
    def wrong_flips(self) -> tuple[str, ...]:
        """Flips of frames that lie farther from the threshold than the limit explains."""
        if self.threshold is None:
            return ()
        scores = dict(zip(self.names, self.trained.astype(np.float64), strict=True))
        reach = self.limit * abs(self.threshold)
        return tuple(n for n in self.flips if not abs(scores[n] - self.threshold) <= reach)

    @property
    def passed(self) -> bool:
        """Whether the file may be deployed, as far as these frames tell."""
        return self.greatest <= self.limit and not self.wrong_flips


def relative_difference(reference: Scores, other: Scores) -> NDArray[np.float64]:
    """Returns |other - reference| / |reference|, per frame."""
    exact = reference.astype(np.float64)
    difference: NDArray[np.float64] = np.abs(other - exact) / np.maximum(np.abs(exact), 1e-12)
    return difference


def torch_scores(model: Model, frames: Sequence[Frame]) -> Scores:
    """Returns torch's scores `(N,) float32` of `(height, width, C) uint8` frames."""
    with torch.inference_mode():
        scores = [
            model(torch.from_numpy(np.ascontiguousarray(frame[:, :, :3]))[None])
            for frame in progress(frames, "trained model", unit="frame")
        ]
        result: Scores = torch.cat(scores).numpy()
    return result
