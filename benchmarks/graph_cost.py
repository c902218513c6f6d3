"""What windows, flow, score and heatmap cost beside the extractor alone.

    python -m benchmarks.graph_cost [--beside FILE.onnx]      three minutes; on an idle machine

The default model's whole graph, on each of its extractors, against the same extractor passes
(scales, views, precision) in ONNX Runtime on the CPU, batch 1, in turn: a block of frames each,
since the waiting threads of one session would disturb the other's first frames, which are left out.
`--beside` times an older default's graph in turn with today's.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from differnet_export.graph import OPSET, simplify, trace
from differnet_runtime.inspection.preprocess import golden_frames
from differnet_training.extractors import FeatureExtractor
from differnet_training.model import Rotations
from differnet_training.recipes import EDGE, EDGE_GLOBAL, Recipe

from . import machine
from .models import contract_of, untrained
from .suite.ours import EXTRACTORS, recipe_of

BLOCKS, FRAMES, SETTLING = 12, 25, 8


class _Maps(torch.nn.Module):
    """Views and extractor, up to the feature maps."""

    def __init__(self, extractor: FeatureExtractor, recipe: Recipe) -> None:
        super().__init__()
        self.extractor, contract = extractor, contract_of(recipe)
        self.rotations = Rotations(recipe.views().angles, (contract.height, contract.width))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = self.extractor.normalise(image.to(torch.float32).permute(0, 3, 1, 2))
        turned = self.rotations(x, self.extractor.black)
        return tuple(self.extractor.maps(turned))


def graphs(recipe: Recipe) -> dict[str, onnx.ModelProto]:
    """Returns the whole graph, and the extractor's alone."""
    model = untrained(recipe)
    extractor, contract = model.extractor, model.contract
    whole = trace(model)
    buffer = io.BytesIO()
    with warnings.catch_warnings(), extractor.reading(3):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Maps(extractor, recipe).eval(),
            (torch.zeros(2, *contract.shape, dtype=torch.uint8),),
            buffer,  # type: ignore[arg-type]  # the tracing exporter takes a file object
            input_names=["image"],
            dynamic_axes={"image": {0: "N"}},
            opset_version=OPSET,
            dynamo=False,
        )
    alone = simplify(onnx.load_from_string(buffer.getvalue()))
    return {"whole graph": whole, "extractor alone": alone}


def latencies(
    recipe: Recipe, threads: int, beside: Path | None = None
) -> dict[str, dict[str, float]]:
    """Times both, and the graph `beside` them, block by block in turn; milliseconds."""
    frame = golden_frames(contract_of(recipe), 1)
    compared = graphs(recipe)
    if beside:
        compared["the older default"] = onnx.load(beside)
    sessions = {}
    for name, graph in compared.items():
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        sessions[name] = onnxruntime.InferenceSession(graph.SerializeToString(), settings)
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(BLOCKS):
        for name, session in sessions.items():
            block = []
            for _ in range(SETTLING + FRAMES):
                start = time.perf_counter()
                session.run(None, {"image": frame})
                block.append((time.perf_counter() - start) * 1e3)
            times[name] += block[SETTLING:]
    return {
        name: {
            "median": statistics.median(values),
            "p05": float(np.quantile(values, 0.05)),
            "p95": float(np.quantile(values, 0.95)),
        }
        for name, values in times.items()
    }


def main() -> None:
    """Measures the recipes on one and two threads and writes results/graph_cost.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--beside", type=Path, metavar="FILE.onnx", help="an older default's graph")
    args = parser.parse_args()
    rows = []
    for recipe in (EDGE, *map(recipe_of, EXTRACTORS), EDGE_GLOBAL):
        for threads in (1, 2):
            found = latencies(recipe, threads, args.beside if recipe.heads else None)
            rows.append({"recipe": recipe.name, "threads": threads, "ms": found})
            print(rows[-1], flush=True)
    machine.write(
        "graph_cost", {"blocks": BLOCKS, "frames": FRAMES, "settling": SETTLING, "rows": rows}
    )


if __name__ == "__main__":
    main()
