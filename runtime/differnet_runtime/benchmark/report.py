"""The results of a benchmark, as records and as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..text import table

STAGES = ("capture", "preprocess", "integrity", "copy", "infer", "decide", "publish")
"""The stages of a frame's way. `copy` copies a prepared frame, which `differnet run` avoids by
preparing it in the backend's own memory."""


@dataclass(frozen=True)
class Samples:
    """Latencies of single runs.

    Args:
        ms: `(rounds, runs) float64` milliseconds.

    Example:
        >>> Samples(np.array([[1.0, 2.0], [1.0, 3.0]])).summary()["p50_ms"]
        2.0
    """

    ms: NDArray[np.float64]

    def summary(self) -> dict[str, float]:
        """Returns quantiles over all runs, and the range of the rounds' medians.

        A percentile is a measured run (rounded up), never a mean of two: the p99 of fifty runs is
        their maximum.
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
    """The figures of one model, run in one way.

    Args:
        model: Name of the model file.
        precision: Precision of the file's graph.
        contender: The way it was run; see `measuring.CONTENDERS`.
        reason: Why there are no figures, or None.
        batches: Latencies of inference alone, by batch.
        stages: Latencies of a frame's way at batch 1, by stage.
        total: Latencies of the whole way, from the frame in memory to its publication.
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


_HEADER = (
    "model",
    "contender",
    "batch",
    "p50",
    "p95",
    "p99",
    "max",
    "rounds' medians",
    "frames/s",
)
_ABOUT = (
    "model",
    "contender",
    "CUDA graph",
    "temperatures before and after, C",
    "file, MB",
    "peak of the host's memory (not the GPU's), MiB",
)


def tables(rows: Sequence[Row]) -> str:
    """Returns the results as tables of milliseconds, for a terminal."""
    absent: dict[str, list[str]] = {}
    for row in rows:
        name = f"{row.model}, {row.contender}"
        failed = {name: row.reason} if row.reason else {}
        failed |= {f"{name}, {part}": reason for part, reason in row.failed.items()}
        for what, reason in failed.items():
            absent.setdefault(reason, []).append(what)
    lines = [f"\n  {'; '.join(names)}: {reason}" for reason, names in absent.items()]
    missing = "Not measured:" + "".join(lines) if lines else ""
    return "\n\n".join(filter(None, (_inference(rows), _stages(rows), _about(rows), missing)))


def _inference(rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        for batch, samples in sorted(row.batches.items()):
            found = samples.summary()
            times = [f"{found[f'{name}_ms']:.2f}" for name in ("p50", "p95", "p99", "max")]
            around = f"{found['least_round_ms']:.2f} to {found['greatest_round_ms']:.2f}"
            rate = f"{batch * 1e3 / found['mean_ms']:.1f}"
            name = f"{row.model} ({row.precision})"
            lines.append((name, row.contender, str(batch), *times, around, rate))
    return "Inference, ms a batch\n" + _aligned(_HEADER, lines) if lines else ""


def _stages(rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        if row.total is None:
            continue
        stages = [f"{row.stages[name].summary()['p50_ms']:.3f}" for name in STAGES]
        total = row.total.summary()
        ends = [f"{total['p50_ms']:.2f}", f"{total['p99_ms']:.2f}"]
        lines.append((row.model, row.contender, *stages, *ends))
    header = ("model", "contender", *STAGES, "total p50", "total p99")
    title = "A frame's way, p50 in ms; the total is without capture and copy\n"
    return title + _aligned(header, lines) if lines else ""


def _about(rows: Sequence[Row]) -> str:
    lines = [
        (
            row.model,
            row.contender,
            row.about["cuda_graph"] or "none",
            _warmth(row.about["temperatures_before"], row.about["temperatures_after"]),
            f"{row.about['file_mb']:.1f}",
            f"{row.about['peak_host_memory_mib']:.0f}",
        )
        for row in rows
        if not row.reason
    ]
    return "What was run\n" + _aligned(_ABOUT, lines, left=4) if lines else ""


def _warmth(before: dict[str, float] | None, after: dict[str, float] | None) -> str:
    """Returns the temperatures as `cpu-thermal 48.2 to 52.0, ...`."""
    before, after = before or {}, after or {}
    zones = [
        f"{name} " + " to ".join(f"{at[name]:.1f}" if name in at else "?" for at in (before, after))
        for name in {**before, **after}
    ]
    return ", ".join(zones) or "this machine tells none"


def _aligned(header: Sequence[str], lines: Iterable[Sequence[str]], left: int = 2) -> str:
    """Returns the table; its first `left` columns are aligned to the left."""
    return table([header, *lines], right=range(left, len(header)))
