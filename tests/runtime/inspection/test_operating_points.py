"""Thresholds: what each rejects and misses, which are kept, and which costs least."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from differnet_runtime.inspection.operating_points import (
    MOST_POINTS,
    Costs,
    cheapest,
    operating_points,
)

SCORES = st.lists(st.floats(-1e6, 1e6) | st.just(float("nan")), min_size=1, max_size=30)


@given(SCORES, SCORES)
def test_every_point_counts_the_parts_above_its_threshold(good, defect):
    good, defect = np.array(good), np.array(defect)
    points = operating_points(good, defect)
    for point in points:
        assert point.false_rejects == sum(not score <= point.threshold for score in good)
        assert point.misses == sum(score <= point.threshold for score in defect)
    finite = np.unique([s for s in (*good, *defect) if np.isfinite(s)])
    assert len(points) == (len(finite) + 1 if len(finite) else 0)
    assert [p.threshold for p in points] == sorted({p.threshold for p in points})


def test_the_ends_reject_everything_and_nothing():
    points = operating_points(np.array([1.0, 2.0]), np.array([1.5, 3.0]))
    assert (points[0].false_rejects, points[0].misses) == (2, 0)
    assert (points[-1].false_rejects, points[-1].misses) == (0, 2)
    assert points[0].threshold > 0


def test_thresholds_have_as_few_digits_as_they_need():
    scores = np.array([1.2345678, 1.9876543, 1.98766])
    points = operating_points(scores, np.array([]))
    assert [p.threshold for p in points][1:3] == [1.6, 1.987657]


def test_the_threshold_in_use_is_a_point():
    points = operating_points(np.array([1.0]), np.array([3.0]), in_use=2.345)
    assert 2.345 in [point.threshold for point in points]
    assert next(p for p in points if p.threshold == 2.345).misses == 0


def test_a_cost_is_that_of_a_thousand_parts():
    costs = Costs(miss=50, reject=2, defect_share=0.1)
    points = operating_points(np.array([1.0, 4.0]), np.array([2.0, 5.0]), 3.0, costs)
    now = next(point for point in points if point.threshold == 3.0)
    assert (now.false_rejects, now.misses) == (1, 1)
    assert now.cost == pytest.approx(1000 * (0.1 * 0.5 * 50 + 0.9 * 0.5 * 2))


def test_the_cheapest_depends_on_the_costs():
    good, defect = np.array([1.0, 4.0]), np.array([2.0, 5.0])

    def best(miss, reject):
        return cheapest(operating_points(good, defect, None, Costs(miss=miss, reject=reject)))

    assert best(1000, 1).misses == 0
    assert best(1, 1000).false_rejects == 0


def test_of_equal_costs_the_threshold_in_use_is_named():
    costs = Costs(miss=1, reject=1)
    points = operating_points(np.array([1.0]), np.array([3.0]), 2.345, costs)
    assert cheapest(points, 2.345).threshold == 2.345
    assert cheapest(operating_points(np.array([1.0]), np.array([3.0]))) is None


def test_of_very_many_the_cheapest_is_kept():
    random = np.random.default_rng(0)
    good, defect = random.lognormal(0, 0.2, 3000), random.lognormal(0.6, 0.3, 3000)
    costs = Costs(miss=50, reject=1)
    points = operating_points(good, defect, None, costs)
    assert len(points) <= MOST_POINTS
    found = cheapest(points)
    for threshold in np.concatenate([good, defect]):
        rates = (good > threshold).mean(), (defect <= threshold).mean()
        assert found.cost <= costs.expected(*rates) + 1e-9


@pytest.mark.parametrize("changed", [{"miss": -1.0}, {"reject": float("nan")}, {"defect_share": 0}])
def test_costs_without_a_meaning_are_refused(changed):
    with pytest.raises(ValidationError):
        Costs(**{"miss": 1.0, "reject": 1.0, **changed})
