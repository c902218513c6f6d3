"""Our heatmaps on the synthetic set; `peers --localization` puts anomalib's beside them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from differnet_export.exporter import export_model
from differnet_runtime import Detector
from differnet_runtime.images import read_image
from differnet_runtime.inspection.drawing import resized
from differnet_training.datasets import open_data
from differnet_training.features import default_cache_folder
from differnet_training.job import TrainingSettings
from differnet_training.learning import learn
from differnet_training.recipes import EDGE, Recipe

from .models import contract_of


def ours(folder: Path, recipes: tuple[Recipe, ...] = (EDGE,)) -> dict[str, Any]:
    """Trains, exports and runs models on a synthetic set, by their names."""
    return {recipe.name: _located(folder, recipe) for recipe in recipes}


def _located(folder: Path, recipe: Recipe) -> dict[str, float]:
    from .peers import located

    data = open_data(str(folder))
    with tempfile.TemporaryDirectory() as name:
        model, file = Path(name) / "model", Path(name) / "part.onnx"
        contract = contract_of(recipe)
        learn(TrainingSettings(data, recipe, contract, model, default_cache_folder()))
        export_model(model, file, precision="fp32")
        maps, scores = [], []
        with Detector(file, backend="onnxruntime-cpu", integrity=None) as detector:
            for picture in data.test:
                score = detector(read_image(picture.path))
                assert score.heatmap is not None
                scores.append(score.value)
                maps.append(resized(score.heatmap, contract.height, contract.width))
    result = located(folder, maps, np.array(scores))
    print(recipe.name, result, flush=True)
    return result
