"""Our recipes: trained by `learn`, judged by `evaluate`, timed by torch."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from differnet_runtime.errors import DataError
from differnet_runtime.images import read_image
from differnet_runtime.inspection.drawing import resized
from differnet_runtime.inspection.preprocess import preprocess
from differnet_runtime.model_file.contract import InputContract
from differnet_runtime.model_file.metadata import ModelMetadata
from differnet_training.datasets import DataSet
from differnet_training.evaluation import evaluate
from differnet_training.job import TrainingSettings
from differnet_training.learning import learn
from differnet_training.model import MODEL_JSON, WEIGHTS, load_model
from differnet_training.recipes import RECIPES, Recipe
from differnet_training.results import Report

from .judged import Judged
from .sets import PictureSet
from .sizes import contract_for, input_size

RECIPE_METHODS = ("edge", "edge-global", "paper-lite")
EXTRACTORS = {"edge-lite1": "efficientnet_lite1", "edge-lite2": "efficientnet_lite2"}
"""The default on extractors that cost more."""

BASELINES = ("gaussian", "nearest_neighbour")
SETTLING, TIMED = 3, 15


def run(one: PictureSet, data: DataSet, recipe: Recipe, seed: int) -> dict[str, Judged]:
    """Trains and judges a recipe; `edge` brings the baselines on its features along."""
    contract = contract_for(_size(one, data, recipe), one.region)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "model"
        start = time.perf_counter()
        metadata = learn(TrainingSettings(data, recipe, contract, folder, None, seed))
        seconds = time.perf_counter() - start
        report = evaluate(folder, data, cache=None)
        about = {
            "training_s": round(seconds, 2),
            "latency_ms": _latency(folder, data, contract),
            "model_bytes": sum((folder / part).stat().st_size for part in (MODEL_JSON, WEIGHTS)),
            "epochs": metadata.provenance.epochs,
            "flow_added": _flow_added(report),
            "heads": [row.model_dump(mode="json") for row in getattr(report, "heads", ())],
            "calibrated": getattr(metadata.calibration, "method", "split"),
        }
    found = {recipe.name: _judged(report, data, metadata, contract, about)}
    if recipe.name == RECIPE_METHODS[0]:
        for name in BASELINES:
            if scores := report.baseline_scores.get(name):
                found[name] = Judged(scores, contract, about={"features_of": recipe.name})
    return found


def _size(one: PictureSet, data: DataSet, recipe: Recipe) -> tuple[int, int]:
    """Returns the recipe's own size, a square, or else the set's."""
    if recipe.size is not None:
        return recipe.size, recipe.size
    return input_size(data.good, one.region)


def _judged(
    report: Report,
    data: DataSet,
    metadata: ModelMetadata,
    contract: InputContract,
    about: dict[str, Any],
) -> Judged:
    if len(report.results) != len(data.test):
        raise DataError(f"{len(data.test) - len(report.results)} judged pictures have no score")
    maps = [
        resized(np.asarray(result.heatmap, np.float32), *contract.shape[:2])
        for result in report.results
        if result.heatmap is not None
    ]
    scores = [float("nan") if one.score is None else one.score for one in report.results]
    calibration = metadata.calibration.good_scores if metadata.calibration else ()
    return Judged(scores, contract, maps, calibration, about)


def _flow_added(report: Report) -> dict[str, float] | None:
    """Returns the AUROC over the Gaussian that the flow starts from, where the report has it."""
    figure = getattr(report, "minus_gaussian", None)
    if figure is None:
        return None
    return {key: round(getattr(figure, key), 6) for key in ("value", "low", "high")}


def _latency(folder: Path, data: DataSet, contract: InputContract) -> float:
    model, _ = load_model(folder)
    frame = torch.from_numpy(preprocess(read_image(data.test[0].path), contract))[None]
    return timed(lambda: model(frame))


def timed(work: Callable[[], object]) -> float:
    """Returns the median time of one call in milliseconds."""
    times = []
    with torch.inference_mode():
        for _ in range(SETTLING + TIMED):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
    return round(1e3 * float(np.median(times[SETTLING:])), 2)


def recipe_of(method: str) -> Recipe:
    """Returns the recipe that a method trains."""
    if method in EXTRACTORS:
        edge = RECIPES[RECIPE_METHODS[0]].on(EXTRACTORS[method])
        return edge.model_copy(update={"name": method})
    return RECIPES[RECIPE_METHODS[0] if method in BASELINES else method]
