"""A station that follows its model store while somebody goes on changing it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from differnet_runtime.config import ModelConfig, PlannedModel
from differnet_runtime.daemon.models import StationModel
from differnet_runtime.errors import BackendError
from differnet_runtime.models import ModelStore


def nothing(_: Path) -> None:
    """These models are not checked."""


def planned(name: str) -> PlannedModel:
    config = ModelConfig(store=name, backend="onnxruntime-cpu")
    return PlannedModel(name, "model", config, {"top": None})


@pytest.mark.parametrize("meanwhile", ["nothing", "another is activated", "a reload"])
def test_only_the_model_that_failed_is_taken_back(
    meanwhile: str,
    tmp_path: Path,
    sound_model: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = ModelStore(tmp_path / "models", nothing)
    names = {"one": "washer", "bad": "washer", "three": "washer", "nut": "nut", "nut2": "nut"}
    hashes = {
        file: store.add(sound_model(f"{file}.onnx", factor=1.0 + number / 100), name).hash
        for number, (file, name) in enumerate(names.items())
    }
    for name in ("one", "nut", "nut2"):
        store.activate(hashes[name])
    model = StationModel(planned("washer"), lambda *_: None, store.root)
    store.activate(hashes["bad"])

    def fails(_: Path | None) -> None:
        if meanwhile == "another is activated":
            store.activate(hashes["three"])
        elif meanwhile == "a reload":
            model.configure(planned("nut"))
        raise BackendError("it fails under load")

    monkeypatch.setattr(model, "_change", fails)
    model._follow_once()
    expected = "three" if meanwhile == "another is activated" else "one"
    assert store.active("washer") == store.find(hashes[expected]).path
    assert store.active("nut") == store.find(hashes["nut2"]).path
