"""The tables of docs/accuracy.md: AUROC, calibration, training time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .markdown import table
from .suite.halves import REPORT
from .suite.show import printed


def _accuracy(result: dict[str, Any]) -> str:
    rows = []
    for cells, recipes in result["image_auroc"].items():
        for recipe, figures in recipes.items():
            score = result["settings"][recipe]["score"]
            other = "likelihood" if score == "z2" else "z2"
            ways = {f"**{recipe}**": score, f"{recipe}, scored by {other}": other}
            ways |= {f"Gaussian, features of {recipe}": "gaussian"}
            ways |= {f"nearest neighbour, features of {recipe}": "nearest_neighbour"}
            for name, key in ways.items():
                spread = figures["standard_deviation"][key]
                around = f"{spread:.4f}" if len(figures["runs"]) > 1 else "one seed"
                epochs = _epochs(figures["runs"]) if name == f"**{recipe}**" else ""
                rows.append([cells, name, f"{figures['mean'][key]:.4f}", around, epochs])
    return table(["cells", "method", "image AUROC", "spread over seeds", "epochs"], rows)


def _epochs(runs: list[dict[str, Any]]) -> str:
    epochs = sorted({run["epochs"] for run in runs})
    return " to ".join(str(e) for e in dict.fromkeys((epochs[0], epochs[-1])))


def _few(result: dict[str, Any]) -> str:
    """Brings the runs from few pictures to the form of the accuracy table."""
    table = {f"{count} pictures": {"edge": row} for count, row in result["image_auroc"].items()}
    return _accuracy({"image_auroc": table, "settings": {"edge": {"score": "likelihood"}}})


def _few_pictures(result: dict[str, Any]) -> str:
    """Each set and number of good pictures: mean over the draws, 5 % and 95 % in brackets."""
    head = ["set", "good pictures", "draws", "image AUROC", "missed", "good rejected"]
    rows = []
    for name, counts in result["sets"].items():
        for count, draws in sorted(counts.items(), key=lambda item: int(item[0])):
            runs = list(draws.values())
            auroc, missed, rejected = (
                np.array([run[key] for run in runs])
                for key in ("image_auroc", "misses", "false_rejects")
            )
            low, high = np.quantile(auroc, [0.05, 0.95])
            rows.append(
                [
                    name,
                    count,
                    len(runs),
                    f"{auroc.mean():.3f} ({low:.3f} to {high:.3f})",
                    f"{missed.mean():.1%}",
                    f"{rejected.mean():.1%}",
                    sum(run["false_rejects"] > run["bound"] for run in runs),
                    f"{max(run['bound'] for run in runs):.1%}",
                ]
            )
    return table([*head, "bound exceeded", "largest bound"], rows)


def _choice(result: dict[str, Any]) -> str:
    sets = result["image_auroc"]
    rows = []
    for name, settings in result["settings"].items():
        cells = []
        for recipes in sets.values():
            mean, spread = recipes[name]["mean"], recipes[name]["standard_deviation"]
            score = settings["score"]
            cells += [f"{mean[score]:.4f} ± {spread[score]:.4f}", f"{mean['gaussian']:.4f}"]
            cells.append(_epochs(recipes[name]["runs"]))
        rows.append([name, *cells])
    head = (part for cells in sets for part in (cells, "its Gaussian", "epochs"))
    return table(["candidate", *head], rows)


def _peers_auroc(result: dict[str, Any]) -> str:
    rows = [
        [method, cells, f"{found['mean']:.4f}", f"{found['standard_deviation']:.4f}"]
        for method, sets in result["image_auroc"].items()
        for cells, found in sets.items()
    ]
    return table(["method", "cells", "image AUROC", "spread over seeds"], rows)


def _peers_localization(result: dict[str, Any]) -> str:
    found = dict(result["methods"])
    rows = [
        [name, *(f"{row[key]:.3f}" for key in ("pixel_auroc", "aupro", "image_auroc"))]
        for name, row in {**found.pop("ours"), **found}.items()
    ]
    return table(["method", "pixel AUROC", "AUPRO", "image AUROC"], rows)


def _calibration(result: dict[str, Any]) -> str:
    first, every = result["splits"]["first"], result["splits"]["all"]
    head = ["calibration pictures", "judged", "promised: rejected at most", "mean rejected"]
    head += ["most rejected", f"kept, {first:,} splits", f"kept, {every:,} splits", "by the law"]
    rows = []
    for row in result["rows"]:
        kept, judged = row["kept"], row["judged"]
        rows.append(
            [
                row["calibration_images"],
                judged,
                f"{row['promised_at_most']} ({row['promised_at_most'] / judged:.1%})",
                f"{row['mean_realised']:.2%}",
                row["greatest_rejected"],
                f"{kept['first']:.1%}",
                f"{kept['all']:.2%}",
                f"{kept['by_the_law']:.2%}",
                f"{row['long_run_bound']:.2%}",
                f"{row['within_long_run_bound']:.1%}",
            ]
        )
    return table([*head, "long-run bound", "splits within it"], rows)


def _training_time(result: dict[str, Any]) -> str:
    edge, reading = result["edge"], result["edge_reading_anew"]
    original = result["original_procedure"]
    some, every = original["timed_batches_of"]
    rows = {
        "`edge`, pictures to saved model, empty cache": _seconds(edge["empty_cache_s"]),
        "`edge`, the same again, full cache": _seconds(edge["full_cache_s"]),
        "`edge`, no cache; its views are fixed, so each picture is read once": _seconds(
            edge["no_cache_s"]
        ),
        f"`edge`, were each of its {reading['epochs']} epochs to read its pictures anew: "
        "extraction alone": (
            f"{reading['extrapolated_s']:.0f} s, extrapolated from {reading['timed_epochs']} epochs"
        ),
        f"the original's procedure, {original['epochs']} epochs": (
            f"{original['extrapolated_s'] / 3600:.1f} h, extrapolated from "
            f"{original['timed_epochs']} epochs"
            + (f" of {some} of {every} batches" if some < every else "")
        ),
    }
    return table(["what", "wall time"], rows.items())


def _seconds(figure: dict[str, float]) -> str:
    runs = f"{figure['runs']:.0f} runs: {figure['min']:.0f} to {figure['max']:.0f}"
    return f"{figure['median']:.0f} s ({runs if figure['runs'] > 1 else 'one run'})"


_EXPECTED = {
    "above": "size and contrast at or above the painted limit",
    "below": "below it",
    "faint": "fainter than anything painted",
}


def _detection_limits(result: dict[str, Any]) -> str:
    head = ["set", "real defects", "pictures", "found"]
    rows = []
    for name, one in result["sets"].items():
        summary = one["summary"]
        expected = {_EXPECTED[key]: row for key, row in summary["expected"].items()}
        for label, row in {**expected, **summary["of"]}.items():
            if row["defects"]:
                cells = [_size_and_contrast(row[key]) for key in ("median_found", "median_missed")]
                share = f"{row['found']} ({row['found'] / row['defects']:.0%})"
                rows.append([name, label, row["defects"], share, *cells])
    return table([*head, "found: size, contrast", "missed: size, contrast"], rows)


def _size_and_contrast(median: dict[str, float] | None) -> str:
    return "" if median is None else f"{median['size']:.0f}, {median['contrast']:.0f}"


def _many_pictures(result: dict[str, Any]) -> str:
    options = " ".join(result["options"]) or "the recipe's settings"
    return (
        f"{result['pictures']:,} pictures ({options}): {result['training_s']:.0f} s within "
        f"{result['limit_gib']} GiB; at most {result['peak_resident_gib']:.2f} GiB resident, "
        "mapped pages included."
    )


def _other_runtimes(result: dict[str, Any]) -> str:
    head = ["set", "runtime and resize", "change of the score in %, median (least to greatest)"]
    rows = []
    for name, found in result["sets"].items():
        pictures = sum(found["pictures"].values())
        for way, row in list(found["ways"].items())[1:]:
            changed = f"{row['verdicts_changed']} of {pictures}"
            rows.append([name, way, _change(row["change_percent"]), changed])
    return table([*head, "verdicts changed"], rows)


def _change(percent: dict[str, float]) -> str:
    least, median, greatest = (percent[key] for key in ("least", "median", "greatest"))
    if max(-least, greatest) < 0.01:
        return "less than 0.01"
    return f"{median:+.1f} ({least:+.1f} to {greatest:+.1f})"


def _suite(result: dict[str, Any]) -> str:
    return printed(result, REPORT)


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "accuracy": _accuracy,
    "suite": _suite,
    "few_pictures": _few_pictures,
    "few_pictures_without_flow": _few_pictures,
    "few_pictures_without_flow_without_copies": _few_pictures,
    "accuracy_wide": _accuracy,
    "accuracy_few": _few,
    "accuracy_choice": _choice,
    "accuracy_choice_global": _choice,
    "peers_auroc": _peers_auroc,
    "peers_localization": _peers_localization,
    "calibration": _calibration,
    "training_time": _training_time,
    "detection_limits": _detection_limits,
    "many_pictures_300": _many_pictures,
    "many_pictures_10000": _many_pictures,
    "other_runtimes": _other_runtimes,
}
