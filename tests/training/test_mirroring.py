"""Mirrored copies add to covariances only, and only if held-out pictures become more likely."""

import numpy as np
import pytest
import torch

from differnet_runtime.images import read_image
from differnet_runtime.inspection.preprocess import preprocess
from differnet_runtime.model_file.contract import InputContract
from differnet_runtime.model_file.metadata import FlowSpec, Head
from differnet_training import head_learning
from differnet_training.datasets import ImageFile
from differnet_training.extractors import build_extractor
from differnet_training.features import FeatureReader, ViewPlan
from differnet_training.gaussian import PlacedMoments, shrunk_moments
from differnet_training.head_fitting import HeadData, fit_head, fold_of, head_data, made
from differnet_training.head_learning import choose_copies, fit_heads, read_copies
from differnet_training.recipes import EDGE
from tests.drawn import write_parts

COUNT, WINDOWS, FEATURES = 25, 4, 12


def head(side: int) -> Head:
    spec = FlowSpec(
        features=FEATURES, blocks=0, width=8, clamp=1.9, whitened=True, places=side * side, kernel=3
    )
    return Head(
        name="coarse" if side > 1 else "whole", taps=(1,), rows=side, columns=side, flow=spec
    )


def drawn(seed: int, mean: float = 0.0, mixing: int = 0) -> np.ndarray:
    """Features `(COUNT, WINDOWS * FEATURES)`, most of whose variance lies in three directions."""
    random, maps = np.random.RandomState(seed), np.random.RandomState(mixing)
    directions = maps.normal(size=(WINDOWS, 3, FEATURES))
    rows = np.einsum("nwk,wkf->nwf", random.normal(size=(COUNT, WINDOWS, 3)), directions)
    rows += mean + 0.1 * random.normal(size=rows.shape)
    return rows.reshape(COUNT, -1).astype(np.float32)


def copies(mixing: int = 0) -> np.ndarray:
    """Of three kinds, each with a mean far from that of the pictures."""
    kinds = [drawn(10 + k, mean=50.0 * (k + 1), mixing=mixing) for k in range(3)]
    return np.stack(kinds, axis=1)


def fold() -> np.ndarray:
    return fold_of([str(k) for k in range(COUNT)], 0)


def chosen(values: np.ndarray, copied: np.ndarray, side: int = 2) -> HeadData:
    parts = list(head_data([head(side)], values, fold(), copied))
    ((_, data),) = choose_copies(parts)
    return data


def laid_back(copied: np.ndarray) -> np.ndarray:
    """Copies `(COUNT, 3, WINDOWS * FEATURES)`, each window where its mirror image lies."""
    grids = copied.reshape(COUNT, 3, 2, 2, FEATURES)
    flipped = [grids[:, 0, :, ::-1], grids[:, 1, ::-1], grids[:, 2, ::-1, ::-1]]
    return np.stack(flipped, axis=1).reshape(copied.shape)


def test_copies_that_vary_as_the_pictures_do_are_taken_as_they_lie():
    found = chosen(drawn(0), copies()).copies
    assert np.array_equal(found.reshape(COUNT, 3, -1), copies())


def test_copies_that_vary_so_at_the_mirrored_place_are_laid_back():
    found = chosen(drawn(0), laid_back(copies())).copies
    assert np.array_equal(found.reshape(COUNT, 3, -1), copies())


def test_copies_that_vary_otherwise_are_not_taken():
    assert chosen(drawn(0), 5 * copies(mixing=1)).copies is None


def test_the_whole_head_alone_never_takes_copies():
    values = drawn(0)[:, :FEATURES]
    assert chosen(values, copies()[:, :, :FEATURES], side=1).copies is None


@pytest.mark.parametrize(("mixing", "used"), [(0, True), (1, False)])
def test_the_whole_head_follows_the_others(mixing, used):
    heads = [head(1), head(2)]
    values, copied = drawn(0), (5 if mixing else 1) * copies(mixing)
    values = np.concatenate([values[:, :FEATURES], values], axis=1)
    copied = np.concatenate([copied[..., :FEATURES], copied], axis=2)
    groups = [str(k) for k in range(COUNT)]
    found = fit_heads(heads, values, groups, EDGE, 0, made, copied)
    plain = fit_heads(heads, values, groups, EDGE, 0, made)
    assert [one.mirrored for one in found] == [used, used]
    for one, other in zip(found, plain, strict=True):
        assert not other.mirrored
        assert np.array_equal(one.unseen, other.unseen) != used


def test_covariances_learn_from_them_and_means_do_not():
    values, copied = drawn(0).reshape(COUNT, 4, -1), copies().reshape(COUNT, 3, 4, -1)
    moments = PlacedMoments.of(values)
    for kind in range(3):
        moments = moments.with_view(PlacedMoments.of(copied[:, kind]))
    views = np.concatenate([values[:, None], copied], axis=1).astype(np.float64)
    centred = (views - views.mean(axis=0)).reshape(-1, 4, FEATURES)
    expected = PlacedMoments.of(centred).gaussian(0.5)
    found = moments.gaussian(0.5)
    np.testing.assert_allclose(found.mean, values.mean(axis=0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        np.linalg.inv(found.matrix @ found.matrix.swapaxes(-1, -2)),
        np.linalg.inv(expected.matrix @ expected.matrix.swapaxes(-1, -2)),
        rtol=1e-4,
        atol=1e-4,
    )


def test_so_does_the_whole_head():
    values, copied = drawn(0)[:, None, :FEATURES], copies()[:, :, None, :FEATURES]
    found = fit_head(head(1), HeadData(values, fold(), copied), EDGE, 0, lambda: None, made)
    views = np.concatenate([values[:, None], copied], axis=1).astype(np.float64)
    _, covariance = shrunk_moments((views - views.mean(axis=0)).reshape(-1, FEATURES))
    matrix = found.flow.matrix[0].double().numpy()
    np.testing.assert_allclose(matrix @ covariance @ matrix.T, np.eye(FEATURES), atol=1e-3)
    np.testing.assert_allclose(found.flow.centre[0], values.mean(axis=(0, 1)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side", [1, 2])
def test_a_picture_is_not_judged_by_its_own_copies(side):
    end = side * side * FEATURES
    values = drawn(0)[:, :end].reshape(COUNT, side * side, FEATURES)
    copied = copies()[:, :, :end].reshape(COUNT, 3, side * side, FEATURES)
    folds = fold()
    held = np.flatnonzero(folds == 3)  # fold 0 also chooses how far windows are trusted
    changed = copied.copy()
    changed[held] *= 1.5
    before, after = (
        fit_head(head(side), HeadData(values, folds, c), EDGE, 0, lambda: None, made).unseen
        for c in (copied, changed)
    )
    assert np.array_equal(before[held], after[held])
    assert (before[folds != 3] != after[folds != 3]).all()


@pytest.fixture
def reader(tmp_path):
    extractor = build_extractor("efficientnet_lite0", tap=2)
    return FeatureReader(extractor, InputContract(height=64, width=96), tmp_path / "cache")


def test_a_copy_has_the_features_of_the_mirrored_input(tmp_path, reader):
    (path,) = write_parts(tmp_path / "data", 1)
    image = preprocess(read_image(path), reader.contract)
    found = reader.read([ImageFile(path)], ViewPlan.mirrored(), "x").values[0]
    mirrored = np.stack([image[:, ::-1], image[::-1], image[::-1, ::-1]])
    with torch.inference_mode():
        expected = reader.extract_by_torch(mirrored)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    again = reader.read([ImageFile(path)], ViewPlan.mirrored(), "x").values[0]
    assert np.array_equal(found, again)


def test_many_pictures_need_none(tmp_path, reader, monkeypatch):
    monkeypatch.setattr(head_learning, "FEW", 2)
    pictures = [ImageFile(path) for path in write_parts(tmp_path / "data", 3)]
    assert read_copies(reader, pictures) is None
    copied = read_copies(reader, pictures[:2])
    assert copied is not None
    assert copied.shape[:2] == (2, 3)
