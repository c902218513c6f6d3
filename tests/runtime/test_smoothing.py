import pytest
from hypothesis import given
from hypothesis import strategies as st

from differnet_runtime.config import DecisionConfig
from differnet_runtime.records import Verdict
from differnet_runtime.station.reporting import Smoother


def alarm(rejects: int, undecided: int, frames: int) -> dict[str, int]:
    return {"rejects": rejects, "undecided": undecided, "frames": frames}


GOOD, DEFECT, NONE = Verdict.GOOD, Verdict.DEFECT, Verdict.NO_DECISION


def test_an_alarm_needs_k_of_the_last_n() -> None:
    smoother = Smoother(DecisionConfig(k=2, n=3))
    given = (DEFECT, GOOD, GOOD, DEFECT, NONE)
    alarms = [smoother.add(decision, now) for now, decision in enumerate(given)]
    assert alarms == [None, None, None, None, alarm(2, 1, 3)]


def test_one_of_one_alarms_at_each_reject() -> None:
    smoother = Smoother(DecisionConfig())
    assert smoother.add(GOOD, 0) is None
    assert smoother.add(DEFECT, 1) == alarm(1, 0, 1)
    assert smoother.add(NONE, 2) == alarm(1, 1, 1)


def test_there_is_silence_after_an_alarm_and_then_the_fault_that_is_still_there() -> None:
    smoother = Smoother(DecisionConfig(k=1, n=2, cooldown_s=1.0))
    assert smoother.add(DEFECT, 0) is not None
    assert smoother.add(DEFECT, 999_999_999) is None
    assert smoother.add(GOOD, 1_000_000_000) == alarm(1, 0, 2)


@given(st.lists(st.booleans()), st.integers(1, 5), st.integers(0, 5))
def test_there_are_never_more_alarms_than_k_rejects_each(
    rejects: list[bool], k: int, more: int
) -> None:
    smoother = Smoother(DecisionConfig(k=k, n=k + more))
    alarms = [smoother.add(DEFECT if bad else GOOD, now) for now, bad in enumerate(rejects)]
    assert sum(alarm is not None for alarm in alarms) * k <= sum(rejects)


@pytest.mark.parametrize(("k", "n", "cooldown_s"), [(0, 1, 0.0), (3, 2, 0.0), (1, 1, -1.0)])
def test_what_makes_no_sense_is_refused(k: int, n: int, cooldown_s: float) -> None:
    with pytest.raises(ValueError, match="DecisionConfig"):
        Smoother(DecisionConfig(k=k, n=n, cooldown_s=cooldown_s))
