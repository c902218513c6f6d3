"""The results of a benchmark, as records, as tables for a terminal, and as a picture (SVG)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
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


_WIDTH, _LEFT, _RIGHT = 900, 260, 40
_HEIGHT_OF_CURVE, _HEIGHT_OF_BAR, _TOP = 64, 34, 70
_COLOURS = ("#8c9db5", "#e3a857", "#c9705f", "#b5b5b5", "#3b6ea5", "#7aa974", "#a97aa9")
_INFER = _COLOURS[STAGES.index("infer")]
_BINS = 90


def draw(rows: Sequence[Row], title: str) -> str:
    """Returns an SVG with a histogram and a bar of stages for each row that has figures.

    Args:
        rows: Rows that `measuring.measure` returned.
        title: Title of the picture.
    """
    inferred = [row for row in rows if row.batches]
    staged = [row for row in rows if row.total is not None]
    curves = _curves(inferred)
    second = _TOP + 30 + len(inferred) * _HEIGHT_OF_CURVE + 70
    bars = _bars(staged, second)
    height = second + 60 + len(staged) * _HEIGHT_OF_BAR + 40
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
            'font-family="sans-serif" font-size="13" fill="#222">',
            f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
            _text(20, 28, title, size=16),
            *curves,
            *bars,
            "</svg>\n",
        ]
    )


def _curves(rows: Sequence[Row]) -> list[str]:
    """Draws a histogram for each row, on a common scale of milliseconds."""
    found = [_text(20, _TOP - 12, "Inference at batch 1: every run, p50 and p99", size=14)]
    if not rows:
        return [*found, _text(20, _TOP + 20, "nothing could be measured here")]
    samples = [row.batches[1].ms.reshape(-1) for row in rows]
    # The slowest hundredth does not stretch the scale: its number stands beside the curve.
    end = _round_up(max(float(np.quantile(one, 0.99)) for one in samples) * 1.15)
    for position, (row, times) in enumerate(zip(rows, samples, strict=True)):
        base = _TOP + 20 + (position + 1) * _HEIGHT_OF_CURVE - 14
        counts, _ = np.histogram(times, _BINS, (0.0, end))
        found.append(_text(20, base - 14, row.contender))
        found.append(_text(20, base + 2, f"{row.model}, {row.precision}", size=11))
        found.append(_histogram(counts, base))
        for share, dash in ((50, ""), (99, ' stroke-dasharray="3 3"')):
            value = float(np.percentile(times, share, method="higher"))
            x = _x(value, end)
            found.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{base - 46}" y2="{base}" stroke="#222"'
                f"{dash}><title>p{share}</title></line>"
            )
            found.append(_text(x + 3, base - 36 + (share == 99) * 12, f"{value:.2f}", size=11))
    return [*found, *_axis(end, _TOP + 24 + len(rows) * _HEIGHT_OF_CURVE)]


def _histogram(counts: np.ndarray, base: int) -> str:
    step = (_WIDTH - _LEFT - _RIGHT) / _BINS
    heights = 42 * counts / max(1, counts.max())
    bars = "".join(
        f'<rect x="{_LEFT + k * step:.1f}" y="{base - h:.1f}" width="{step:.1f}" height="{h:.1f}"/>'
        for k, h in enumerate(heights)
        if h
    )
    return f'<g fill="{_INFER}">{bars}</g>'


def _bars(rows: Sequence[Row], top: int) -> list[str]:
    """Draws the stages of each row side by side."""
    found = [
        _text(20, top - 12, "A frame's way: p50 of each stage; publish goes to /dev/null", size=14)
    ]
    medians = [[row.stages[name].summary()["p50_ms"] for name in STAGES] for row in rows]
    end = _round_up(max((sum(one) for one in medians), default=1.0))
    for position, (row, times) in enumerate(zip(rows, medians, strict=True)):
        y, x = top + 26 + position * _HEIGHT_OF_BAR, float(_LEFT)
        found.append(_text(20, y + 9, row.contender))
        found.append(_text(20, y + 22, f"{row.model}, {row.precision}", size=11))
        for name, ms, colour in zip(STAGES, times, _COLOURS, strict=True):
            width = ms / end * (_WIDTH - _LEFT - _RIGHT)
            found.append(
                f'<rect x="{x:.1f}" y="{y}" width="{width:.2f}" height="20" fill="{colour}">'
                f"<title>{name}: {ms:.3f} ms</title></rect>"
            )
            x += width
    for k, (name, colour) in enumerate(zip(STAGES, _COLOURS, strict=True)):
        x = _LEFT + k * 88
        found.append(f'<rect x="{x}" y="{top}" width="12" height="12" fill="{colour}"/>')
        found.append(_text(x + 17, top + 11, name, size=12))
    return [*found, *_axis(end, top + 30 + len(rows) * _HEIGHT_OF_BAR)]


def _axis(end: float, y: int) -> list[str]:
    lines = [f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}" stroke="#888"/>']
    for k in range(6):
        value = end * k / 5
        lines.append(_text(_x(value, end) - 8, y + 16, f"{value:g}", size=11))
    return [*lines, _text(_WIDTH - _RIGHT + 8, y + 4, "ms", size=11)]


def _x(value: float, end: float) -> float:
    return _LEFT + min(value / end, 1.0) * (_WIDTH - _LEFT - _RIGHT)


def _round_up(value: float) -> float:
    """Rounds up to 1, 2, 2.5 or 5 times a power of ten."""
    power = 10.0 ** np.floor(np.log10(max(value, 1e-6)))
    return float(next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value))


def _text(x: float, y: float, text: str, *, size: int = 13) -> str:
    return f'<text x="{x:.1f}" y="{y}" font-size="{size}">{escape(text)}</text>'


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
