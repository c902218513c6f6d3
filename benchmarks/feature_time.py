"""Training's feature extraction: which way of reading a picture's features is the quickest.

    python -m benchmarks.feature_time       (about 3 minutes on two cores)

For the recipes `edge` (one view, windows) and `edge-global` (four views): torch on a picture at a
time, torch on several at once, torch.compile, and the same extractor in ONNX Runtime; block by
block in turn. Beside them what reading, decoding and resizing take. The greatest difference from
torch's features is relative to their greatest value.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from differnet_runtime.images import read_image
from differnet_runtime.inspection.preprocess import preprocess, rotate
from differnet_training.datasets import open_data
from differnet_training.features import Pooled
from differnet_training.head_features import HeadFeatures
from differnet_training.recipes import EDGE, EDGE_GLOBAL, Recipe

from . import machine
from .models import contract_of, reader_of

ROUNDS, PICTURES, TOGETHER = 5, 8, 4
Pixels = NDArray[np.uint8]
Way = Callable[[list[Pixels]], list[NDArray[np.float32]]]


def ways(recipe: Recipe) -> dict[str, Way]:
    """Returns each way; a way takes pictures' views and returns their features."""
    reader = reader_of(recipe)
    reading = (
        HeadFeatures(reader.extractor, reader.heads, reader.contract)
        if reader.heads
        else Pooled(reader.extractor, reader.windows)
    )
    compiled = torch.compile(reading.eval())

    def together(pictures: list[Pixels]) -> list[NDArray[np.float32]]:
        found = []
        for start in range(0, len(pictures), TOGETHER):
            group = pictures[start : start + TOGETHER]
            found += np.split(reader.extract_by_torch(np.concatenate(group)), len(group))
        return found

    def by_compiled(pictures: list[Pixels]) -> list[NDArray[np.float32]]:
        with torch.inference_mode():
            return [compiled(torch.from_numpy(views)).numpy() for views in pictures]

    return {
        "torch, a picture at a time": lambda p: [reader.extract_by_torch(v) for v in p],
        f"torch, {TOGETHER} pictures at a time": together,
        "torch.compile": by_compiled,
        "ONNX Runtime (the product)": lambda p: [reader.extract(views) for views in p],
    }


def measured(recipe: Recipe, threads: int) -> dict[str, Any]:
    """Times every way on the same pictures; milliseconds a picture."""
    torch.set_num_threads(threads)
    contract, angles = contract_of(recipe), recipe.views().trained
    assert angles != "any"
    cells = open_data("elpv:mono").good[:PICTURES]
    start = time.perf_counter()
    read = [preprocess(read_image(cell.path), contract) for cell in cells]
    reading_ms = (time.perf_counter() - start) * 1e3 / len(cells)
    pictures = [np.stack([rotate(image, angle) for angle in angles]) for image in read]
    found = ways(recipe)
    expected = [way(pictures) for way in found.values()]  # the first run compiles
    times: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(ROUNDS):
        for name, way in found.items():
            start = time.perf_counter()
            way(pictures)
            times[name].append((time.perf_counter() - start) * 1e3 / len(pictures))
    return {
        "recipe": recipe.name,
        "threads": threads,
        "views": len(angles),
        "reading_ms": reading_ms,
        "ms_a_picture": {
            name: {"median": float(np.median(t)), "min": min(t), "max": max(t)}
            for name, t in times.items()
        },
        "greatest_difference": {
            name: _difference(values, expected[0])
            for name, values in zip(found, expected, strict=True)
        },
    }


def _difference(found: list[NDArray[np.float32]], expected: list[NDArray[np.float32]]) -> float:
    return float(
        max(np.abs(a - b).max() / np.abs(b).max() for a, b in zip(found, expected, strict=True))
    )


def main() -> None:
    """Measures and writes results/feature_time.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--no-write", action="store_true", help="print only")
    args = parser.parse_args()
    rows = []
    for recipe in (EDGE, EDGE_GLOBAL):
        for threads in args.threads:
            rows.append(measured(recipe, threads))
            print(rows[-1], flush=True)
    if not args.no_write:
        machine.write("feature_time", {"rounds": ROUNDS, "pictures": PICTURES, "rows": rows})


if __name__ == "__main__":
    main()
