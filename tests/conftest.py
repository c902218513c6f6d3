"""Shared by all tests: a model really trained on drawn parts, small and quick."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from differnet_training.recipes import EDGE, Recipe
from tests.drawn import mvtec_layout

TINY: Recipe = EDGE.model_copy(
    update={
        "name": "tiny",
        "tap": 2,
        "size": 64,
        "blocks": 2,
        "width": 16,
        "epochs": 6,
        "patience": 3,
        "identity_start": False,
    }
)


@dataclass(frozen=True)
class Trained:
    """A trained model: its folder, its data and the feature cache that it used."""

    folder: Path
    data: Path
    cache: Path


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A tiny model, trained once for all tests; leave it as it is."""
    from differnet_runtime.metadata import InputContract
    from differnet_training.datasets import open_data
    from differnet_training.learning import Job, learn

    root = tmp_path_factory.mktemp("trained")
    data = mvtec_layout(root / "rings")
    learn(
        Job(
            data=open_data(str(data)),
            recipe=TINY,
            contract=InputContract(size=TINY.size),
            output=root / "model",
            cache=root / "cache",
        )
    )
    return Trained(root / "model", data, root / "cache")


@pytest.fixture(scope="session")
def exported(trained: Trained) -> Path:
    """The tiny model's exported file, beside its folder; leave it as it is."""
    from differnet_export.exporter import export_model

    path = trained.folder.parent / "part.onnx"
    export_model(trained.folder, path)
    return path
