import json
import math

import pytest

from differnet_runtime import Decision, Inspection, Score, Verdict


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_record_is_strict_json_whatever_the_score(value: float) -> None:
    inspection = Inspection(
        "a", 3, 1.5, Decision(Verdict.NO_DECISION, "why"), Score(value, 2.0, None)
    )
    text = json.dumps(inspection.record(), allow_nan=False)
    assert json.loads(text)["score"] is None
    assert json.loads(text)["reason"] == "why"


def test_a_record_without_score_has_the_same_keys_as_one_with() -> None:
    undecided = Inspection("a", 0, 0.0, Decision(Verdict.NO_DECISION, "why")).record()
    decided = Inspection(
        "a", 0, 0.0, Decision(Verdict.GOOD), Score(1.0, 2.0, 50.0), {"total": 1.23456}
    ).record()
    assert undecided.keys() == decided.keys()
    assert decided["verdict"] == "GOOD"
    assert decided["stages_ms"] == {"total": 1.235}


def test_nouns_can_not_be_changed() -> None:
    with pytest.raises(AttributeError):
        Score(1.0, 2.0, None).value = 0.0  # type: ignore[misc]
