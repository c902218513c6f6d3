"""The summary of all kept runs: for each row of the table and each method, means over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .figures import RATES, Resampled, figures, interval, mean_interval, named_scores, names_of
from .halves import HALVES, REPORT
from .judged import Record

SUBJECT = "edge"
ORDER = (
    SUBJECT,
    "edge-3f18aa6",
    "edge-global",
    "paper-lite",
    "gaussian",
    "nearest_neighbour",
    "padim",
    "patchcore",
    "fastflow",
)
VARIANTS = ("edge-lite1", "edge-lite2")
"""The subject on extractors that cost more: in a table of their own."""
Runs = Mapping[str, Mapping[int, Record]]
"""Of one row and method: by set, then by seed."""


def summarised(records: Sequence[Record]) -> dict[str, Any]:
    """Returns figures by row and method, the subject minus the best other, and means over rows."""
    rows: dict[str, dict[str, dict[str, dict[int, Record]]]] = {}
    for one in records:
        methods = rows.setdefault(one["row"], {})
        methods.setdefault(one["method"], {}).setdefault(one["set"], {})[one["seed"]] = one
    names = sorted(rows)
    for name in names:
        rows[name] = _complete(rows[name])
    return {
        "subject": SUBJECT,
        "rates": list(RATES),
        "rows": {
            name: {method: _method(rows[name][method]) for method in _ordered(rows[name])}
            for name in names
        },
        "against_best": {
            name: found for name in names if (found := _against_best(rows[name])) is not None
        },
        "extractors": {
            name: found for name in names if (found := _by_extractor(rows[name])) is not None
        },
        "means": _means(rows),
    }


def _complete(
    methods: dict[str, dict[str, dict[int, Record]]],
) -> dict[str, dict[str, dict[int, Record]]]:
    """Leaves out methods that have not run on every set of a row."""
    every = {name for sets in methods.values() for name in sets}
    return {method: sets for method, sets in methods.items() if set(sets) == every}


def _ordered(methods: Mapping[str, Any]) -> list[str]:
    known = [name for name in ORDER if name in methods]
    return known + sorted(set(methods) - set(ORDER))


def _method(sets: Runs) -> dict[str, Any]:
    """Returns a method's figures on a row."""
    runs = [run for seeds in sets.values() for run in seeds.values()]
    return {
        "seeds": sorted({run["seed"] for run in runs}),
        "sets": sorted(sets),
        "input": runs[0]["input"],
        "region": runs[0]["region"],
        **{key: _mean_of(runs, key) for key in ("training_s", "latency_ms", "model_bytes")},
        "heads": _heads(runs),
        "flow_added": _mean([run["flow_added"]["value"] for run in runs if run.get("flow_added")]),
        "halves": {half: _half(sets, runs, half) for half in HALVES},
    }


def _heads(runs: Sequence[Record]) -> dict[str, dict[str, float | None]]:
    """Returns each head's means over the runs, of all judged pictures."""
    rows = [head for run in runs for head in run.get("heads") or ()]
    return {
        name: {
            key: _mean([row[key] for row in rows if row["name"] == name])
            for key in ("epochs", "start_auroc", "image_auroc")
        }
        for name in dict.fromkeys(row["name"] for row in rows)
    }


def _half(sets: Runs, runs: Sequence[Record], half: str) -> dict[str, Any]:
    found = [figures(run, half) for run in runs]
    value, low, high = _auroc(sets, half)
    return {
        "image_auroc": {"value": value, "low": low, "high": high},
        "good": _mean([one["good"] for one in found]),
        "defect": _mean([one["defect"] for one in found]),
        **{
            key: _mean([one["pixels"][key] for one in found if one["pixels"]])
            for key in ("pixel_auroc", "aupro")
        },
        "own_threshold": [_shares(found, "own_threshold", k) for k in range(len(RATES))],
        "judged_threshold": [_shares(found, "judged_threshold", k) for k in range(len(RATES))],
    }


def _shares(
    found: Sequence[Mapping[str, Any]], threshold: str, rate: int
) -> dict[str, float] | None:
    """Returns shares of good pictures rejected and of defective ones missed, over all runs."""
    rows = [(one[threshold][rate], one) for one in found]
    if any(counts is None for counts, _ in rows):
        return None
    shares = {"rate": RATES[rate]}
    for count, of in (("false_rejects", "good"), ("misses", "defect")):
        if count in rows[0][0]:
            shares[count] = float(np.mean([counts[count] / one[of] for counts, one in rows]))
    return shares


def _auroc(sets: Runs, half: str) -> tuple[float, float, float]:
    """Returns the mean over sets and seeds with its bootstrap interval."""
    parts = [
        Resampled([named_scores(run, half) for run in seeds.values()]) for seeds in sets.values()
    ]
    return float(np.mean([part.value for part in parts])), *mean_interval(parts)


def _against_best(methods: Mapping[str, Runs]) -> dict[str, Any] | None:
    """Returns the subject minus the best other method, on the half to report."""
    if SUBJECT not in methods:
        return None
    others = [method for method in methods if method not in (SUBJECT, *VARIANTS)]
    if not others:
        return None
    best = max(others, key=lambda method: _auroc(methods[method], REPORT)[0])
    values, draws, seeds = [], [], set()
    for name, runs in methods[SUBJECT].items():
        shared = sorted(set(runs) & set(methods[best][name]))
        if not shared:
            return None
        seeds |= set(shared)
        ours, theirs = (
            [named_scores(source[seed], REPORT) for seed in shared]
            for source in (runs, methods[best][name])
        )
        names = names_of([*ours, *theirs])
        first, second = Resampled(ours, names), Resampled(theirs, names)
        values.append(first.value - second.value)
        draws.append(first.draws - second.draws)
    low, high = interval(np.mean(draws, axis=0))
    value = float(np.mean(values))
    return {"best": best, "value": value, "low": low, "high": high, "seeds": sorted(seeds)}


def _by_extractor(methods: Mapping[str, Runs]) -> dict[str, Any] | None:
    """Returns the subject's AUROC and misses on each extractor, over the seeds that all ran."""
    ran = {name: methods[name] for name in (SUBJECT, *VARIANTS) if name in methods}
    if SUBJECT not in ran or len(ran) < 2:
        return None
    seeds = set.intersection(*(set(one) for runs in ran.values() for one in runs.values()))
    if not seeds:
        return None
    return {
        "seeds": sorted(seeds),
        "methods": {
            method: {
                half: _auroc_and_misses(
                    {name: {seed: one[seed] for seed in seeds} for name, one in runs.items()}, half
                )
                for half in HALVES
            }
            for method, runs in ran.items()
        },
    }


def _auroc_and_misses(sets: Runs, half: str) -> dict[str, float]:
    """Returns a method's AUROC, and its misses at the first of `RATES`."""
    runs = [run for seeds in sets.values() for run in seeds.values()]
    shares = _shares([figures(run, half) for run in runs], "judged_threshold", 0)
    assert shares is not None
    return {"image_auroc": _auroc(sets, half)[0], "misses": shares["misses"]}


def _means(rows: Mapping[str, Mapping[str, Runs]]) -> dict[str, dict[str, Any]]:
    """Returns each method's mean AUROC over the rows that it has run on."""
    methods = {method: None for row in rows.values() for method in row}
    return {
        method: {
            "rows": sum(method in row for row in rows.values()),
            "of": len(rows),
            **{
                half: _mean(
                    [_auroc(row[method], half)[0] for row in rows.values() if method in row]
                )
                for half in HALVES
            },
        }
        for method in _ordered(methods)
        if method not in VARIANTS
    }


def _mean_of(runs: Sequence[Record], key: str) -> float | None:
    return _mean([run[key] for run in runs if run.get(key) is not None])


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
