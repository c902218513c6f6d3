"""What FP16 does to the scores: emulated FP16 against FP32, on every picture of a set.

    python -m benchmarks.precision --data FOLDER...   the compact models (edge, paper-lite)
    python -m benchmarks.precision --full             the original at full size, random weights

`edge` learns from the good pictures of ELPV (cells of both kinds), and of the sets `mtd` and
`casting_512` where a folder holds them, `paper-lite` from ELPV's; one seed. The models are exported
as a user exports them. Scores are those of ONNX Runtime on the CPU; FP16 is emulated (see
differnet_export.graph).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torchvision.models import alexnet

from differnet_export import frames
from differnet_export.exporter import export_model
from differnet_export.graph import on_cpu, scores, trace
from differnet_export.precision import to_half
from differnet_export.verify import Comparison, relative_difference, torch_scores, verify
from differnet_runtime.backends.ort import OnnxRuntimeBackend
from differnet_runtime.model_file.contract import InputContract, Views
from differnet_runtime.model_file.file import read_model_file
from differnet_runtime.model_file.metadata import FlowSpec
from differnet_training.datasets import DataSet, open_data
from differnet_training.extractors import alexnet_extractor
from differnet_training.features import default_cache_folder
from differnet_training.geometry import choose_contract
from differnet_training.job import TrainingSettings
from differnet_training.learning import learn
from differnet_training.model import DifferNet, Model, load_model
from differnet_training.recipes import EDGE, PAPER_LITE, Recipe

from . import machine
from .suite.sets import find_sets

SETS = ("elpv_both", "mtd", "casting_512")
TORCH_FRAMES = 64
HEATMAPS = 400
"""At least so many heatmaps are compared, spread over the pictures."""
Scores = NDArray[np.float32]


def compact(recipe: Recipe, data: DataSet) -> dict[str, Any]:
    """Trains, exports in both precisions and compares on every picture."""
    with tempfile.TemporaryDirectory() as name:
        folder, file = Path(name) / "model", Path(name) / "part.onnx"
        contract = choose_contract(recipe, data.good)
        learn(TrainingSettings(data, recipe, contract, folder, default_cache_folder()))
        metadata = export_model(folder, file)
        assert metadata.calibration is not None
        model, _ = load_model(folder)
        half = onnx.load_from_string(read_model_file(file)[0])
        pictures = [picture.path for picture in (*data.good, *data.test)]
        found = _compared(model, half, pictures, metadata.calibration.threshold)
        gross = verify(file, folder, pictures[:4]).gross
    return {
        **found,
        "images": len(pictures),
        "gross_inputs": [
            {"name": g.name.split(" of ")[0], "score": g.score, "verdict": g.verdict.value}
            for g in gross
        ],
    }


def full_size() -> dict[str, Any]:
    """The original, 2048 wide, one view; random weights, since its own can not be had here."""
    torch.manual_seed(0)
    extractor = alexnet_extractor(alexnet(weights=None).features.state_dict())
    views = Views(angles=(0.0,), trained="any")
    model = DifferNet(
        InputContract(height=448, width=448), views, extractor, FlowSpec(features=768)
    ).eval()
    data = open_data("elpv:both")
    pictures = [picture.path for picture in (*data.good, *data.test)]
    half = to_half(trace(model))[0]
    return {**_compared(model, half, pictures, None), "images": len(pictures)}


def _compared(
    model: Model, half: onnx.ModelProto, pictures: list[Path], threshold: float | None
) -> dict[str, Any]:
    inputs = list(frames.real(pictures, model.contract).values())
    single = scores(trace(model), inputs, "FP32")
    rounded = scores(on_cpu(half), inputs, "FP16, emulated")
    trained = torch_scores(model, inputs[:TORCH_FRAMES])
    names = tuple(path.name for path in pictures)
    errors = relative_difference(single, rounded)
    # Without a threshold of its own, the median is the worst place for one.
    used = float(np.median(single)) if threshold is None else threshold
    comparison = Comparison(names, single, rounded, used, limit=float(errors.max()))
    return {
        "torch_frames": TORCH_FRAMES,
        "greatest_difference_from_torch": float(
            relative_difference(trained, single[:TORCH_FRAMES]).max()
        ),
        "median_error": float(np.median(errors)),
        "greatest_error": float(errors.max()),
        "rank_correlation": float(spearmanr(single, rounded).statistic),
        "threshold": used,
        "verdict_flips": [
            {
                "name": name,
                "fp32": float(single[names.index(name)]),
                "fp16": float(rounded[names.index(name)]),
            }
            for name in comparison.flips
        ],
        "flips_beyond_the_error": len(comparison.wrong_flips),
        "heatmap_error": _heatmap_error(model, half, inputs) if model.windows else None,
    }


def _heatmap_error(
    model: Model, half: onnx.ModelProto, inputs: list[NDArray[np.uint8]]
) -> dict[str, float]:
    """Compares heatmaps; the error is the greatest of a map, as a share of that map's range."""
    chosen = inputs[:: max(1, len(inputs) // HEATMAPS)]
    exact, rounded = (_heatmaps(graph, chosen) for graph in (trace(model), on_cpu(half)))
    errors = np.abs(exact - rounded).max(axis=(1, 2)) / np.ptp(exact, axis=(1, 2))
    return {
        "maps": len(chosen),
        "median": float(np.median(errors)),
        "greatest": float(errors.max()),
    }


def _heatmaps(graph: onnx.ModelProto, inputs: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    with OnnxRuntimeBackend(graph.SerializeToString()) as backend:
        found = [backend.infer(frame[None]).heatmaps for frame in inputs]
    return np.concatenate([maps for maps in found if maps is not None])


def main() -> None:
    """Writes results/precision.json or results/precision_full.json."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, nargs="+", default=[], metavar="FOLDER")
    parser.add_argument("--full", action="store_true")
    args = parser.parse_args()
    if args.full:
        machine.write("precision_full", {"full size, random weights": full_size()})
        return
    sets = {one.name: one for one in find_sets(args.data) if one.name in SETS}
    models = {}
    for name, one in sets.items():
        models[f"{EDGE.name}, {name}"] = compact(EDGE, one.opened(0))
    models[f"{PAPER_LITE.name}, elpv_both"] = compact(PAPER_LITE, sets["elpv_both"].opened(0))
    machine.write("precision", {"models": models})


if __name__ == "__main__":
    main()
