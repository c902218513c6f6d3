"""What a model file's scores become in another runtime, or after another resize.

    python -m benchmarks.other_runtimes NAME part.onnx GOOD_FOLDER DEFECT_FOLDER     (a minute)

Each way scores the same pictures, which the model must not have seen. The product's own way, ONNX
Runtime after `preprocess`, is what the others are compared with. OpenVINO is no dependency:
`pip install openvino` first. Its default precision depends on the processor: bfloat16 where it can.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openvino
import PIL.Image
from numpy.typing import NDArray

from differnet_runtime.backends.selection import open_backend
from differnet_runtime.images import list_images, read_image
from differnet_runtime.inspection.preprocess import preprocess
from differnet_runtime.model_file.file import read_model_file
from differnet_runtime.model_file.metadata import ModelMetadata
from differnet_runtime.records import Image
from differnet_training.results import auroc

from . import machine

Input = NDArray[np.uint8]
Scorer = Callable[[Input], float]
MOST = 60
"""So many pictures of each class."""
RESULT = machine.RESULTS / "other_runtimes.json"


def runtimes(data: bytes) -> dict[str, Scorer]:
    """Returns what scores an input, `(height, width, 3) uint8`."""
    backend = open_backend("onnxruntime-cpu", data, threads=1)
    core = openvino.Core()

    def scorer(**settings: str) -> Scorer:
        compiled = core.compile_model(core.read_model(data, b""), "CPU", settings)
        return lambda prepared: float(compiled([prepared[None]])["score"][0])

    return {
        "onnxruntime": lambda prepared: float(backend.infer(prepared[None]).scores[0]),
        "openvino, INFERENCE_PRECISION_HINT=f32": scorer(INFERENCE_PRECISION_HINT="f32"),
        "openvino, default": scorer(),
    }


def resizes(metadata: ModelMetadata) -> dict[str, Callable[[Image], Input]]:
    """Returns what makes a picture the graph's input; for models without region, `fit` stretch."""
    size = metadata.input.width, metadata.input.height

    def opencv(method: int) -> Callable[[Image], Input]:
        return lambda image: cv2.resize(image, size, interpolation=method).astype(np.uint8)

    def pillow(image: Image) -> Input:
        picture = PIL.Image.fromarray(image.astype(np.uint8))
        return np.asarray(picture.resize(size, PIL.Image.Resampling.BILINEAR))

    return {
        "preprocess": lambda image: preprocess(image, metadata.input),
        "opencv, INTER_AREA": opencv(cv2.INTER_AREA),
        "opencv, INTER_LINEAR": opencv(cv2.INTER_LINEAR),
        "opencv, INTER_CUBIC": opencv(cv2.INTER_CUBIC),
        "pillow, BILINEAR": pillow,
    }


def compared(
    found: NDArray[np.float64], exact: NDArray[np.float64], good: int, threshold: float
) -> dict[str, Any]:
    """Returns how far scores are from the product's, in percent, and what that changes."""
    change = 100 * (found / exact - 1)
    return {
        "change_percent": {
            "least": float(change.min()),
            "median": float(np.median(change)),
            "greatest": float(change.max()),
            "median_size": float(np.median(np.abs(change))),
        },
        "verdicts_changed": int(((found > threshold) != (exact > threshold)).sum()),
        "good_rejected": int((found[:good] > threshold).sum()),
        "defects_missed": int((found[good:] <= threshold).sum()),
        "auroc": auroc(found[:good], found[good:]),
    }


def main() -> None:
    """Measures a set, and writes it into results/other_runtimes.json beside the others."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="of the set")
    parser.add_argument("file", type=Path)
    parser.add_argument("good", type=Path)
    parser.add_argument("defect", type=Path)
    args = parser.parse_args()
    data, metadata = read_model_file(args.file)
    if metadata.input.region or metadata.input.fit != "stretch" or metadata.calibration is None:
        raise SystemExit("a calibrated model without region, with fit stretch, is needed")
    folders = [list_images(folder)[:MOST] for folder in (args.good, args.defect)]
    pictures = [read_image(path) for folder in folders for path in folder]
    score, prepare = runtimes(data), resizes(metadata)
    ways = [(runtime, "preprocess") for runtime in score]
    ways += [("onnxruntime", resize) for resize in prepare if resize != "preprocess"]
    rows: dict[str, Any] = {}
    exact = None
    for runtime, resize in ways:
        values = [score[runtime](prepare[resize](picture)) for picture in pictures]
        found = np.array(values, np.float64)
        exact = found if exact is None else exact
        row = compared(found, exact, len(folders[0]), metadata.calibration.threshold)
        rows[f"{runtime}; {resize}"] = row
        print(f"{runtime}; {resize}", row, flush=True)
    sets = json.loads(RESULT.read_text())["sets"] if RESULT.is_file() else {}
    sets[args.name] = {
        "pictures": {"good": len(folders[0]), "defect": len(folders[1])},
        "shape": {"first_picture": pictures[0].shape[:2], "input": metadata.input.shape[:2]},
        "openvino": openvino.__version__,
        "ways": rows,
    }
    machine.write(RESULT.stem, {"sets": sets})


if __name__ == "__main__":
    main()
