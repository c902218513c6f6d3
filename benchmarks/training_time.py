"""Wall time from pictures to a saved model: `edge`, cache or none, and the original's procedure.

    python -m benchmarks.training_time      (about 15 minutes on two cores)

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

from differnet_runtime.metadata import FlowSpec, InputContract
from differnet_training.datasets import DataSet, Picture, open_data
from differnet_training.extractors import build_extractor
from differnet_training.features import FeatureReader, ViewPlan
from differnet_training.flow import NormalizingFlow
from differnet_training.learning import Job, learn
from differnet_training.model_directory import read_training
from differnet_training.recipes import EDGE, PAPER

from . import machine
from .original_procedure import BATCH, OriginalProcedure

TIMED_EPOCHS = 2


def time_edge(data: DataSet, runs: int) -> tuple[dict[str, Any], int]:
    """Times `edge` with an empty cache, then with a full one; returns the epochs it trained too."""
    empty, full, epochs = [], [], 0
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            for times, name in ((empty, "first"), (full, "second")):
                start = time.perf_counter()
                job = Job(data, EDGE, InputContract(size=EDGE.size), root / name, root / "cache")
                learn(job)
                times.append(time.perf_counter() - start)
            history = read_training(root / "first")["history"]
            epochs = len(history["train_nll"]) + history["best_epochs"]
    return {"empty_cache_s": spread(empty), "full_cache_s": spread(full)}, epochs


def time_edge_uncached(data: DataSet, epochs: int) -> dict[str, Any]:
    """Times the extraction that every epoch would repeat without a cache."""
    extractor = build_extractor(**EDGE.reading())
    reader = FeatureReader(extractor, InputContract(size=EDGE.size), None, windows=EDGE.windows())
    times = []
    for _ in range(TIMED_EPOCHS):
        start = time.perf_counter()
        reader.read(data.good, ViewPlan.fixed(EDGE.views().angles), "features, no cache")
        times.append(time.perf_counter() - start)
    return {
        "timed_epochs": TIMED_EPOCHS,
        "extraction_an_epoch_s": spread(times),
        "epochs": epochs,
        "extrapolated_s": epochs * float(np.median(times)),
        "extrapolated": True,
    }


def time_original(pictures: Sequence[Picture], batches: int | None) -> dict[str, Any]:
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
        times.append((time.perf_counter() - start) * len(chunks) / len(chunks[:batches]))
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
    uncached = time_edge_uncached(data, epochs)
    original = time_original(data.good, args.batches)
    seconds = edge["empty_cache_s"]["median"]
    machine.write(
        "training_time",
        {
            "pictures": len(data.good),
            "threads": torch.get_num_threads(),
            "edge": edge,
            "edge_without_cache": uncached,
            "original_procedure": original,
            "original_over_edge": original["extrapolated_s"] / seconds,
        },
    )


if __name__ == "__main__":
    main()
