"""Painted defects have the size and the contrast that is asked for, and change nothing else."""

import numpy as np
import pytest

from differnet_runtime.model_file.detection_limits import DEFECT_KINDS
from differnet_training.limit_search import DefectPlace, find_place, paint

INSIDE = (slice(10, 90), slice(20, 110))
CENTRE = DefectPlace(64.0, 48.0, 0.4, np.full(9, 0.85))


def even(level: int = 128) -> np.ndarray:
    return np.full((100, 128, 3), level, np.uint8)


def textured() -> np.ndarray:
    return np.random.RandomState(0).randint(60, 196, (100, 128, 3)).astype(np.uint8)


def change(image: np.ndarray, painted: np.ndarray) -> np.ndarray:
    return (painted.astype(int) - image)[:, :, 0]


@pytest.mark.parametrize("size", [2, 3, 11, 32])
@pytest.mark.parametrize(("kind", "sign"), [("dark_spot", -1), ("bright_spot", 1)])
def test_a_spot_is_a_disc_of_its_diameter_and_contrast(kind, sign, size):
    found = sign * change(even(), paint(even(), kind, size, 40, CENTRE))
    assert found.max() == 40
    assert found.min() == 0
    assert found.sum() / 40 == pytest.approx(np.pi / 4 * size**2, rel=0.1)
    assert found[48, 64] == 40


def test_a_scratch_is_as_long_as_its_size_and_a_tenth_as_wide():
    level = DefectPlace(64.0, 48.0, 0.0, CENTRE.outline)
    found = -change(even(), paint(even(), "scratch", 60, 30, level))
    rows, columns = np.nonzero(found)
    assert np.ptp(columns) + 1 == pytest.approx(60, abs=1.5)
    assert np.ptp(rows) + 1 == pytest.approx(6, abs=1.5)
    short = -change(even(), paint(even(), "scratch", 4, 30, level))
    assert short.sum() == pytest.approx(30 * 4 * 1, rel=0.3)


def test_a_stain_has_half_its_contrast_at_its_diameter():
    found = -change(even(), paint(even(), "stain", 20, 40, CENTRE))
    assert found[48, 64] == 40
    assert found[48, 74] == found[58, 64] == pytest.approx(20, abs=1)
    assert found[48, 64 + 20] == 0


def test_a_missing_piece_has_one_grey_level_and_an_irregular_outline():
    place = find_place(even(), "missing_piece", 40, INSIDE, np.random.RandomState(3))
    painted = paint(textured(), "missing_piece", 24, 40, place)
    inside = painted[int(place.y) - 5 : int(place.y) + 6, int(place.x) - 5 : int(place.x) + 6]
    assert (inside.reshape(-1, 3).std(axis=0) == 0).all()
    area = np.count_nonzero(change(even(), paint(even(), "missing_piece", 24, 40, place)))
    assert 0.6 * np.pi / 4 * 24**2 < area < 1.1 * np.pi / 4 * 24**2


@pytest.mark.parametrize(("level", "sign"), [(30, 1), (220, -1)])
@pytest.mark.parametrize("kind", ["scratch", "missing_piece", "stain"])
def test_the_others_are_painted_towards_where_there_is_room(kind, level, sign):
    found = sign * change(even(level), paint(even(level), kind, 20, 80, CENTRE))
    assert found.max() == 80
    assert found.min() == 0


def test_blur_smooths_the_texture_and_keeps_the_mean():
    image = textured()
    painted = paint(image, "blur", 40, 0, CENTRE)
    before, after = image[40:56, 56:72], painted[40:56, 56:72]
    assert after.std() < before.std() / 4
    assert after.mean() == pytest.approx(before.mean(), abs=6)


@pytest.mark.parametrize("kind", DEFECT_KINDS)
def test_a_defect_is_the_same_each_time_and_changes_nothing_beyond_its_size(kind):
    image = textured()
    kept = image.copy()
    place = find_place(image, kind, 40, INSIDE, np.random.RandomState(5))
    painted = paint(image, kind, 16, 40, place)
    assert (painted == paint(image, kind, 16, 40, place)).all()
    assert (image == kept).all()
    y, x = np.nonzero((painted != image).any(axis=2))
    reach = 16 if kind == "stain" else 8
    assert len(y)
    assert np.hypot(y - place.y, x - place.x).max() <= reach + 1.5


def test_a_defect_may_reach_over_the_border():
    painted = paint(even(), "dark_spot", 30, 40, DefectPlace(2.0, 3.0, 0.0, CENTRE.outline))
    assert painted[0, 0, 0] == 88


def test_the_place_lies_inside_and_has_room_for_the_contrast():
    image = even(10)
    image[30:60, 50:80] = 200
    for seed in range(20):
        place = find_place(image, "dark_spot", 80, INSIDE, np.random.RandomState(seed))
        assert 29 <= place.y <= 60
        assert 49 <= place.x <= 80
    assert find_place(even(10), "dark_spot", 20, INSIDE, np.random.RandomState(0)) is None
    assert find_place(even(250), "bright_spot", 20, INSIDE, np.random.RandomState(0)) is None
