"""How a frame is made small: what each way takes, and what it is worth in AUROC.

    python -m benchmarks.resizing       (about 10 minutes on two cores)

Times are those of one core, from a camera's frame to 256 x 256, in turn. AUROC is that of the
recipe `edge` on the half that choices are made on, with cells of 300 x 300 brought to 128 and 64
pixels: at 256 they are not large enough to be halved. What a way leaves out shows in a scratch: a
white row or column of one pixel, at each place of a black frame of 1280 x 720, and how much of it
arrives.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import torch

from differnet_runtime.benchmark.measuring import draw
from differnet_runtime.inspection import preprocess
from differnet_runtime.records import Image
from differnet_training.datasets import split_good
from differnet_training.results import auroc

from . import machine
from .accuracy import Bench, Half, fit, halves, image_scores, split
from .models import WINDOWS

FRAMES = {"640 x 480": (640, 480), "1280 x 720": (1280, 720), "1920 x 1080": (1920, 1080)}
SIZES, SEEDS = (128, 64), (0, 1, 2)
WARM_UP, RUNS = 10, 200
Way = Callable[[Image, int, int], Image]


def _resized(method: int) -> Way:
    return lambda image, height, width: cv2.resize(image, (width, height), interpolation=method)  # type: ignore[return-value]


WAYS: dict[str, Way] = {
    "halves, then areas (the product's)": preprocess._scale,
    "areas": _resized(cv2.INTER_AREA),
    "linear": _resized(cv2.INTER_LINEAR),
}


def _patched(way: Way) -> Any:  # noqa: ANN401
    def scale(image: Image, height: int, width: int, out: object = None) -> Image:  # noqa: ARG001
        return way(image, height, width)

    return patch.object(preprocess, "_scale", scale)


def times_ms(frame: Image) -> dict[str, dict[str, float]]:
    """Times all ways on one core, a frame each in turn."""
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(WARM_UP + RUNS):
        for name, way in WAYS.items():
            start = time.perf_counter()
            way(frame, 256, 256)
            times[name].append((time.perf_counter() - start) * 1e3)
    found = {name: np.quantile(taken[WARM_UP:], (0.5, 0.05, 0.95)) for name, taken in times.items()}
    return {
        name: dict(zip(("median", "p05", "p95"), map(float, quantiles), strict=True))
        for name, quantiles in found.items()
    }


def scratch(way: Way) -> dict[str, float]:
    """Returns how much of a white line arrives, of what should, at its worst and best place."""
    shares = []
    for axis, length in enumerate((720, 1280)):
        for place in range(length):
            frame = np.zeros((720, 1280), np.uint8)
            frame[(slice(None),) * axis + (place,)] = 255
            shares.append(float(way(frame, 256, 256).sum()) * length / (255 * 256 * 256))
    return {"least": min(shares), "greatest": max(shares)}


def aurocs(way: Way, size: int) -> dict[str, float]:
    """Returns the image AUROC of one flow on windows at a size, over seeds."""
    half = halves("mono")[0]
    with _patched(way), tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), half, size)
        runs = [_auroc(bench, half, seed) for seed in SEEDS]
    return {"mean": float(np.mean(runs)), "standard_deviation": float(np.std(runs, ddof=1))}


def _auroc(bench: Bench, half: Half, seed: int) -> float:
    pool, held = split(half, seed)
    parts = split_good(pool, seed, 0.05)
    features = bench.features(WINDOWS, [*parts.train, *parts.val])
    flow, _ = fit(torch.from_numpy(features), len(parts.train), WINDOWS, seed)
    good, defect = (bench.features(WINDOWS, group) for group in (held, half.defect))
    return auroc(image_scores(flow, good, "nll"), image_scores(flow, defect, "nll"))


def main() -> None:
    """Measures and writes results/resizing.json."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    cv2.setNumThreads(1)
    times = {size: times_ms(draw(*shape)) for size, shape in FRAMES.items()}
    rows: dict[str, Any] = {}
    for name, way in WAYS.items():
        rows[name] = {
            "ms": {size: found[name] for size, found in times.items()},
            "scratch": scratch(way),
            "auroc": {str(size): aurocs(way, size) for size in SIZES},
        }
        print(name, rows[name], flush=True)
    machine.write("resizing", {"cells": "mono", "half": "choice", "seeds": SEEDS, "ways": rows})


if __name__ == "__main__":
    main()
