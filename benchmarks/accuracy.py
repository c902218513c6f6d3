"""Image AUROC on ELPV: the recipes beside a Gaussian and nearest neighbours, several seeds.

    python -m benchmarks.accuracy --choose     settings of windows, on the half to choose by
    python -m benchmarks.accuracy --choose-global    and of the whole picture
    python -m benchmarks.accuracy              the table, on the other half
    python -m benchmarks.accuracy --wide       one run 2048 wide, one seed (about 10 minutes)
    python -m benchmarks.accuracy --few        the default from 16 pictures on, choice half

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

from differnet_runtime.model_file.contract import InputContract
from differnet_training.baselines import Baselines, in_chunks
from differnet_training.datasets import ImageFile, Label, split_good
from differnet_training.datasets.elpv import elpv_pictures
from differnet_training.extractors import build_extractor
from differnet_training.features import FeatureReader, ViewPlan, default_cache_folder
from differnet_training.flow import NormalizingFlow, likelihood_score, z2_score
from differnet_training.recipes import EDGE_GLOBAL, PAPER_LITE, Recipe
from differnet_training.results import auroc
from differnet_training.trainer import fit_flow

from . import machine
from .models import WINDOWS

SETS = ("mono", "poly", "both")
HALVES_SEED = 77
METHODS = ("z2", "likelihood", "gaussian", "nearest_neighbour")
Features = NDArray[np.float32]
Run = dict[str, Any]


def _changed(**changes: object) -> Recipe:
    return WINDOWS.model_copy(update=changes)


def _global(**changes: object) -> Recipe:
    return EDGE_GLOBAL.model_copy(update=changes)


REPORTED = {"paper-lite": PAPER_LITE, "edge-global": EDGE_GLOBAL, "windows": WINDOWS}
WIDE = {"paper-lite, 2048 wide": PAPER_LITE.model_copy(update={"width": 2048})}
CANDIDATES = {
    "windows": WINDOWS,
    "windows, one Gaussian for all windows": _changed(placed=False),
    "windows, 8 x 8": _changed(pooling=8),
    "windows, taps 4, 10 and 14": _changed(tap=(4, 10, 14)),
    "windows, three scales": _changed(scales=(1, 2, 4), kept=(64, 24, 8)),
    "edge-global": EDGE_GLOBAL,
}
GLOBAL_CANDIDATES = {
    "edge-global": EDGE_GLOBAL,
    "tap 14": _global(tap=14),
    "tap 10": _global(tap=10),
    "noise 1.0": _global(noise=1.0),
    "five times the learning rate": _global(learning_rate=1e-3),
    "48 epochs always": _global(epochs=48, patience=None),
    "random start, 48 epochs": _global(epochs=48, patience=None, identity_start=False),
}


@dataclass(frozen=True)
class Half:
    """Half of a set: its good cells and its defective ones."""

    good: tuple[ImageFile, ...]
    defect: tuple[ImageFile, ...]


def halves(kind: str) -> tuple[Half, Half]:
    """Divides ELPV at random, each cell type and label for itself: (to choose by, to report)."""
    random = np.random.RandomState(HALVES_SEED)
    parts: tuple[dict[Label, list[ImageFile]], ...] = ({}, {})
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

    def __init__(self, cache: Path, half: Half, size: int = 256) -> None:
        self._cache, self._pictures = cache, [*half.good, *half.defect]
        self._contract = InputContract(size=size)
        self._read: tuple[object, dict[Path, int], Features] | None = None

    def features(self, recipe: Recipe, pictures: Sequence[ImageFile]) -> Features:
        """Returns `(N, V, ..., D) float32` features of pictures."""
        key = (recipe.tap, recipe.scales, recipe.kept, recipe.pooling, recipe.rotation)
        if self._read is None or self._read[0] != key:
            self._read = None  # of one kind at a time: windows of all pictures take a gigabyte
            extractor = build_extractor(**recipe.reading())
            windows = recipe.windows()
            reader = FeatureReader(extractor, self._contract, self._cache, windows=windows)
            views = ViewPlan.fixed(recipe.views().angles)
            read = reader.read(self._pictures, views, f"features {key}")
            rows = {picture.path: row for row, picture in enumerate(read.images)}
            self._read = (key, rows, read.values)
        return self._read[2][[self._read[1][picture.path] for picture in pictures]]

    def run(self, half: Half, seed: int, recipe: Recipe, images: int | None = None) -> Run:
        """Trains one flow on one split; returns each method's AUROC.

        Args:
            half: Of a set.
            seed: Of the split and the flow.
            recipe: The settings.
            images: Learn from so many pictures only, a fifth of which stops training early.
        """
        pool, held = split(half, seed)
        parts = split_good(pool, seed, 0.05)
        train, stopping = list(parts.train), list(parts.val)
        if images is not None:
            stopping = stopping[: images // 5]
            train = train[: images - len(stopping)]
        values = self.features(recipe, [*train, *stopping])
        start = time.perf_counter()
        flow, epochs = fit(torch.from_numpy(values), len(train), recipe, seed)
        seconds = time.perf_counter() - start
        good, defect = self.features(recipe, held), self.features(recipe, half.defect)
        train = values
        baselines = Baselines.fit(train, placed=recipe.placed)
        return {
            "z2": auroc(image_scores(flow, good, "z2"), image_scores(flow, defect, "z2")),
            "likelihood": auroc(image_scores(flow, good, "nll"), image_scores(flow, defect, "nll")),
            "gaussian": auroc(baselines.gaussian(good), baselines.gaussian(defect)),
            "nearest_neighbour": auroc(baselines.nearest(good), baselines.nearest(defect)),
            "epochs": epochs,
            "training_s": round(seconds, 2),
            "images": {"train": len(train), "good": len(good), "defect": len(defect)},
        }


def split(half: Half, seed: int) -> tuple[list[ImageFile], list[ImageFile]]:
    """Divides a half's good cells: (to learn and calibrate from, to judge by)."""
    order = np.random.RandomState(seed).permutation(len(half.good))
    shuffled = [half.good[k] for k in order]
    middle = round(0.6 * len(order))
    return shuffled[:middle], shuffled[middle:]


def fit(
    features: torch.Tensor, train_images: int, recipe: Recipe, seed: int
) -> tuple[NormalizingFlow, int]:
    """Trains a flow as the product does; returns it, and how many epochs it chose."""
    dimension, epochs = features.shape[-1], recipe.epochs
    if recipe.patience is not None:
        held_out, train = features[train_images:], features[:train_images]
        _, history = fit_flow(
            lambda _: train, dimension, recipe, seed, epochs=epochs, held_out=held_out
        )
        epochs = history.best_epochs
    flow, _ = fit_flow(lambda _: features, dimension, recipe, seed, epochs=epochs)
    return flow, epochs


def image_scores(flow: NormalizingFlow, features: Features, kind: str) -> NDArray[np.float64]:
    """Scores pictures by `z2` or `nll`: `(N,)`."""

    def score(part: Features) -> NDArray[np.float64]:
        with torch.inference_mode():
            z = flow.whiten(torch.from_numpy(part.reshape(-1, part.shape[-1])))[0]
            z, log_det = flow.blocks(z, z.new_zeros(()))
            scores = z2_score(z) if kind == "z2" else likelihood_score(z, log_det)
            return scores.double().numpy().reshape(part.shape[:-1])

    return in_chunks(features, score)


def _table(
    cache: Path, recipes: dict[str, Recipe], seeds: int, which: int, sets: Sequence[str]
) -> dict[str, Any]:
    bench = Bench(cache, halves("both")[which])
    table: dict[str, Any] = {kind: {} for kind in sets}
    for name, recipe in recipes.items():
        for kind in sets:
            runs = [bench.run(halves(kind)[which], seed, recipe) for seed in range(seeds)]
            table[kind][name] = _summed(f"{kind} {name}", runs)
    return table


def _few(cache: Path, seeds: int) -> dict[str, Any]:
    """The default from few pictures; the cells left to calibration count as well in `images`."""
    half = halves("mono")[0]
    bench, table = Bench(cache, half), {}
    for images in (16, 32, 64, 128):
        runs = [bench.run(half, seed, WINDOWS, images) for seed in range(seeds)]
        table[str(images)] = _summed(f"mono, {images} pictures", runs)
    return table


def _summed(what: str, runs: list[Run]) -> dict[str, Any]:
    found = {key: [run[key] for run in runs] for key in METHODS}
    means = {key: float(np.mean(values)) for key, values in found.items()}
    ddof = min(1, len(runs) - 1)
    spread = {key: float(np.std(values, ddof=ddof)) for key, values in found.items()}
    shown = {key: round(value, 4) for key, value in means.items()}
    print(what, shown, [run["epochs"] for run in runs], flush=True)
    return {"mean": means, "standard_deviation": spread, "runs": runs}


def main() -> None:
    """Runs what the arguments ask for and writes it to results/."""
    parser = argparse.ArgumentParser(description=__doc__)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--choose", action="store_true")
    mode.add_argument("--choose-global", action="store_true")
    mode.add_argument("--wide", action="store_true")
    mode.add_argument("--few", action="store_true")
    parser.add_argument("--cache", type=Path, default=default_cache_folder())
    args = parser.parse_args()
    if args.few:
        machine.write("accuracy_few", {"half": "choice", "image_auroc": _few(args.cache, 5)})
        return
    name, recipes, seeds, which, sets = "accuracy", REPORTED, 5, 1, SETS
    if args.choose:
        name, recipes, seeds, which = "accuracy_choice", CANDIDATES, 3, 0
    elif args.choose_global:
        name, recipes, seeds, which = "accuracy_choice_global", GLOBAL_CANDIDATES, 3, 0
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
