"""A benchmark as text: a line for each contender, and where a frame's time goes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .records import STAGES, Row

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
    "memory",
)


def tables(rows: Sequence[Row]) -> str:
    """Returns the tables for people; milliseconds."""
    parts = [_inference(rows), _stages(rows)]
    absent = [f"{row.model}, {row.contender}: {row.reason}" for row in rows if row.reason]
    if absent:
        parts.append("Not measured:\n" + "\n".join(f"  {line}" for line in absent))
    return "\n\n".join(part for part in parts if part)


def _inference(rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        for batch, samples in sorted(row.batches.items()):
            found = samples.summary()
            memory = f"{row.about['peak_memory_mib']:.0f} MiB" if batch == 1 else ""
            times = [f"{found[f'{name}_ms']:.2f}" for name in ("p50", "p95", "p99", "max")]
            around = f"{found['least_round_ms']:.2f} to {found['greatest_round_ms']:.2f}"
            rate = f"{batch * 1e3 / found['mean_ms']:.1f}"
            name = f"{row.model} ({row.precision})"
            lines.append((name, row.contender, str(batch), *times, around, rate, memory))
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
    return "A frame's way, p50 in ms\n" + _aligned(header, lines) if lines else ""


def _aligned(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    table = [header, *lines]
    widths = [max(len(line[k]) for line in table) for k in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if k < 2 else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    )
