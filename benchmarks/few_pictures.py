"""The default from few good pictures: what it finds, and whether the printed rate holds.

    python -m benchmarks.few_pictures --data FOLDER... --sets mtd casting_512 --draws 100

Features are read once. Each draw takes so many good pictures of all by a seed, fits and calibrates
the default on them, and judges all other good pictures and all defective ones. `--without-flow`
leaves the coupling blocks out, for an answer in a fraction of the time; `--without-copies` leaves
out the mirrored copies, to compare. A repeated command goes on.
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
from differnet_runtime.model_file.metadata import Head
from differnet_training.datasets import Label
from differnet_training.features import FeatureReader, Features, ViewPlan, default_cache_folder
from differnet_training.geometry import choose_contract
from differnet_training.head_fitting import made
from differnet_training.head_learning import fit_heads, head_shapes, joined_model, read_copies
from differnet_training.heads import Scale
from differnet_training.heads import joined_scores as joined
from differnet_training.recipes import EDGE
from differnet_training.results import auroc

from . import machine
from .suite.sets import PictureSet, find_sets

COUNTS = (31, 64, 150)
RATE = 0.05
NAME = "few_pictures"


class Drawn:
    """Features of a set's good and defective pictures, to draw from.

    Args:
        one: The set.
        flow: Whether heads have coupling blocks, as the default's coarse head has.
    """

    def __init__(self, one: PictureSet, *, flow: bool = True) -> None:
        from differnet_training.extractors import build_extractor

        data = one.opened(0)
        pictures = (*data.good, *data.test)
        self.contract = choose_contract(EDGE, data.good)
        self.extractor = build_extractor(**EDGE.reading())
        heads = head_shapes(EDGE, self.extractor, self.contract)
        self.heads = heads if flow else tuple(_without_flow(head) for head in heads)
        self.reader = FeatureReader(
            self.extractor, self.contract, default_cache_folder(), heads=self.heads
        )
        self.features: Features = self.reader.read(pictures, ViewPlan.fixed((0.0,)), one.name)
        self.good = np.array([p.label is Label.GOOD for p in self.features.images])

    def run(self, count: int, seed: int, *, copies: bool) -> dict[str, Any]:
        """Fits on `count` good pictures drawn by `seed`; returns what came of it.

        With `copies`, mirrored copies are read, and used where they help.
        """
        start = time.perf_counter()
        rows = np.random.RandomState(seed).permutation(np.flatnonzero(self.good))
        chosen, others = np.sort(rows[:count]), rows[count:]
        values = self.features.values[:, 0]
        groups = [self.features.content[row] for row in chosen]
        images = [self.features.images[row] for row in chosen]
        copied = read_copies(self.reader, images) if copies else None
        fitted = fit_heads(self.heads, values[chosen], groups, EDGE, seed, made, copied)
        model = joined_model(self.contract, self.extractor, fitted, EDGE)
        scales = [Scale(head.typical, head.spread) for head in model.heads]
        unseen = joined([one.unseen for one in fitted], scales)
        found = calibrate(unseen.tolist(), RATE, scored_by="torch", method="out_of_fold")
        good = model.judge_features(values[others]).scores.astype(np.float64)
        defect = model.judge_features(values[~self.good]).scores.astype(np.float64)
        return {
            "image_auroc": auroc(good, defect),
            "false_rejects": float((good > found.threshold).mean()),
            "misses": float((defect <= found.threshold).mean()),
            "bound": found.bound,
            "tail": found.tail,
            "epochs": max(head.epochs for head in model.heads),
            "mirrored": fitted[0].mirrored,
            "seconds": round(time.perf_counter() - start, 1),
        }


def _without_flow(head: Head) -> Head:
    return head.model_copy(update={"flow": head.flow.model_copy(update={"blocks": 0})})


def main() -> None:
    """Runs what is not kept yet; writes results/few_pictures.json after each draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True, metavar="FOLDER")
    parser.add_argument("--sets", nargs="+", default=["mtd", "casting_512"])
    parser.add_argument("--counts", type=int, nargs="+", default=list(COUNTS))
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--without-flow", action="store_true")
    parser.add_argument("--without-copies", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    name = NAME + "_without_flow" * args.without_flow + "_without_copies" * args.without_copies
    path = machine.RESULTS / f"{name}.json"
    sets: dict[str, Any] = json.loads(path.read_text())["sets"] if path.is_file() else {}
    for one in find_sets(args.data):
        if one.name not in args.sets:
            continue
        drawn = Drawn(one, flow=not args.without_flow)
        for seed in range(args.draws):
            for count in args.counts:
                runs = sets.setdefault(one.name, {}).setdefault(str(count), {})
                if str(seed) not in runs:
                    runs[str(seed)] = drawn.run(count, seed, copies=not args.without_copies)
                    machine.write(name, {"rate": RATE, "sets": sets})
                    print(one.name, count, seed, runs[str(seed)], flush=True)


if __name__ == "__main__":
    main()
