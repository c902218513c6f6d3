import json
import math
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from differnet_runtime import Decision, Inspection, Score, Verdict
from differnet_runtime.model_file.metadata import HeadName
from differnet_runtime.records import WORDS


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


HEADS = {"whole": 3.0, "coarse": 1.0, "fine": 2.0}


def test_a_record_says_which_head_decided_and_when_the_heatmap_may_be_calm() -> None:
    heatmap = np.zeros((2, 3), np.float32)
    score = Score(3.0, 2.0, 100.0, heatmap=heatmap, heads=HEADS)
    record = Inspection("a", 0, 0.0, Decision(Verdict.DEFECT), score).record()
    assert (record["head"], record["heads"]) == ("whole", HEADS)
    assert record["decided_by"] == "the picture as a whole"
    assert record["note"] == (
        "The picture as a whole is unusual; the heatmap shows where its areas differ most"
    )
    without = Inspection("a", 0, 0.0, Decision(Verdict.DEFECT), replace(score, heatmap=None))
    assert without.note == "The picture as a whole is unusual"
    undecided = Inspection("a", 0, 0.0, Decision(Verdict.NO_DECISION, "why"), score).record()
    assert (undecided["head"], undecided["decided_by"], undecided["note"]) == ("whole", None, None)


@pytest.mark.parametrize("heads", [{}, {"whole": 1.0, "fine": math.nan}])
def test_without_heads_that_are_numbers_none_decided(heads: dict[str, float]) -> None:
    score = Score(1.0, 2.0, 50.0, heads=heads)
    record = Inspection("a", 0, 0.0, Decision(Verdict.GOOD), score).record()
    assert [record[key] for key in ("head", "heads", "decided_by", "note")] == [None] * 4


def test_every_head_has_words() -> None:
    assert set(WORDS) == set(get_args(HeadName))


def test_nouns_can_not_be_changed() -> None:
    with pytest.raises(AttributeError):
        Score(1.0, 2.0, None).value = 0.0  # type: ignore[misc]
