"""Writes the tables of README.md, docs/ and benchmarks/README.md from results/.

    python -m benchmarks.tables

A table stands between `<!-- table NAME -->` and `<!-- end -->`. A test compares the pages with
what the results give; a table without a result file is left alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import pictures
from .machine import RESULTS
from .markdown import milliseconds, table
from .tables_accuracy import TABLES as ACCURACY
from .tables_int8 import TABLES as INT8
from .tables_speed import TABLES as SPEED
from .tables_speed import in_short
from .tables_station import batching, station_table

_ROOT = Path(__file__).parents[1]
PAGES = tuple(
    _ROOT / page
    for page in (
        "README.md",
        "benchmarks/README.md",
        "docs/accuracy.md",
        "docs/accuracy_format_3.md",
        "docs/daemon.md",
        "docs/jetson.md",
        "docs/model_file.md",
        "docs/precision.md",
    )
)
_MARKED = re.compile(r"(<!-- table (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def render(page: str) -> str:
    """Returns the page with every marked table made anew from its result file."""

    def table(match: re.Match[str]) -> str:
        if match[2] in _FROM_SEVERAL:
            return f"{match[1]}{_FROM_SEVERAL[match[2]]()}\n{match[3]}"
        if not (RESULTS / f"{match[2]}.json").is_file():
            return match[0]
        return f"{match[1]}{_TABLES[match[2]](_result(match[2]))}\n{match[3]}"

    return _MARKED.sub(table, page)


def _result(name: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return result


def _in_short() -> str:
    return in_short(*map(_result, ("original", "training_time", "camera_loop", "startup")))


def _demo(result: dict[str, Any]) -> str:
    auroc, latency = result["image_auroc"], result["latency_ms"]
    rows = {
        "unseen cells": f"{result['good']} good, {result['defect']} defective",
        "image AUROC": (
            f"{auroc['value']:.3f} (95 % interval {auroc['low']:.3f} to {auroc['high']:.3f})"
        ),
        "good cells rejected": _share(result["false_reject"]),
        "defective cells missed": _share(result["miss"]),
        "latency on two CPU cores": f"p50 {latency['p50']:.0f} ms, p99 {latency['p99']:.0f} ms",
    }
    return table(["the demo's held-out cells", ""], rows.items())


def _share(figure: dict[str, float]) -> str:
    return f"{figure['count']:.0f} of {figure['of']:.0f} ({figure['value']:.1%})"


def _flow_cost(result: dict[str, Any]) -> str:
    devices = list(result["bandwidth_gb_s"])
    head = ["flow (features, blocks, width)", "parameters", "FP16", "measured, CPU in FP32"]
    rows = [
        [
            f"{name} ({flow['features']}, {flow['blocks']}, {flow['width']})",
            f"{flow['parameters'] / 1e6:.2f} M",
            f"{flow['fp16_mb']:.1f} MB",
            f"{flow['cpu_latency_ms']['median']:.2g} ms",
            *(f"{flow['floor_ms'][device]:.2g} ms" for device in devices),
        ]
        for name, flow in result["flows"].items()
    ]
    return table([*head, *devices], rows)


def _flow_auroc(result: dict[str, Any]) -> str:
    rows = []
    for flow in result["flows"].values():
        mono = flow["auroc"]["mono"]
        figures = f"{mono['mean']:.4f}", f"{mono['standard_deviation']:.4f}"
        rows.append([flow["blocks"], flow["width"], *figures])
    return table(["blocks", "width", "image AUROC", "spread over seeds"], rows)


def _precision(result: dict[str, Any]) -> str:
    head = ["model", "pictures", "FP32 from torch, greatest", "FP16 from FP32, median", "greatest"]
    head += ["rank correlation", "verdict flips", "heatmap, share of its range, greatest"]
    rows = []
    for name, found in result["models"].items():
        flips, heatmap = found["flips_beyond_the_error"], found.get("heatmap_error")
        rows.append(
            [
                name,
                found["images"],
                f"{found['greatest_difference_from_torch']:.1e}",
                f"{found['median_error']:.1e}",
                f"{found['greatest_error']:.1e}",
                f"{found['rank_correlation']:.5f}",
                f"{len(found['verdict_flips'])} ({flips} beyond the error)",
                f"{heatmap['greatest']:.1e} of {heatmap['maps']} maps" if heatmap else "",
            ]
        )
    return table(head, rows)


def _precision_full(result: dict[str, Any]) -> str:
    return _precision({"models": {name: f for name, f in result.items() if name != "machine"}})


def _graph_cost(result: dict[str, Any]) -> str:
    others = ("extractor alone", "the older default")
    head = ["recipe", "threads", "whole graph, p50 (p5 to p95)"]
    head += [cell for name in others for cell in (name, "ratio")]
    rows = []
    for row in result["rows"]:
        whole = row["ms"]["whole graph"]
        cells = [row["recipe"], row["threads"], milliseconds(whole)]
        for name in others:
            if other := row["ms"].get(name):
                cells += [milliseconds(other), f"{whole['median'] / other['median']:.2f}"]
            else:
                cells += ["", ""]
        rows.append(cells)
    return table(head, rows)


def _tile_memory(result: dict[str, Any]) -> str:
    head = ["`--tiles`", "input", "weights, FP16", "live tensors, FP16", "together, of 8 GB"]
    rows = []
    for row in result["rows"]:
        weights, tensors = (row[name] / 1e6 for name in ("weights", "activations"))
        figures = f"{weights:.0f} MB", f"{tensors:.0f} MB", f"{(weights + tensors) / 80:.1f} %"
        rows.append([row["tiles"], row["input"], *figures])
    return table(head, rows)


def _gpu(result: dict[str, Any]) -> str:
    batches = list(result["rows"]["CPU"]["ms"])
    rows = []
    for way, row in result["rows"].items():
        times = (
            f"{t['median']:.1f} ms ({t['rounds'][0]:.1f} to {t['rounds'][-1]:.1f})"
            for t in row["ms"].values()
        )
        off = [f"{x:.0e}" if x else "0" for x in row["difference"].values()]
        rows.append([way, *times, *off[:2]])
    return (
        f"{result['gpu']}; {result['machine']['cores']} CPU cores; ONNX Runtime "
        f"{result['machine']['versions']['onnxruntime']}; {result['pictures']} real cells.\n\n"
    ) + table(
        [
            "FP32 file on",
            *(f"{batch} at once, p50 (least to greatest of the rounds)" for batch in batches),
            "score, relative to the CPU's: median difference",
            "greatest",
        ],
        rows,
    )


_TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "flow_auroc": _flow_auroc,
    "flow_cost": _flow_cost,
    "precision": _precision,
    "precision_full": _precision_full,
    "graph_cost": _graph_cost,
    "tile_memory": _tile_memory,
    "demo": _demo,
    "gpu": _gpu,
    "batching": batching,
    **ACCURACY,
    **INT8,
    **SPEED,
}
_FROM_SEVERAL = {"station": station_table, "in_short": _in_short}


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(render(page.read_text()))
    pictures.write()
