"""Wall time from pictures to a saved model: `edge`, cache or none, and the original's procedure.

    python -m benchmarks.training_time      (about 8 minutes on two cores)

All on the same good pictures (60 % of ELPV's monocrystalline ones). What would take hours is timed
for two epochs and extrapolated, and the result says so. The original's procedure (see
`original_procedure.py`) is that of the paper: AlexNet at 448 px, four random rotations of each
picture, 192 epochs. Its weights are random, which leaves the time as it is.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.models import alexnet

from differnet_runtime.model_file.metadata import FlowSpec
from differnet_training.datasets import DataSet, ImageFile, open_data, split_good
from differnet_training.features import ViewPlan
from differnet_training.flow import NormalizingFlow
from differnet_training.head_fitting import FOLDS
from differnet_training.job import TrainingSettings
from differnet_training.learning import learn
from differnet_training.model import read_training
from differnet_training.recipes import EDGE, PAPER

from . import machine
from .models import contract_of, reader_of
from .original_procedure import BATCH, OriginalProcedure

TIMED_EPOCHS = 2


def time_edge(data: DataSet, runs: int) -> tuple[dict[str, Any], int]:
    """Times `edge` in turn without a cache, with an empty and a full one; returns its epochs too.

    Its views are fixed, so that even without a cache each picture is read once.
    """
    times: dict[str, list[float]] = {"no_cache_s": [], "empty_cache_s": [], "full_cache_s": []}
    epochs = 0
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            for name, taken in times.items():
                cache = None if name == "no_cache_s" else root / "cache"
                start = time.perf_counter()
                learn(TrainingSettings(data, EDGE, contract_of(EDGE), root / name, cache))
                taken.append(time.perf_counter() - start)
            heads = read_training(root / "no_cache_s")["history"]["heads"].values()
            # Of the fold that chooses, and of the others and all pictures; see `head_fitting`.
            trained = (max(len(h["held_out"]) - 1, 0) + FOLDS * h["epochs"] for h in heads)
            epochs = sum(trained)
    return {name: spread(taken) for name, taken in times.items()}, epochs


def time_edge_reading(data: DataSet, epochs: int) -> dict[str, Any]:
    """Times the extraction, were each epoch to read its pictures anew, as the original does."""
    parts = split_good(data.good, 0, 0.05)
    pictures = [*parts.train, *parts.val]
    reader = reader_of(EDGE)
    plan = ViewPlan.fixed(EDGE.views().angles)
    reader.read(pictures[:8], plan, "warming up")
    times = []
    for _ in range(TIMED_EPOCHS):
        start = time.perf_counter()
        reader.read(pictures, plan, "features, each epoch anew")
        times.append(time.perf_counter() - start)
    return {
        "timed_epochs": TIMED_EPOCHS,
        "extraction_an_epoch_s": spread(times),
        "epochs": epochs,
        "extrapolated_s": epochs * float(np.median(times)),
        "extrapolated": True,
    }


def time_original(pictures: Sequence[ImageFile], batches: int | None) -> dict[str, Any]:
    """Times epochs of the original's procedure."""
    torch.manual_seed(0)
    flow = NormalizingFlow(FlowSpec(features=768))
    procedure = OriginalProcedure(alexnet(weights=None).features.train(), flow)
    chunks = [pictures[k : k + BATCH] for k in range(0, len(pictures), BATCH)]
    times = []
    for _ in range(TIMED_EPOCHS):
        start = time.perf_counter()
        for chunk in chunks[:batches]:
            procedure.step(chunk)
        share = sum(map(len, chunks[:batches])) / len(pictures)
        times.append((time.perf_counter() - start) / share)
        print(f"original: {times[-1]:.0f} s an epoch", flush=True)
    return {
        "timed_epochs": TIMED_EPOCHS,
        "timed_batches_of": [len(chunks[:batches]), len(chunks)],
        "epoch_s": spread(times),
        "epochs": PAPER.epochs,
        "extrapolated_s": PAPER.epochs * float(np.median(times)),
        "extrapolated": True,
    }


def spread(times: list[float]) -> dict[str, float]:
    """Returns median, least, greatest and count."""
    return {
        "median": float(np.median(times)),
        "min": min(times),
        "max": max(times),
        "runs": len(times),
    }


def main() -> None:
    """Measures all four and writes results/training_time.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--batches", type=int, help="of the original's epoch (default: all)")
    args = parser.parse_args()
    data = open_data("elpv:mono")
    edge, epochs = time_edge(data, args.runs)
    reading = time_edge_reading(data, epochs)
    original = time_original(data.good, args.batches)
    seconds = edge["empty_cache_s"]["median"]
    machine.write(
        "training_time",
        {
            "pictures": len(data.good),
            "threads": torch.get_num_threads(),
            "edge": edge,
            "edge_reading_anew": reading,
            "original_procedure": original,
            "original_over_edge": original["extrapolated_s"] / seconds,
        },
    )


if __name__ == "__main__":
    main()
