import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from differnet_runtime import Score, Verdict, decide
from differnet_runtime.model_file.metadata import Calibration

finite = st.floats(allow_nan=False, allow_infinity=False)


@given(finite, finite)
def test_above_the_threshold_is_a_defect_and_nothing_else_is(
    value: float, threshold: float
) -> None:
    decision = decide(Score(value, threshold, None))
    assert decision.verdict is (Verdict.DEFECT if value > threshold else Verdict.GOOD)
    assert decision.reason is None


def test_a_score_at_the_threshold_is_good() -> None:
    assert decide(Score(1.5, 1.5, None)).verdict is Verdict.GOOD


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("threshold", [None, 0.0, math.inf])
def test_a_score_that_is_not_finite_is_no_decision(value: float, threshold: float | None) -> None:
    decision = decide(Score(value, threshold, None))
    assert decision.verdict is Verdict.NO_DECISION
    assert "not finite" in (decision.reason or "")


def test_without_a_threshold_nothing_is_good() -> None:
    decision = decide(Score(-1e9, None, None))
    assert decision.verdict is Verdict.NO_DECISION
    assert "differnet calibrate" in (decision.reason or "")


@pytest.mark.parametrize("threshold", [math.nan, math.inf, -math.inf])
def test_a_threshold_that_is_not_finite_decides_nothing(threshold: float) -> None:
    decision = decide(Score(1e9, threshold, None))
    assert (decision.verdict, decision.code) == (Verdict.NO_DECISION, "no_threshold")
    assert "not a finite number" in (decision.reason or "")


def test_a_lower_end_that_is_not_a_number_makes_nothing_plausible() -> None:
    assert decide(Score(1.0, 2.0, None, lowest=math.nan)).verdict is Verdict.NO_DECISION


def test_a_score_far_below_every_good_part_is_a_fault() -> None:
    """A covered lens can score lower than any part."""
    decision = decide(Score(0.03, 1.2, 0.0, lowest=0.5))
    assert decision.verdict == Verdict.NO_DECISION
    assert "look at the lens" in str(decision.reason)
    assert decide(Score(0.5, 1.2, 0.0, lowest=0.5)).verdict == Verdict.GOOD


def test_the_lowest_plausible_score_follows_the_good_ones(calibration: Calibration) -> None:
    scores = (0.8, 0.9, 1.0, 1.1)
    assert calibration.model_copy(update={"good_scores": scores}).lowest_plausible == pytest.approx(
        0.95 * (0.83 / 0.95) ** 5 - 0.0095
    )
    below_zero = calibration.model_copy(update={"good_scores": (-2.0, -1.9, -1.8)})
    assert below_zero.lowest_plausible == pytest.approx(-1.9 - 5 * 0.08 - 0.019)


def test_a_wide_range_of_good_scores_still_has_a_lower_end(calibration: Calibration) -> None:
    """A mean of squares is never below zero, so the lower end must not be either."""
    wide = calibration.model_copy(update={"good_scores": (0.9, 1.45, 2.3)})
    assert 0.2 < wide.lowest_plausible < 0.9
