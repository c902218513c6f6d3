"""From a frame to its score: the default model in this runtime beside the original's procedure.

    python -m benchmarks.original       (about 5 minutes on two cores)

The same cells, in turn, a block of each. Three pairs: the default against the original as it is
(AlexNet at 448 px, 64 views, a flow 2048 wide); the same AlexNet and flow on both sides; and
`paper-lite`, the same EfficientNet-Lite0 and flow on both sides. ImageNet weights of AlexNet can't
be had here: AlexNet's are random, and every flow but the default's is untrained, which leaves the
times as they are.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.models import alexnet

from differnet_export.graph import trace
from differnet_runtime.backends.ort import OnnxRuntimeBackend
from differnet_runtime.detector import Detector
from differnet_runtime.images import read_image
from differnet_runtime.inspection.preprocess import preprocess
from differnet_runtime.model_file.contract import InputContract, Views
from differnet_runtime.model_file.metadata import FlowSpec
from differnet_training.datasets import open_data
from differnet_training.extractors import FeatureExtractor, alexnet_extractor, build_extractor
from differnet_training.flow import NormalizingFlow
from differnet_training.model import DifferNet
from differnet_training.recipes import PAPER, PAPER_LITE, Recipe, even_angles

from . import machine
from .default_model import default_model
from .original_procedure import OriginalProcedure

Scorer = Callable[[NDArray[np.uint8]], float]
ROUNDS, PICTURES, SETTLING = 5, 3, 1


class OurGraph:
    """A model's whole graph in the runtime's backend, preprocessing included."""

    def __init__(self, model: DifferNet, threads: int) -> None:
        graph = trace(model.eval()).SerializeToString()
        self._backend = OnnxRuntimeBackend(graph, threads=threads)
        self._contract = model.contract

    def __call__(self, image: NDArray[np.uint8]) -> float:
        """Scores a picture."""
        return float(self._backend.infer(preprocess(image, self._contract)[None]).scores[0])


def same_on_both_sides(
    extractor: FeatureExtractor, recipe: Recipe, threads: int
) -> dict[str, Scorer]:
    """Returns one model, run by the original's procedure and by this runtime."""
    torch.manual_seed(0)
    views = Views(angles=even_angles(recipe.test_views), trained="any")
    assert recipe.size is not None
    contract = InputContract(height=recipe.size, width=recipe.size)
    flow = FlowSpec(features=extractor.spec.features, blocks=recipe.blocks, width=recipe.width)
    ours = DifferNet(contract, views, extractor, flow)
    fed = extractor.spec
    procedure = OriginalProcedure(
        extractor.network, ours.flow, recipe.size, recipe.test_views, fed.mean, fed.std
    )
    graph = OurGraph(ours, threads)
    return {"original": procedure.score, "ours": graph}


def default_beside_the_original(threads: int) -> dict[str, Scorer]:
    """Returns the default model in the runtime, and the original as it is."""
    torch.manual_seed(0)
    flow = NormalizingFlow(FlowSpec(features=768)).eval()
    procedure = OriginalProcedure(alexnet(weights=None).features, flow)
    detector = Detector(default_model(), backend="onnxruntime-cpu", threads=threads, integrity=None)
    return {"original": procedure.score, "ours": lambda image: detector(image).value}


def timed(pair: dict[str, Scorer], pictures: Sequence[NDArray[np.uint8]]) -> dict[str, Any]:
    """Times both on the same pictures, block by block in turn."""
    times: dict[str, list[list[float]]] = {name: [] for name in pair}
    for _ in range(ROUNDS):
        for name, score in pair.items():
            block = []
            for image in [*pictures[:SETTLING], *pictures]:
                start = time.perf_counter()
                score(image)
                block.append((time.perf_counter() - start) * 1e3)
            times[name].append(block[SETTLING:])
    medians = {name: float(np.median(blocks)) for name, blocks in times.items()}
    ratios = [
        float(np.median(theirs) / np.median(ours))
        for theirs, ours in zip(times["original"], times["ours"], strict=True)
    ]
    return {
        "ms": {name: {"median": medians[name], **_range(blocks)} for name, blocks in times.items()},
        "ratio": medians["original"] / medians["ours"],
        "ratio_of_rounds": {"least": min(ratios), "greatest": max(ratios)},
    }


def _range(blocks: list[list[float]]) -> dict[str, float]:
    return {"p05": float(np.quantile(blocks, 0.05)), "p95": float(np.quantile(blocks, 0.95))}


def random_alexnet() -> FeatureExtractor:
    """Returns AlexNet with random weights, as the recipe `paper` reads it."""
    torch.manual_seed(0)
    return alexnet_extractor(alexnet(weights=None).features.state_dict())


def main() -> None:
    """Measures the three pairs and writes results/original.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--no-write", action="store_true", help="print only")
    args = parser.parse_args()
    cells = open_data("elpv:mono").test[:PICTURES]
    pictures = [read_image(cell.path).astype(np.uint8) for cell in cells]
    pairs: dict[str, Callable[[int], dict[str, Scorer]]] = {
        "edge against the original": default_beside_the_original,
        "the same AlexNet (random weights) and flow": lambda threads: same_on_both_sides(
            random_alexnet(), PAPER, threads
        ),
        "paper-lite: the same EfficientNet-Lite0 and flow": lambda threads: same_on_both_sides(
            build_extractor(**PAPER_LITE.reading()), PAPER_LITE, threads
        ),
    }
    rows = []
    for threads in args.threads:
        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
        for name, pair in pairs.items():
            rows.append({"pair": name, "threads": threads, **timed(pair(threads), pictures)})
            print(rows[-1], flush=True)
    settings = {"rounds": ROUNDS, "pictures": PICTURES, "settling": SETTLING}
    if not args.no_write:
        machine.write("original", {**settings, "rows": rows})


if __name__ == "__main__":
    main()
