"""Defects hidden among the good pictures: whether training finds them, and what they cost.

    python -m benchmarks.hidden_defects --data FOLDER... --sets mtd casting_512 --draws 10

Features are read once. Each draw takes 300 good pictures by a seed and hides so many defective
ones among them, trains the default as `train` does (and, to compare, with `--doubtful keep`), and
judges all other pictures. `clean` learns from the 300 good ones alone and lists the hidden ones by
its own scores: a list by a model that defects did not spoil. `--without-flow` leaves the coupling
blocks out, for an answer in a sixth of the time. A repeated command goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from differnet_runtime.inspection.calibration import calibrate
from differnet_training.head_fitting import FoldPart, made
from differnet_training.head_learning import fit_heads, joined_model
from differnet_training.heads import Scale
from differnet_training.heads import joined_scores as joined
from differnet_training.recipes import EDGE
from differnet_training.results import auroc
from differnet_training.screening import without_strange

from . import machine
from .few_pictures import RATE, Drawn
from .suite.sets import find_sets

GOOD = 300
SHARES = (0.0, 0.01, 0.02, 0.05)
NAMES = {True: "hidden_defects", False: "hidden_defects_without_flow"}


def run(drawn: Drawn, share: float, seed: int, how: str) -> dict[str, Any]:
    """Trains on `GOOD` good pictures with a share of defects among them; returns what came of it.

    Args:
        drawn: The set's features.
        share: Number of hidden defects, as a share of the good pictures.
        seed: Draws both, and divides the folds.
        how: `robust` leaves strange pictures out, as `train` does; `keep` keeps them; `clean`
            learns from the good ones alone and only ranks the hidden ones among them.
    """
    start = time.perf_counter()
    random = np.random.RandomState(seed)
    good = random.permutation(np.flatnonzero(drawn.good))
    defect = random.permutation(np.flatnonzero(~drawn.good))
    hidden, most = round(share * GOOD), round(max(SHARES) * GOOD)
    rows = np.sort(np.concatenate([good[:GOOD], defect[:hidden]]))
    wrong = ~drawn.good[rows]
    features = drawn.features
    content = tuple(features.content[row] for row in rows)
    part = FoldPart(
        tuple(features.images[row] for row in rows), content, features.values[rows, 0], content
    )
    learned, unlearned = part.divided(wrong & (how == "clean"))
    kept, left_out, found = without_strange(
        drawn.heads, learned, seed, "drop" if how == "robust" else "keep"
    )
    fitted = fit_heads(drawn.heads, kept.values, kept.groups, EDGE, seed, made)
    model = joined_model(drawn.contract, drawn.extractor, fitted, EDGE)
    scales = [Scale(head.typical, head.spread) for head in model.heads]
    unseen = joined([one.unseen for one in fitted], scales)
    limit = calibrate(unseen.tolist(), RATE, scored_by="torch", method="out_of_fold").threshold
    others = np.concatenate([good[GOOD:], defect[most:]])
    scores = model.judge_features(features.values[others, 0]).scores.astype(np.float64)
    bad, fine = scores[~drawn.good[others]], scores[drawn.good[others]]
    bad_content = {features.content[row] for row in rows[wrong]}
    again = [model.judge_features(p.values).scores for p in (left_out, unlearned) if p.images]
    order = np.argsort(-np.concatenate([unseen, *again]))
    ranked = np.array([*kept.content, *left_out.content, *unlearned.content])[order]
    called = {one.path for one in found}
    caught = sum(part.images[k].path in called for k in np.flatnonzero(wrong))
    return {
        "image_auroc": auroc(fine, bad),
        "misses_at_5_percent": float((bad <= np.quantile(fine, 1 - RATE)).mean()),
        "misses": float((bad <= limit).mean()),
        "false_rejects": float((fine > limit).mean()),
        "hidden": hidden,
        "listed_first": sum(content in bad_content for content in ranked[: 2 * hidden + 5]),
        "called_strange": caught,
        "good_called_strange": len(called) - caught,
        "seconds": round(time.perf_counter() - start, 1),
    }


def main() -> None:
    """Runs what is not kept yet; writes results/hidden_defects.json after each draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True, metavar="FOLDER")
    parser.add_argument("--sets", nargs="+", default=["mtd", "casting_512"])
    parser.add_argument("--shares", type=float, nargs="+", default=list(SHARES))
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--how", nargs="+", default=["robust", "keep", "clean"])
    parser.add_argument("--without-flow", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    name = NAMES[not args.without_flow]
    path = machine.RESULTS / f"{name}.json"
    sets: dict[str, Any] = json.loads(path.read_text())["sets"] if path.is_file() else {}
    for one in find_sets(args.data):
        if one.name not in args.sets:
            continue
        drawn = Drawn(one, flow=not args.without_flow)
        for seed in range(args.draws):
            for share in args.shares:
                for how in args.how if share else ("robust",):
                    runs = sets.setdefault(one.name, {}).setdefault(f"{share:g} {how}", {})
                    if str(seed) not in runs:
                        runs[str(seed)] = run(drawn, share, seed, how)
                        machine.write(name, {"rate": RATE, "good": GOOD, "sets": sets})
                        print(one.name, share, how, seed, runs[str(seed)], flush=True)


if __name__ == "__main__":
    main()
