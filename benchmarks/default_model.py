"""The default model's file, which benchmarks of the runtime need: trained once, then kept."""

from __future__ import annotations

import hashlib
from pathlib import Path

import differnet_export
import differnet_training
from differnet_export.exporter import export_model
from differnet_runtime.inspection import preprocess
from differnet_training.datasets import open_data
from differnet_training.features import default_cache_folder
from differnet_training.job import TrainingSettings
from differnet_training.learning import learn
from differnet_training.recipes import EDGE, Recipe

from .models import contract_of


def _sources() -> list[Path]:
    packages = (Path(p.__path__[0]) for p in (differnet_training, differnet_export))
    return [
        *(path for p in packages for path in sorted(p.rglob("*.py"))),
        Path(preprocess.__file__),
    ]


def default_model(recipe: Recipe = EDGE) -> Path:
    """Returns the FP32 file of a recipe, trained on ELPV's monocrystalline cells (a minute, once).

    It is made anew when training, export or preprocessing have changed.
    """
    digest = hashlib.sha256(recipe.model_dump_json().encode())
    for path in _sources():
        digest.update(path.read_bytes())
    key = digest.hexdigest()[:16]
    folder = default_cache_folder().parent / "benchmarks" / f"{recipe.name}-{key}"
    path = folder / "part.onnx"
    if not path.is_file():
        contract, cache = contract_of(recipe), default_cache_folder()
        learn(TrainingSettings(open_data("elpv:mono"), recipe, contract, folder / "model", cache))
        export_model(folder / "model", path, precision="fp32")
    return path
