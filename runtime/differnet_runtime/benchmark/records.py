"""What a benchmark gives: samples with their spread, a row for each model and way to run it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

STAGES = ("capture", "preprocess", "integrity", "copy", "infer", "decide", "publish")
"""A frame's way. `copy` is what handing a prepared frame to the engine process costs; where the
frame is prepared in the backend's own memory, as `differnet run` does, it is saved."""


@dataclass(frozen=True)
class Samples:
    """Times of single runs.

    Args:
        ms: `(rounds, runs) float64` milliseconds.
    """

    ms: NDArray[np.float64]

    def summary(self) -> dict[str, float]:
        """Returns quantiles over all runs, and how far the rounds' medians lie apart.

        A percentile is a measured run (the next one up), never a mean of two: the p99 of fifty
        runs is their maximum.
        """
        p50, p95, p99 = np.percentile(self.ms, (50, 95, 99), method="higher")
        medians = np.median(self.ms, axis=1)
        found = {
            "p50_ms": p50,
            "p95_ms": p95,
            "p99_ms": p99,
            "max_ms": self.ms.max(),
            "min_ms": self.ms.min(),
            "mean_ms": self.ms.mean(),
            "least_round_ms": medians.min(),
            "greatest_round_ms": medians.max(),
        }
        return {name: float(value) for name, value in found.items()}


@dataclass(frozen=True)
class Row:
    """One model, run in one way.

    Args:
        model: The model file's name.
        precision: What the file's graph computes in.
        contender: See `contenders.CONTENDERS`.
        reason: Why there are no figures; None where there are.
        batches: Inference alone, by batch.
        stages: A frame's way at batch 1, stage by stage.
        total: The same, from the frame at hand to what is published.
        about: Facts: backend, file size, peak of the host's memory, CUDA graph, temperatures.
        failed: Why a part has no figures, by `batch 64` or `a frame's way`.
    """

    model: str
    precision: str
    contender: str
    reason: str | None = None
    batches: dict[int, Samples] = field(default_factory=dict)
    stages: dict[str, Samples] = field(default_factory=dict)
    total: Samples | None = None
    about: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """Returns the row, ready for JSON."""
        return {
            "model": self.model,
            "precision": self.precision,
            "contender": self.contender,
            "reason": self.reason,
            "failed": self.failed,
            "inference": {
                str(batch): {
                    **samples.summary(),
                    "frames_per_s": batch * 1e3 / float(samples.ms.mean()),
                }
                for batch, samples in self.batches.items()
            },
            "stages": {name: samples.summary() for name, samples in self.stages.items()},
            "total": self.total.summary() if self.total else None,
            **self.about,
        }
