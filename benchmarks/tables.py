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
from .tables_speed import TABLES as SPEED
from .tables_station import station_table

_ROOT = Path(__file__).parents[1]
PAGES = tuple(
    _ROOT / page
    for page in (
        "README.md",
        "benchmarks/README.md",
        "docs/accuracy.md",
        "docs/daemon.md",
        "docs/jetson.md",
        "docs/precision.md",
    )
)
_MARKED = re.compile(r"(<!-- table (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def render(page: str) -> str:
    """Returns the page with every marked table made anew from its result file."""

    def table(match: re.Match[str]) -> str:
        if match[2] == "station":  # from several files
            return f"{match[1]}{station_table()}\n{match[3]}"
        if not (RESULTS / f"{match[2]}.json").is_file():
            return match[0]
        return f"{match[1]}{_TABLES[match[2]](_result(match[2]))}\n{match[3]}"

    return _MARKED.sub(table, page)


def _result(name: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return result


def _accuracy(result: dict[str, Any]) -> str:
    lines = [
        "| cells | method | image AUROC | spread over seeds | epochs |",
        "|---|---|---|---|---|",
    ]
    for cells, recipes in result["image_auroc"].items():
        for recipe, figures in recipes.items():
            epochs = sorted({run["epochs"] for run in figures["runs"]})
            score = result["settings"][recipe]["score"]
            other = "likelihood" if score == "z2" else "z2"
            rows = {f"**{recipe}**": score, f"{recipe}, scored by {other}": other}
            rows |= {f"Gaussian, features of {recipe}": "gaussian"}
            rows |= {f"nearest neighbour, features of {recipe}": "nearest_neighbour"}
            for name, key in rows.items():
                mean, spread = figures["mean"][key], figures["standard_deviation"][key]
                shown = " to ".join(str(e) for e in dict.fromkeys((epochs[0], epochs[-1])))
                shown = shown if name == f"**{recipe}**" else ""
                around = f"{spread:.4f}" if len(figures["runs"]) > 1 else "one seed"
                lines.append(f"| {cells} | {name} | {mean:.4f} | {around} | {shown} |")
    return "\n".join(lines)


def _choice(result: dict[str, Any]) -> str:
    sets = result["image_auroc"]
    lines = [
        "| candidate | " + " | ".join(f"{cells} | its Gaussian | epochs" for cells in sets) + " |",
        "|---|" + "---|---|---|" * len(sets),
    ]
    for name in result["settings"]:
        cells = []
        for recipes in sets.values():
            figures = recipes[name]
            mean, spread = figures["mean"], figures["standard_deviation"]
            epochs = sorted({run["epochs"] for run in figures["runs"]})
            score = result["settings"][name]["score"]
            cells += [f"{mean[score]:.4f} ± {spread[score]:.4f}", f"{mean['gaussian']:.4f}"]
            cells.append(" to ".join(str(e) for e in dict.fromkeys((epochs[0], epochs[-1]))))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _calibration(result: dict[str, Any]) -> str:
    first, every = result["splits"]["first"], result["splits"]["all"]
    lines = [
        "| calibration pictures | judged | promised: rejected at most | mean rejected | most "
        f"rejected | kept, {first:,} splits | kept, {every:,} splits | by the law | long-run bound "
        "| splits within it |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        kept, judged = row["kept"], row["judged"]
        lines.append(
            f"| {row['calibration_images']} | {judged} | {row['promised_at_most']} "
            f"({row['promised_at_most'] / judged:.1%}) | {row['mean_realised']:.2%} | "
            f"{row['greatest_rejected']} | {kept['first']:.1%} | "
            f"{kept['all']:.2%} | {kept['by_the_law']:.2%} | {row['long_run_bound']:.2%} | "
            f"{row['within_long_run_bound']:.1%} |"
        )
    return "\n".join(lines)


def _training_time(result: dict[str, Any]) -> str:
    edge, uncached = result["edge"], result["edge_without_cache"]
    original = result["original_procedure"]
    rows = {
        "`edge`, pictures to saved model, empty cache": _seconds(edge["empty_cache_s"]),
        "`edge`, the same again, full cache": _seconds(edge["full_cache_s"]),
        f"`edge` without a cache, {uncached['epochs']} epochs: extraction alone": (
            f"{uncached['extrapolated_s']:.0f} s, extrapolated from "
            f"{uncached['timed_epochs']} epochs"
        ),
        f"the original's procedure, {original['epochs']} epochs": (
            f"{original['extrapolated_s'] / 3600:.1f} h, extrapolated from "
            f"{original['timed_epochs']} epochs of {original['timed_batches_of'][0]} of "
            f"{original['timed_batches_of'][1]} batches"
        ),
    }
    return "\n".join(
        [
            "| what | wall time |",
            "|---|---|",
            *(f"| {what} | {time} |" for what, time in rows.items()),
        ]
    )


def _seconds(figure: dict[str, float]) -> str:
    spread = f"{figure['runs']:.0f} runs: {figure['min']:.0f} to {figure['max']:.0f}"
    return f"{figure['median']:.0f} s ({spread})"


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
    return "\n".join(
        [
            "| the demo's held-out cells | |",
            "|---|---|",
            *(f"| {k} | {v} |" for k, v in rows.items()),
        ]
    )


def _share(figure: dict[str, float]) -> str:
    return f"{figure['count']:.0f} of {figure['of']:.0f} ({figure['value']:.1%})"


def _flow_cost(result: dict[str, Any]) -> str:
    devices = list(result["bandwidth_gb_s"])
    lines = [
        "| flow (features, blocks, width) | parameters | FP16 | measured, CPU in FP32 | "
        f"{' | '.join(devices)} |",
        "|---|---|---|---|" + "---|" * len(devices),
    ]
    for name, flow in result["flows"].items():
        shape = f"{name} ({flow['features']}, {flow['blocks']}, {flow['width']})"
        floors = " | ".join(f"{flow['floor_ms'][device]:.2g} ms" for device in devices)
        size = f"{flow['parameters'] / 1e6:.2f} M | {flow['fp16_mb']:.1f} MB"
        lines.append(f"| {shape} | {size} | {flow['cpu_latency_ms']['median']:.2g} ms | {floors} |")
    return "\n".join(lines)


def _flow_auroc(result: dict[str, Any]) -> str:
    lines = ["| blocks | width | image AUROC | spread over seeds |", "|---|---|---|---|"]
    for flow in result["flows"].values():
        mono = flow["auroc"]["mono"]
        lines.append(
            f"| {flow['blocks']} | {flow['width']} | {mono['mean']:.4f} | "
            f"{mono['standard_deviation']:.4f} |"
        )
    return "\n".join(lines)


def _precision(result: dict[str, Any]) -> str:
    lines = [
        "| model | pictures | FP32 from torch, greatest | FP16 from FP32, median | greatest | rank "
        "correlation | verdict flips | heatmap, share of its range, greatest |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, found in result["models"].items():
        beyond = found["flips_beyond_the_error"]
        flips = f"{len(found['verdict_flips'])} ({beyond} beyond the error)"
        lines.append(
            f"| {name} | {found['images']} | {found['greatest_difference_from_torch']:.1e} | "
            f"{found['median_error']:.1e} | {found['greatest_error']:.1e} | "
            f"{found['rank_correlation']:.5f} | {flips} | {_heatmap_error(found)} |"
        )
    return "\n".join(lines)


def _heatmap_error(found: dict[str, Any]) -> str:
    error = found.get("heatmap_error")
    return f"{error['greatest']:.1e} of {error['maps']} maps" if error else ""


def _precision_full(result: dict[str, Any]) -> str:
    return _precision({"models": {name: f for name, f in result.items() if name != "machine"}})


def _graph_cost(result: dict[str, Any]) -> str:
    lines = [
        "| recipe | threads | whole graph, p50 (p5 to p95) | extractor alone | ratio |",
        "|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        whole, alone = (_latency(row["ms"][name]) for name in ("whole graph", "extractor alone"))
        name = f"{row['recipe']} | {row['threads']}"
        lines.append(f"| {name} | {whole} | {alone} | {row['ratio']:.2f} |")
    return "\n".join(lines)


def _latency(figure: dict[str, float]) -> str:
    return f"{figure['median']:.1f} ms ({figure['p05']:.1f} to {figure['p95']:.1f})"


def _few(result: dict[str, Any]) -> str:
    """Brings the runs from few pictures to the form of the accuracy table."""
    table = {f"{count} pictures": {"edge": row} for count, row in result["image_auroc"].items()}
    return _accuracy({"image_auroc": table, "settings": {"edge": {"score": "likelihood"}}})


def _peers_auroc(result: dict[str, Any]) -> str:
    lines = ["| method | cells | image AUROC | spread over seeds |", "|---|---|---|---|"]
    for method, sets in result["image_auroc"].items():
        for cells, found in sets.items():
            spread = f"{found['standard_deviation']:.4f}"
            lines.append(f"| {method} | {cells} | {found['mean']:.4f} | {spread} |")
    return "\n".join(lines)


def _peers_localization(result: dict[str, Any]) -> str:
    lines = ["| method | pixel AUROC | AUPRO | image AUROC |", "|---|---|---|---|"]
    found = dict(result["methods"])
    for name, row in {**found.pop("ours"), **found}.items():
        shown = " | ".join(f"{row[key]:.3f}" for key in ("pixel_auroc", "aupro", "image_auroc"))
        lines.append(f"| {name} | {shown} |")
    return "\n".join(lines)


def _many_pictures(result: dict[str, Any]) -> str:
    options = " ".join(result["options"]) or "the recipe's settings"
    return (
        f"{result['pictures']:,} pictures ({options}): {result['training_s']:.0f} s within "
        f"{result['limit_gib']} GiB; at most {result['peak_resident_gib']:.2f} GiB resident, "
        "mapped pages included."
    )


_TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "flow_auroc": _flow_auroc,
    "flow_cost": _flow_cost,
    "precision": _precision,
    "precision_full": _precision_full,
    "graph_cost": _graph_cost,
    "peers_auroc": _peers_auroc,
    "peers_localization": _peers_localization,
    "many_pictures_300": _many_pictures,
    "many_pictures_10000": _many_pictures,
    "accuracy_few": _few,
    "accuracy": _accuracy,
    "accuracy_choice": _choice,
    "accuracy_choice_global": _choice,
    "accuracy_shipped": _accuracy,
    "accuracy_wide": _accuracy,
    "calibration": _calibration,
    "training_time": _training_time,
    "demo": _demo,
    **SPEED,
}


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(render(page.read_text()))
    pictures.write()
