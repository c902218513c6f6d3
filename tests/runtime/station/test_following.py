"""A station that follows its model store while somebody goes on changing it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from differnet_runtime.config import ModelConfig, PlannedModel
from differnet_runtime.errors import BackendError
from differnet_runtime.models.store import ModelStore
from differnet_runtime.station.models import StationModel


def nothing(_: Path) -> None:
    """These models are not checked."""


def planned(name: str) -> PlannedModel:
    config = ModelConfig(store=name, backend="onnxruntime-cpu")
    return PlannedModel(name, "model", config, {"top": None})


def with_threshold(model: Path, threshold: float) -> PlannedModel:
    config = ModelConfig(path=model, backend="onnxruntime-cpu")
    return PlannedModel("part", "model", config, {"top": threshold})


def test_a_threshold_that_comes_with_another_file_of_that_name_waits_for_it(
    sound_model: Callable[..., Path],
) -> None:
    path = sound_model("part.onnx")
    model = StationModel(with_threshold(path, 1.0), lambda *_: None)
    old = model.switch.engine
    model.configure(with_threshold(path, 2.0))
    assert old.thresholds["top"] == 2.0
    sound_model("part.onnx", factor=1.5)
    model.configure(with_threshold(path, 3.0))
    new = model._engine(path)
    assert old.thresholds["top"] == 2.0, "it still judges by the file before"
    assert new.thresholds["top"] == 3.0
    model.configure(with_threshold(path, 4.0))
    assert (old.thresholds["top"], new.thresholds["top"]) == (2.0, 4.0)


def test_a_threshold_that_came_with_a_model_of_the_store_holds_once_that_is_taken_back(
    tmp_path: Path, sound_model: Callable[..., Path]
) -> None:
    store = ModelStore(tmp_path / "models", nothing)
    one, two = (store.add(sound_model(f"{n}.onnx", factor=1 + n), "nut").hash for n in (0, 1))
    store.activate(one)
    plans = [replace(planned("nut"), thresholds={"top": threshold}) for threshold in (1.0, 2.0)]
    model = StationModel(plans[0], lambda *_: None, store.root)
    store.activate(two)
    model.configure(plans[1])
    assert model.switch.engine.thresholds["top"] == 1.0
    store.rollback("nut")
    model.follow()
    assert model.switch.engine.thresholds["top"] == 2.0


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
    model.follow()
    expected = "three" if meanwhile == "another is activated" else "one"
    assert store.active("washer") == store.find(hashes[expected]).path
    assert store.active("nut") == store.find(hashes["nut2"]).path
