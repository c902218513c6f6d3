"""Pixel metrics against their definitions, worked out pixel by pixel."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from differnet_runtime.errors import DataError
from differnet_training.localization import aupro, pixel_auroc


def random_maps(seed: int, *, levels: int = 1000):
    random = np.random.RandomState(seed)
    masks = [np.zeros((20, 24), bool) for _ in range(3)]
    masks[0][2:5, 3:9] = masks[0][12:13, 12:13] = masks[1][5:15, 5:15] = True
    maps = [
        (random.randint(0, levels, mask.shape) + 0.3 * levels * mask).astype(np.float32)
        for mask in masks
    ]
    return maps, masks


def aupro_by_definition(maps, masks, limit):
    """Every threshold, every region, one after the other."""
    regions = [
        (maps[0], np.s_[2:5, 3:9]),
        (maps[0], np.s_[12:13, 12:13]),
        (maps[1], np.s_[5:15, 5:15]),
    ]
    good = np.concatenate([one[~mask] for one, mask in zip(maps, masks, strict=True)])
    points = [(0.0, 0.0)]
    for threshold in sorted({float(v) for one in maps for v in one.ravel()}, reverse=True):
        overlap = np.mean([(one[region] >= threshold).mean() for one, region in regions])
        points.append(((good >= threshold).mean(), overlap))
    fine = np.linspace(0, limit, 200_001)
    return np.interp(fine, *np.array(points).T).mean()


@pytest.mark.parametrize("levels", [1000, 5])
def test_pixel_auroc_is_that_of_all_pixels(levels):
    maps, masks = random_maps(0, levels=levels)
    truth = np.concatenate([mask.ravel() for mask in masks])
    expected = roc_auc_score(truth, np.concatenate([one.ravel() for one in maps]))
    assert pixel_auroc(maps, masks) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("levels", [1000, 40])
@pytest.mark.parametrize("limit", [0.3, 0.05, 1.0])
def test_aupro_is_its_definition(levels, limit):
    maps, masks = random_maps(1, levels=levels)
    expected = aupro_by_definition(maps, masks, limit)
    assert aupro(maps, masks, limit) == pytest.approx(expected, abs=2e-4)


def test_a_perfect_map_gives_one_and_an_inverted_one_nothing():
    _, masks = random_maps(2)
    maps = [mask.astype(np.float32) for mask in masks]
    assert pixel_auroc(maps, masks) == pytest.approx(1.0)
    assert aupro(maps, masks) == pytest.approx(1.0)
    inverted = [1 - one for one in maps]
    assert pixel_auroc(inverted, masks) == pytest.approx(0.0)
    assert aupro(inverted, masks) == pytest.approx(0.0)


def test_a_small_region_counts_as_much_as_a_large_one():
    _, masks = random_maps(3)
    found = [mask.astype(np.float32) for mask in masks]
    found[0][12, 12] = 0.0  # one pixel of 119, one region of three
    assert aupro(found, masks) < 0.75
    assert pixel_auroc(found, masks) > 0.95


def test_what_can_not_be_judged_is_refused():
    maps, masks = random_maps(4)
    with pytest.raises(DataError, match="of both kinds"):
        aupro(maps, [np.zeros_like(mask) for mask in masks])
    with pytest.raises(DataError, match="has a mask of"):
        pixel_auroc(maps, [mask[:5] for mask in masks])
    with pytest.raises(DataError, match="each map needs a mask"):
        pixel_auroc(maps, masks[:2])
    maps[0][0, 0] = np.nan
    with pytest.raises(DataError, match="not finite"):
        aupro(maps, masks)
