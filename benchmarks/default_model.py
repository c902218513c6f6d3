"""The default model's file, which benchmarks of the runtime need: trained once, then kept."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from differnet_export.exporter import export_model
from differnet_runtime.metadata import InputContract
from differnet_training.datasets import open_data
from differnet_training.feature_cache import default_cache_folder
from differnet_training.learning import Job, learn
from differnet_training.recipes import EDGE, Recipe


def default_model(recipe: Recipe = EDGE) -> Path:
    """Returns the FP32 file of a recipe, trained on ELPV's monocrystalline cells (a minute, once).

    One is made anew for another commit: the graph may have changed.
    """
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    ).stdout
    key = hashlib.sha256(f"{commit} {recipe.model_dump_json()}".encode()).hexdigest()[:16]
    folder = default_cache_folder().parent / "benchmarks" / f"{recipe.name}-{key}"
    path = folder / "part.onnx"
    if not path.is_file():
        contract, cache = InputContract(size=recipe.size), default_cache_folder()
        learn(Job(open_data("elpv:mono"), recipe, contract, folder / "model", cache))
        export_model(folder / "model", path, precision="fp32")
    return path
