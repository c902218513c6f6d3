"""A benchmark as text: a line for each contender, where a frame's time goes, what was run."""

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
    """Returns the tables for people; milliseconds."""
    parts = [_inference(rows), _stages(rows), _about(rows)]
    absent: dict[str, list[str]] = {}
    for row in rows:
        name = f"{row.model}, {row.contender}"
        failed = {name: row.reason} if row.reason else {}
        failed |= {f"{name}, {part}": reason for part, reason in row.failed.items()}
        for what, reason in failed.items():
            absent.setdefault(reason, []).append(what)
    if absent:
        lines = [f"  {'; '.join(names)}: {reason}" for reason, names in absent.items()]
        parts.append("\n".join(["Not measured:", *lines]))
    return "\n\n".join(part for part in parts if part)


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
    """Returns `cpu-thermal 48.2 to 52.0, ...` of all zones that were read."""
    before, after = before or {}, after or {}
    zones = [
        f"{name} " + " to ".join(f"{at[name]:.1f}" if name in at else "?" for at in (before, after))
        for name in {**before, **after}
    ]
    return ", ".join(zones) or "this machine tells none"


def _aligned(header: Sequence[str], lines: Iterable[Sequence[str]], left: int = 2) -> str:
    """Returns the table; its first `left` columns are aligned to the left."""
    table = [header, *lines]
    widths = [max(len(line[k]) for line in table) for k in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if k < left else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    )
