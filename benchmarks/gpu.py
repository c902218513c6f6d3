"""ONNX Runtime's CUDA provider beside the CPU: the same scores, and how long a batch takes.

    python -m benchmarks.gpu part.onnx --pictures FOLDER      (a minute, on a machine with a GPU)

Needs an FP32 file and `onnxruntime-gpu`. Each way scores the same pictures; differences are from
the CPU's scores. FP32 is run as it is written, which is what the product asks for, and rounded to
TF32, which is what the provider does by itself. The ways are timed in turn.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from differnet_export import frames
from differnet_export.verify import relative_difference
from differnet_runtime.backends.ort import CPU, CUDA, PROVIDERS, options, require
from differnet_runtime.gpu import find_gpu
from differnet_runtime.images import list_images
from differnet_runtime.model_file.file import read_model_file

from . import machine

WAYS: dict[str, tuple[str, dict[str, str]]] = {
    "CPU": (CPU, {}),
    "GPU": (CUDA, options(CUDA, None)),
    "GPU, FP32 rounded to TF32": (CUDA, {"use_tf32": "1"}),
}
BATCHES = (1, 4, 16)
ROUNDS, RUNS, SETTLING = 5, 60, 20


def session(model: bytes, way: str) -> onnxruntime.InferenceSession:
    """Opens a model; ends with an error where its provider does not start."""
    name, asked = WAYS[way]
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    opened = onnxruntime.InferenceSession(
        model, settings, providers=[(PROVIDERS[name], asked)], enable_fallback=0
    )
    assert opened.get_providers()[0] == PROVIDERS[name], f"{name} does not start"
    return opened


def scores(
    opened: onnxruntime.InferenceSession, pictures: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """Scores every picture by itself."""
    return np.concatenate(
        [opened.run(["score"], {"image": picture[None]})[0] for picture in pictures]
    )


def timed(opened: onnxruntime.InferenceSession, batch: NDArray[np.uint8]) -> list[float]:
    """Returns milliseconds of each run, copies to and from the GPU included."""
    for _ in range(SETTLING):
        opened.run(None, {"image": batch})
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        opened.run(None, {"image": batch})
        times.append((time.perf_counter() - start) * 1e3)
    return times


def main() -> None:
    """Measures and writes results/gpu.json."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--pictures", type=Path, required=True)
    asked = parser.parse_args()
    gpu = find_gpu()
    require(onnxruntime, CUDA)
    model, metadata = read_model_file(asked.file)
    pictures = np.stack(list(frames.real(list_images(asked.pictures), metadata.input).values()))
    opened = {way: session(model, way) for way in WAYS}
    found: dict[tuple[str, int], list[list[float]]] = {(w, b): [] for w in WAYS for b in BATCHES}
    for _ in range(ROUNDS):
        for (way, batch), rounds in found.items():
            rounds.append(timed(opened[way], pictures[:batch]))
    exact = scores(opened["CPU"], pictures)
    rows: dict[str, Any] = {}
    for way, each in opened.items():
        errors = relative_difference(exact, scores(each, pictures))
        rows[way] = {
            "ms": {
                batch: {
                    "median": float(np.median(found[way, batch])),
                    "p99": float(np.quantile(found[way, batch], 0.99)),
                    "rounds": sorted(float(np.median(r)) for r in found[way, batch]),
                }
                for batch in BATCHES
            },
            "difference": {"median": float(np.median(errors)), "greatest": float(errors.max())},
        }
    name = f"{gpu.name}, driver for CUDA {gpu.cuda[0]}.{gpu.cuda[1]}"
    machine.write("gpu", {"gpu": name, "pictures": len(pictures), "rows": rows})


if __name__ == "__main__":
    main()
