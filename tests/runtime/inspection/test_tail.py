"""The log-normal tail: Student's t without scipy, and thresholds that hold what they estimate."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2, gamma, lognorm, norm, t

from differnet_runtime.inspection.calibration import (
    calibrate,
    lognormal_bound,
    lognormal_threshold,
    reach,
    student_cdf,
    student_quantile,
)

DRAWS = 200
LAWS = {
    "lognormal, narrow": lognorm(0.15),
    "lognormal, wide": lognorm(0.6),
    "gamma": gamma(8.0),
    "chi-square": chi2(20),
}


@given(st.floats(1e-6, 1 - 1e-6), st.floats(1, 2000))
def test_the_quantile_is_scipys(probability: float, freedom: float) -> None:
    expected = t.ppf(probability, freedom)
    assert student_quantile(probability, freedom) == pytest.approx(expected, rel=1e-8, abs=1e-9)


@given(st.floats(-50, 50), st.floats(1, 2000))
def test_the_distribution_is_scipys(value: float, freedom: float) -> None:
    assert student_cdf(value, freedom) == pytest.approx(t.cdf(value, freedom), rel=1e-8, abs=1e-12)


def test_many_scores_give_the_normal_quantile() -> None:
    assert reach(1_000_000, 0.05) == pytest.approx(norm.ppf(0.95), abs=1e-4)


def test_the_threshold_moves_with_the_scores_unit() -> None:
    scores = lognorm(0.3).rvs(31, random_state=0)
    once = lognormal_threshold(scores, 0.05, 31)
    assert lognormal_threshold(1000.0 * scores, 0.05, 31) == pytest.approx(1000.0 * once)
    assert lognormal_threshold(scores**2, 0.05, 31) == pytest.approx(once**2)


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
@pytest.mark.parametrize("count", [31, 64, 150])
@pytest.mark.parametrize("tail", ["auto", "lognormal"])
def test_no_more_good_parts_are_rejected_than_estimated(law, count: int, tail: str) -> None:
    """On average over draws of scores; the log-normal is wrong for two of the laws."""
    random = np.random.RandomState(count)
    shares = [
        law.sf(
            calibrate(
                law.rvs(count, random_state=random),
                0.05,
                scored_by="torch",
                method="out_of_fold",
                tail=tail,
            ).threshold
        )
        for _ in range(DRAWS)
    ]
    assert 0.01 < np.mean(shares) <= 0.06


@pytest.mark.parametrize("count", [5, 31, 150])
def test_the_bound_holds_with_its_confidence(count: int) -> None:
    draws = np.random.RandomState(1).standard_normal((4000, count))
    shares = norm.sf(draws.mean(axis=1) + reach(count, 0.05) * draws.std(axis=1, ddof=1))
    held = float((shares <= lognormal_bound(count, 0.05, 0.95)).mean())
    assert held == pytest.approx(0.95, abs=0.015)
