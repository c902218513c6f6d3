"""The tables of docs/accuracy.md: AUROC, calibration, training time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .suite.halves import REPORT
from .suite.show import printed


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


def _few(result: dict[str, Any]) -> str:
    """Brings the runs from few pictures to the form of the accuracy table."""
    table = {f"{count} pictures": {"edge": row} for count, row in result["image_auroc"].items()}
    return _accuracy({"image_auroc": table, "settings": {"edge": {"score": "likelihood"}}})


def _few_pictures(result: dict[str, Any]) -> str:
    """Each set and number of good pictures: mean over the draws, 5 % and 95 % in brackets."""
    lines = [
        "| set | good pictures | draws | image AUROC | missed | good rejected | "
        "bound exceeded | largest bound |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, counts in result["sets"].items():
        for count, draws in sorted(counts.items(), key=lambda item: int(item[0])):
            runs = list(draws.values())
            auroc, missed, rejected = (
                np.array([run[key] for run in runs])
                for key in ("image_auroc", "misses", "false_rejects")
            )
            low, high = np.quantile(auroc, [0.05, 0.95])
            over = sum(run["false_rejects"] > run["bound"] for run in runs)
            figures = (
                f"{auroc.mean():.3f} ({low:.3f} to {high:.3f}) | {missed.mean():.1%} | "
                f"{rejected.mean():.1%} | {over} | {max(run['bound'] for run in runs):.1%}"
            )
            lines.append(f"| {name} | {count} | {len(runs)} | {figures} |")
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


_EXPECTED = {
    "above": "size and contrast at or above the painted limit",
    "below": "below it",
    "faint": "fainter than anything painted",
}


def _detection_limits(result: dict[str, Any]) -> str:
    lines = [
        "| set | real defects | pictures | found | found: size, contrast "
        "| missed: size, contrast |",
        "|---|---|---|---|---|---|",
    ]
    for name, one in result["sets"].items():
        summary = one["summary"]
        rows = {_EXPECTED[key]: row for key, row in summary["expected"].items()}
        for label, row in {**rows, **summary["of"]}.items():
            if row["defects"]:
                cells = [_size_and_contrast(row[key]) for key in ("median_found", "median_missed")]
                share = f"{row['found']} ({row['found'] / row['defects']:.0%})"
                lines.append(
                    f"| {name} | {label} | {row['defects']} | {share} | {' | '.join(cells)} |"
                )
    return "\n".join(lines)


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
    lines = [
        "| set | runtime and resize | change of the score in %, median (least to greatest) | "
        "verdicts changed |",
        "|---|---|---|---|",
    ]
    for name, found in result["sets"].items():
        pictures = sum(found["pictures"].values())
        for way, row in list(found["ways"].items())[1:]:
            lines.append(
                f"| {name} | {way} | {_change(row['change_percent'])} | "
                f"{row['verdicts_changed']} of {pictures} |"
            )
    return "\n".join(lines)


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
