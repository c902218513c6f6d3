import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from differnet_runtime import Score, Verdict, decide

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
