"""ONNX Runtime must compute torch's features; where it can't, torch does."""

import sys

import numpy as np
import pytest
import torch
from torch import nn

from differnet_runtime.model_file.contract import InputContract
from differnet_runtime.model_file.metadata import Windows
from differnet_training.extractors import FeatureExtractor, build_extractor
from differnet_training.features import FeatureReader, Pooled, open_session, runs_on

SIZE = 64
WINDOWED = {"tap": (1, 3, 5), "scales": (1, 2), "kept": (24, 8)}


def pictures(count: int) -> np.ndarray:
    return np.random.RandomState(0).randint(0, 256, (count, SIZE, SIZE, 3)).astype(np.uint8)


def reader(windows: Windows | None = None, **settings: object) -> FeatureReader:
    extractor = build_extractor("efficientnet_lite0", **(settings or {"tap": 3}))
    return FeatureReader(extractor, InputContract(size=SIZE), None, windows=windows)


@pytest.mark.parametrize("views", [1, 4])
@pytest.mark.parametrize("grid", [None, 4])
def test_the_features_are_those_of_torch(views: int, grid: int | None) -> None:
    read = reader(Windows(grid=grid), **WINDOWED) if grid else reader()
    assert open_session(Pooled(read.extractor, read.windows), read.contract) is not None
    images = pictures(views)
    expected = read.extract_by_torch(images)
    found = read.extract(images)
    assert (found.shape, found.dtype) == (expected.shape, np.float32)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_the_same_picture_has_the_same_bits_in_any_process_and_order() -> None:
    images = pictures(3)
    first, second = reader(), reader()
    one_by_one = [first.extract(images[k : k + 1]) for k in range(3)]
    again = [second.extract(images[k : k + 1]) for k in (2, 1, 0)]
    for a, b in zip(one_by_one, reversed(again), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_without_its_packages_torch_computes(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    read = reader()
    assert runs_on() == f"torch {torch.__version__}"
    images = pictures(2)
    assert np.array_equal(read.extract(images), read.extract_by_torch(images))


class Untraceable(nn.Module):
    """Uses what ONNX has no operator for."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.i1e(x)


def test_what_can_not_be_traced_runs_in_torch() -> None:
    spec = build_extractor("efficientnet_lite0", tap=0).spec
    extractor = FeatureExtractor(Untraceable(), spec.model_copy(update={"channels": 3}))
    assert open_session(Pooled(extractor, None), InputContract(size=SIZE)) is None
    read = FeatureReader(extractor, InputContract(size=SIZE), None)
    assert read.extract(pictures(1)).shape == (1, 9)
