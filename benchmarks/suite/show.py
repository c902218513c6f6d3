"""The summary as tables of Markdown: for the terminal, and for docs/accuracy.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..markdown import table
from .halves import CHOOSE, REPORT

Summary = Mapping[str, Any]


def printed(summary: Summary, half: str) -> str:
    """Returns every table of a half."""
    parts = {
        "image AUROC": _aurocs(summary, half),
        "pixel AUROC, AUPRO": _cells(summary, lambda found: _pixels(found["halves"][half])),
        "defects missed where 5 % and 1 % of the judged good pictures are rejected": _cells(
            summary, lambda found: _misses(found["halves"][half])
        ),
        "good rejected and defects missed at the threshold that its own calibration sets for 5 %, "
        "and for 1 %": _cells(summary, lambda found: _own(found["halves"][half])),
        "training, a picture by torch, the saved model": _cells(summary, _cost),
        "the flow of the coarse head against its Gaussian, all judged pictures: AUROC": _flow(
            summary
        ),
        "the default on larger extractors, on the seeds that all of them ran: AUROC on the half to "
        "choose by; on the half to report, AUROC and defects missed where 5 % of the good pictures "
        "are rejected": _extractors(summary),
    }
    return "\n\n".join(f"{name}:\n\n{table}" for name, table in parts.items() if table)


def _aurocs(summary: Summary, half: str) -> str:
    rows, methods = summary["rows"], list(summary["means"])
    best = f"{summary['subject']} minus the best other"
    lines = []
    for name, row in rows.items():
        cells = [_auroc(row[m]["halves"][half]["image_auroc"]) if m in row else "" for m in methods]
        lines.append([name, *cells, _against(summary["against_best"].get(name))])
    means = [summary["means"][m] for m in methods]
    cells = [_mean(one, half) for one in means]
    return table(["set", *methods, best], [*lines, ["**mean over sets**", *cells, ""]])


def _mean(found: Mapping[str, Any], half: str) -> str:
    part = "" if found["rows"] == found["of"] else f" ({found['rows']} of {found['of']})"
    return f"{found[half]:.4f}{part}"


def _auroc(figure: Mapping[str, float]) -> str:
    return f"{figure['value']:.4f} ({figure['low']:.3f} to {figure['high']:.3f})"


def _against(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    return (
        f"{found['value']:+.4f} ({found['low']:+.3f} to {found['high']:+.3f}) from {found['best']}"
    )


def _pixels(half: Mapping[str, Any]) -> str:
    if half["pixel_auroc"] is None:
        return ""
    return f"{half['pixel_auroc']:.3f}, {half['aupro']:.3f}"


def _misses(half: Mapping[str, Any]) -> str:
    return ", ".join(f"{found['misses']:.1%}" for found in half["judged_threshold"])


def _own(half: Mapping[str, Any]) -> str:
    found = [one for one in half["own_threshold"] if one is not None]
    return "; ".join(f"{one['false_rejects']:.1%}, {one['misses']:.1%}" for one in found)


def _cost(found: Mapping[str, Any]) -> str:
    if found["training_s"] is None:
        return ""
    size = found["model_bytes"] / 1e6
    return f"{found['training_s']:.0f} s, {found['latency_ms']:.0f} ms, {size:.1f} MB"


def _flow(summary: Summary) -> str:
    """Shows what the flow of the subject's coarse head added, there and to the joined score."""
    lines = []
    for name, row in summary["rows"].items():
        heads = row.get(summary["subject"], {}).get("heads") or {}
        if not heads:
            continue
        coarse, joined = heads["coarse"], heads["joined"]
        lines.append(
            [
                name,
                f"{coarse['epochs']:.1f}",
                f"{coarse['start_auroc']:.4f}",
                f"{coarse['image_auroc']:.4f}",
                *(f"{one['image_auroc'] - one['start_auroc']:+.4f}" for one in (coarse, joined)),
            ]
        )
    head = ["set", "epochs", "Gaussian", "with the flow", "change", "change of the joined score"]
    return table(head, lines) if lines else ""


def _extractors(summary: Summary) -> str:
    """Shows the subject on each extractor, and the mean over the sets that all ran on."""
    rows = {name: row["methods"] for name, row in summary["extractors"].items()}
    methods = list(dict.fromkeys(method for row in rows.values() for method in row))
    lines = [
        [name, *(_by_half(row[m]) if m in row else "" for m in methods)]
        for name, row in rows.items()
    ]
    complete = [row for row in rows.values() if len(row) == len(methods)]
    if complete:
        means = [
            {
                half: {
                    key: sum(row[m][half][key] for row in complete) / len(complete)
                    for key in ("image_auroc", "misses")
                }
                for half in (CHOOSE, REPORT)
            }
            for m in methods
        ]
        lines.append([f"**mean over {len(complete)} sets**", *map(_by_half, means)])
    return table(["set", *methods], lines) if lines else ""


def _by_half(found: Mapping[str, Any]) -> str:
    choose, report = found[CHOOSE], found[REPORT]
    return f"{choose['image_auroc']:.4f}, {report['image_auroc']:.4f}, {report['misses']:.1%}"


def _cells(summary: Summary, cell: Callable[[Mapping[str, Any]], str]) -> str:
    """Makes a table of sets and methods, without rows and columns that stay empty."""
    methods = list(summary["means"])
    rows = {
        name: {method: cell(row[method]) if method in row else "" for method in methods}
        for name, row in summary["rows"].items()
    }
    used = [method for method in methods if any(row[method] for row in rows.values())]
    lines = [[name, *(row[m] for m in used)] for name, row in rows.items() if any(row.values())]
    return table(["set", *used], lines) if used else ""
