"""Image AUROC on ELPV: the recipes beside a Gaussian and nearest neighbours, several seeds.

    python -m benchmarks.accuracy --choose     settings, on the half that choices are made on
                                               (about 40 minutes, a third of them to read features)
    python -m benchmarks.accuracy              the table, on the other half
    python -m benchmarks.accuracy --wide       one run 2048 wide, one seed (about 10 minutes)

Each half is divided by seed: 60 % of its good cells to learn from (of which a fifth is left to
calibration, as in the product), the others and the defective ones to judge by.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from differnet_runtime.metadata import RIGHT_ANGLES, InputContract
from differnet_training.baselines import Baselines
from differnet_training.datasets import Label, Picture, split_good
from differnet_training.datasets.elpv import elpv_pictures
from differnet_training.extractors import build_extractor
from differnet_training.features import FeatureReader, ViewPlan, default_cache_folder
from differnet_training.flow import likelihood_score, z2_score
from differnet_training.metrics import auroc
from differnet_training.recipes import EDGE, PAPER_LITE, Recipe
from differnet_training.trainer import fit_flow

from . import machine

SETS = ("mono", "poly", "both")
HALVES_SEED = 77
METHODS = ("z2", "likelihood", "gaussian", "nearest_neighbour")
Features = NDArray[np.float32]


def _changed(**changes: object) -> Recipe:
    return EDGE.model_copy(update=changes)


REPORTED = {"paper-lite": PAPER_LITE, "edge": EDGE}
WIDE = {"paper-lite, 2048 wide": PAPER_LITE.model_copy(update={"width": 2048})}
CANDIDATES = {
    "edge": EDGE,
    "tap 14": _changed(tap=14),
    "tap 10": _changed(tap=10),
    "noise 1.0": _changed(noise=1.0),
    "five times the learning rate": _changed(learning_rate=1e-3),
    "48 epochs always": _changed(epochs=48, patience=None),
    "random start, 48 epochs": _changed(epochs=48, patience=None, identity_start=False),
    "tap 10, random start, 48 epochs": _changed(
        tap=10, epochs=48, patience=None, identity_start=False
    ),
}


@dataclass(frozen=True)
class Half:
    """Half of a set: its good cells and its defective ones."""

    good: tuple[Picture, ...]
    defect: tuple[Picture, ...]


def halves(kind: str) -> tuple[Half, Half]:
    """Divides ELPV at random, each cell type and label for itself: (to choose by, to report)."""
    random = np.random.RandomState(HALVES_SEED)
    parts: tuple[dict[Label, list[Picture]], ...] = ({}, {})
    for cell_type in ("mono", "poly"):
        good, others = elpv_pictures(cell_type)
        kinds = sorted({p.kind for p in others}, key=lambda name: (name == "defect", name))
        for group in (list(good), *([p for p in others if p.kind == name] for name in kinds)):
            order = np.arange(len(group))
            random.shuffle(order)
            if kind in (cell_type, "both"):
                middle = len(group) // 2
                for part, chosen in zip(parts, (order[:middle], order[middle:]), strict=True):
                    part.setdefault(group[0].label, []).extend(group[k] for k in chosen)
    first, second = (Half(tuple(p[Label.GOOD]), tuple(p[Label.DEFECT])) for p in parts)
    return first, second


class Bench:
    """Reads features once per tap, and judges a recipe on a split of a half."""

    def __init__(self, cache: Path, half: Half) -> None:
        self._cache, self._pictures = cache, [*half.good, *half.defect]
        self._tables: dict[int | None, dict[Path, Features]] = {}

    def features(self, tap: int | None, pictures: Sequence[Picture]) -> Features:
        """Returns `(N, 4, D) float32` features of pictures."""
        if tap not in self._tables:
            extractor = build_extractor("efficientnet_lite0", tap=tap)
            reader = FeatureReader(extractor, InputContract(size=256), self._cache)
            read = reader.read(self._pictures, ViewPlan.fixed(RIGHT_ANGLES), f"features, tap {tap}")
            rows = zip(read.pictures, read.values, strict=True)
            self._tables[tap] = {picture.path: row for picture, row in rows}
        return np.stack([self._tables[tap][picture.path] for picture in pictures])

    def run(self, half: Half, seed: int, recipe: Recipe) -> dict[str, Any]:
        """Trains one flow on one split; returns each method's AUROC."""
        order = np.random.RandomState(seed).permutation(len(half.good))
        shuffled = [half.good[k] for k in order]
        pool, held = shuffled[: round(0.6 * len(order))], shuffled[round(0.6 * len(order)) :]
        parts = split_good(pool, seed, 0.05)
        train = self.features(recipe.tap, [*parts.train, *parts.stopping])
        start = time.perf_counter()
        flow, epochs = _fit(torch.from_numpy(train), len(parts.train), recipe, seed)
        seconds = time.perf_counter() - start
        good, defect = self.features(recipe.tap, held), self.features(recipe.tap, half.defect)
        baselines = Baselines.fit(train)
        return {
            "z2": auroc(_score(flow, good, "z2"), _score(flow, defect, "z2")),
            "likelihood": auroc(_score(flow, good, "nll"), _score(flow, defect, "nll")),
            "gaussian": auroc(baselines.gaussian(good), baselines.gaussian(defect)),
            "nearest_neighbour": auroc(baselines.nearest(good), baselines.nearest(defect)),
            "epochs": epochs,
            "training_s": round(seconds, 2),
            "images": {"train": len(train), "good": len(good), "defect": len(defect)},
        }


def _fit(
    features: torch.Tensor, train_images: int, recipe: Recipe, seed: int
) -> tuple[torch.nn.Module, int]:
    dimension, epochs = features.shape[-1], recipe.epochs
    if recipe.patience is not None:
        held_out, train = features[train_images:], features[:train_images]
        _, history = fit_flow(
            lambda _: train, dimension, recipe, seed, epochs=epochs, held_out=held_out
        )
        epochs = history.best_epochs
    flow, _ = fit_flow(lambda _: features, dimension, recipe, seed, epochs=epochs)
    return flow, epochs


def _score(flow: torch.nn.Module, features: Features, kind: str) -> NDArray[np.float64]:
    count, views, dimension = features.shape
    with torch.inference_mode():
        z, log_det = flow(torch.from_numpy(features.reshape(-1, dimension)))
        scores = z2_score(z) if kind == "z2" else likelihood_score(z, log_det)
    result: NDArray[np.float64] = scores.reshape(count, views).mean(dim=1).double().numpy()
    return result


def _table(
    cache: Path, recipes: dict[str, Recipe], seeds: int, which: int, sets: Sequence[str]
) -> dict[str, Any]:
    bench = Bench(cache, halves("both")[which])
    table: dict[str, Any] = {kind: {} for kind in sets}
    for kind in sets:
        for name, recipe in recipes.items():
            runs = [bench.run(halves(kind)[which], seed, recipe) for seed in range(seeds)]
            table[kind][name] = {
                "mean": {key: float(np.mean([run[key] for run in runs])) for key in METHODS},
                "standard_deviation": {
                    key: float(np.std([run[key] for run in runs], ddof=min(1, seeds - 1)))
                    for key in METHODS
                },
                "runs": runs,
            }
            means = {key: round(value, 4) for key, value in table[kind][name]["mean"].items()}
            print(kind, name, means, [run["epochs"] for run in runs], flush=True)
    return table


def main() -> None:
    """Runs what the arguments ask for and writes it to results/."""
    parser = argparse.ArgumentParser(description=__doc__)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--choose", action="store_true")
    mode.add_argument("--wide", action="store_true")
    parser.add_argument("--cache", type=Path, default=default_cache_folder())
    args = parser.parse_args()
    name, recipes, seeds, which, sets = "accuracy", REPORTED, 5, 1, SETS
    if args.choose:
        name, recipes, seeds, which = "accuracy_choice", CANDIDATES, 3, 0
    elif args.wide:
        name, recipes, seeds, sets = "accuracy_wide", WIDE, 1, ("mono",)
    machine.write(
        name,
        {
            "half": ("choice", "report")[which],
            "halves_seed": HALVES_SEED,
            "seeds": list(range(seeds)),
            "image_auroc": _table(args.cache, recipes, seeds, which, sets),
            "settings": {key: recipe.model_dump(mode="json") for key, recipe in recipes.items()},
        },
    )


if __name__ == "__main__":
    main()
