"""Shared by all tests: a model really trained on drawn parts, small and quick."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import pytest
import torch
from hypothesis import HealthCheck, settings

from benchmarks.models import WINDOWS
from differnet_runtime.images import write_image
from differnet_runtime.model_file.contract import InputContract
from differnet_training.datasets import DataSet, open_data
from differnet_training.job import TrainingSettings
from differnet_training.learning import learn
from differnet_training.recipes import EDGE, EDGE_GLOBAL, HeadRecipe, Recipe
from tests.drawn import draw_part, write_parts

# A run in the background begins with interrupts ignored, and so would all it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Passwords and keys that tests write must not be readable by others, or they are refused.
os.umask(0o077)

# An example may take as long as it takes on a busy machine.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

TINY: Recipe = EDGE_GLOBAL.model_copy(
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

HEADED: Recipe = EDGE.model_copy(
    update={
        "name": "headed",
        "heads": (
            HeadRecipe(name="whole", taps=(3, 5)),
            HeadRecipe(name="coarse", taps=(5,), stride=32, kept=12, blocks=1, width=8),
            HeadRecipe(name="fine", taps=(3,), stride=16, kept=12, detail=2, handicap=1.0),
        ),
        "epochs": 2,
        "learning_rate": 1e-2,
    }
)
"""The default recipe, small: all three heads, one of them with a flow."""


@dataclass(frozen=True)
class Trained:
    """A really trained tiny model, and what it was trained and can be judged on."""

    folder: Path
    data: DataSet
    cache: Path
    source: Path


@pytest.fixture(scope="session")
def one_thread() -> Iterator[None]:
    """Tiny models on one thread: beside a busy process, more take several times as long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def trained(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A tiny model, trained once for all tests; leave it as it is."""
    root = tmp_path_factory.mktemp("trained")
    source = root / "rings"
    write_parts(source / "train" / "good", 40)
    write_parts(source / "test" / "good", 12, first=100)
    _write_scratches(source / "test" / "scratch", 12)
    data = open_data(str(source))
    recipe = EDGE_GLOBAL.model_copy(
        update={"name": "tiny", "tap": 2, "size": 64, "width": 16, "blocks": 2, "epochs": 4}
    )
    learn(
        TrainingSettings(
            data=data,
            recipe=recipe,
            contract=InputContract(size=64),
            output=root / "model",
            cache=root / "cache",
            false_reject_rate=0.1,
        )
    )
    return Trained(root / "model", data, root / "cache", source)


def _write_scratches(folder: Path, count: int) -> None:
    """Writes defects from obvious to hardly there, so that no figure is trivially 0 or 1."""
    folder.mkdir(parents=True)
    for k in range(count):
        whole, scratched = draw_part(200 + k), draw_part(200 + k, defect=True)
        share = k / count
        faded = cv2.addWeighted(whole, share, scratched, 1 - share, 0)
        write_image(folder / f"part{k:02d}.png", faded)


@pytest.fixture(scope="session")
def exported(trained: Trained) -> Path:
    """The tiny model's FP32 file, beside its folder; leave it as it is."""
    from differnet_export.exporter import export_model

    path = trained.folder.parent / "part.onnx"
    export_model(trained.folder, path, precision="fp32")
    return path


@pytest.fixture(scope="session")
def exported_half(trained: Trained) -> Path:
    """The tiny model's FP16 file, beside its folder; leave it as it is."""
    from differnet_export.exporter import export_model

    path = trained.folder.parent / "part16.onnx"
    export_model(trained.folder, path)
    return path


@pytest.fixture(scope="session")
def windowed(trained: Trained) -> Trained:
    """A tiny model of one flow on windows, in four views; leave it as it is."""
    recipe = WINDOWS.model_copy(
        update={
            "tap": (1, 3, 5),
            "kept": (24, 8),
            "pooling": 4,
            "rotation": "right-angles",
            "size": 64,
            "width": 16,
            "blocks": 2,
            "epochs": 3,
        }
    )
    return _trained_on(trained, recipe, "windowed")


@pytest.fixture(scope="session")
def headed(trained: Trained) -> Trained:
    """A tiny model of three heads, as the default recipe trains it; leave it as it is."""
    with every_epoch_kept():
        return _trained_on(trained, HEADED, "headed")


@pytest.fixture(scope="session")
def exported_headed(headed: Trained) -> Path:
    """The FP32 file of the model of three heads; leave it as it is."""
    from differnet_export.exporter import export_model

    path = headed.folder.parent / "headed.onnx"
    export_model(headed.folder, path, precision="fp32")
    return path


@pytest.fixture(scope="session")
def exported_headed_half(headed: Trained) -> Path:
    """The FP16 file of the model of three heads; leave it as it is."""
    from differnet_export.exporter import export_model

    path = headed.folder.parent / "headed16.onnx"
    export_model(headed.folder, path)
    return path


@contextmanager
def every_epoch_kept() -> Iterator[None]:
    """Lets coupling blocks keep all epochs: so few drawn parts would choose none of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("differnet_training.head_fitting._best", lambda losses: len(losses) - 1)
        yield


def _trained_on(trained: Trained, recipe: Recipe, name: str) -> Trained:
    """Trains another model on the pictures of `trained`."""
    folder = trained.folder.parent / name
    learn(
        TrainingSettings(
            data=trained.data,
            recipe=recipe,
            contract=InputContract(height=64, width=64),
            output=folder,
            cache=trained.cache,
            false_reject_rate=0.1,
        )
    )
    return Trained(folder, trained.data, trained.cache, trained.source)
