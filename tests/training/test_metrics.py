"""Figures of merit: properties over values, and intervals that hold what they promise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from differnet_runtime.inspection.operating_points import ranked
from differnet_training.results import (
    CONFIDENCE,
    aupr,
    auroc,
    bootstrap_auroc,
    paired_difference,
    rate,
    rejected,
    roc,
)

NOT_FINITE = (np.nan, np.inf, -np.inf)

scores = st.lists(st.integers(-20, 20), min_size=1, max_size=25).map(
    lambda values: np.array(values, np.float64)
)


def pairs_in_order(good, defect) -> float:
    above = (defect[:, None] > good[None, :]).mean()
    return above + 0.5 * (defect[:, None] == good[None, :]).mean()


@given(scores, scores)
def test_auroc_is_the_share_of_pairs_in_the_right_order(good, defect):
    assert auroc(good, defect) == pytest.approx(pairs_in_order(good, defect))


@given(scores, scores)
def test_auroc_turns_over_with_the_classes(good, defect):
    assert auroc(good, defect) + auroc(defect, good) == pytest.approx(1.0)


@given(scores, scores)
def test_auroc_depends_on_the_order_alone(good, defect):
    assert auroc(np.exp(good), np.exp(defect)) == pytest.approx(auroc(good, defect))


@given(scores, scores)
def test_the_roc_curve_rises_and_holds_the_auroc(good, defect):
    rejects, found = roc(good, defect)
    assert (rejects[0], found[0], rejects[-1], found[-1]) == (0, 0, 1, 1)
    assert (np.diff(rejects) >= 0).all()
    assert (np.diff(found) >= 0).all()
    area = (np.diff(rejects) * (found[1:] + found[:-1]) / 2).sum()
    assert area == pytest.approx(auroc(good, defect))


@pytest.mark.parametrize("value", NOT_FINITE)
def test_a_score_that_is_not_finite_ranks_highest(value):
    good = np.array([1.0, 2.0, 3.0])
    assert auroc(good, np.array([value])) == 1.0
    assert auroc(np.array([value]), good) == 0.0
    assert rejected(np.array([1.0, value, 5.0]), threshold=4.0) == 2
    assert ranked(np.array([value]))[0] > 1e300


def test_a_score_at_the_threshold_passes():
    assert rejected(np.array([1.0, 2.0, 3.0]), threshold=2.0) == 1


def test_average_precision_of_a_perfect_order_is_1_and_of_equal_scores_the_share_of_defects():
    assert aupr(np.zeros(6), np.ones(2)) == 1.0
    assert aupr(np.zeros(6), np.zeros(2)) == pytest.approx(0.25)


def test_the_bootstrap_is_seeded_and_holds_its_value():
    random = np.random.RandomState(0)
    good, defect = random.normal(0, 1, 60), random.normal(1, 1, 40)
    first = bootstrap_auroc(good, defect)
    assert bootstrap_auroc(good, defect) == first
    assert bootstrap_auroc(good, defect, seed=1) != first
    assert first.low < first.value < first.high
    assert first.confidence == CONFIDENCE == 0.95


def test_the_bootstrap_narrows_with_more_pictures():
    random = np.random.RandomState(0)
    widths = []
    for count in (20, 320):
        figure = bootstrap_auroc(random.normal(0, 1, count), random.normal(1, 1, count))
        widths.append(figure.high - figure.low)
    assert widths[1] < widths[0] / 2


def test_a_method_does_not_differ_from_itself():
    random = np.random.RandomState(0)
    pair = random.normal(0, 1, 30), random.normal(1, 1, 30)
    difference = paired_difference(pair, pair)
    assert (difference.low, difference.value, difference.high) == (0, 0, 0)


def test_a_difference_turns_over_with_its_sides():
    random = np.random.RandomState(0)
    first = random.normal(0, 1, 200), random.normal(2, 1, 200)
    second = random.normal(0, 1, 200), random.normal(1, 1, 200)
    ahead, behind = paired_difference(first, second), paired_difference(second, first)
    assert ahead.value == pytest.approx(-behind.value)
    assert (ahead.low, ahead.high) == pytest.approx((-behind.high, -behind.low))
    assert ahead.low > 0


def test_pairing_makes_a_small_difference_visible():
    random = np.random.RandomState(0)
    good, defect = random.normal(0, 1, 200), random.normal(1, 1, 200)
    paired = paired_difference((good, defect + 0.1), (good, defect))
    alone = bootstrap_auroc(good, defect)
    assert paired.low > 0
    assert paired.high - paired.low < (alone.high - alone.low) / 3


@given(st.integers(1, 60), st.data())
def test_a_rates_interval_is_exact(of, data):
    count = data.draw(st.integers(0, of))
    found = rate(count, of)
    tail = (1 - CONFIDENCE) / 2
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert (found.count, found.of) == (count, of)
    if count:
        assert binom.sf(count - 1, of, found.low) == pytest.approx(tail, rel=1e-6)
    if count < of:
        assert binom.cdf(count, of, found.high) == pytest.approx(tail, rel=1e-6)


def test_no_misses_do_not_prove_that_there_are_none():
    found = rate(0, 100)
    assert (found.value, found.low) == (0, 0)
    assert found.high == pytest.approx(0.0362, abs=1e-4)


def test_a_perfect_order_of_few_pictures_is_not_certainty():
    figure = bootstrap_auroc(np.zeros(12), np.ones(30))
    assert (figure.value, figure.high) == (1, 1)
    assert figure.low == pytest.approx(rate(12, 12).low)
    assert bootstrap_auroc(np.ones(12), np.zeros(30)).high == pytest.approx(rate(0, 12).high)
