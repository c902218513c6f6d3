"""What a camera's verdicts say of the line, and when they stop saying it."""

from __future__ import annotations

import pytest

from differnet_runtime.config import DecisionConfig
from differnet_runtime.events import InspectionEvent
from differnet_runtime.station.reporting import ALL_REJECTED_S, IN_A_ROW, Alarms

ALWAYS = DecisionConfig()


def verdict(kind: str, frame: int = 1) -> InspectionEvent:
    return InspectionEvent(
        station="line", camera="top", verdict=kind, reject=kind != "GOOD", first_event="a" * 32,
        part_frame=frame,
    )  # fmt: skip


def state(alarms: Alarms, decision: DecisionConfig = ALWAYS, now_s: float = 0.0) -> str:
    return alarms.state(decision, now_s).state


def test_nothing_but_rejects_for_a_minute_is_said_until_a_good_part_comes() -> None:
    alarms = Alarms("top")
    for at_s in range(0, int(ALL_REJECTED_S), 12):
        alarms.see(verdict("DEFECT"), ALWAYS, at_s)
    assert state(alarms) == "ok"
    alarms.see(verdict("NO_DECISION"), ALWAYS, ALL_REJECTED_S)
    assert state(alarms) == "all_rejected"
    alarms.see(verdict("GOOD"), ALWAYS, ALL_REJECTED_S + 1)
    assert state(alarms) == "ok"


def test_many_frames_of_one_bad_part_are_not_many_bad_parts() -> None:
    alarms = Alarms("top")
    for frame in range(1, 10 * IN_A_ROW):
        alarms.see(verdict("DEFECT", frame), ALWAYS, 0.1 * frame)
    assert state(alarms) == "ok"
    for _ in range(IN_A_ROW):
        alarms.see(verdict("DEFECT"), ALWAYS, 30.0)
    assert state(alarms) == "all_rejected"


def test_too_many_of_the_last_are_said_until_all_of_them_are_good() -> None:
    alarms, decision = Alarms("top"), DecisionConfig(k=2, n=3)
    seen = []
    for kind in ("DEFECT", "GOOD", "DEFECT", "GOOD", "GOOD", "GOOD"):
        alarms.see(verdict(kind), decision, 0.0)
        seen.append(state(alarms, decision))
    assert seen == ["ok", "ok", *["too_many_rejects"] * 3, "ok"]


@pytest.mark.parametrize(("after_s", "expected"), [(0.0, "ok"), (10.0, "no_part")])
def test_a_line_without_parts_is_said_where_that_is_wanted(after_s: float, expected: str) -> None:
    alarms = Alarms("top", after_s)
    alarms.see(verdict("GOOD"), ALWAYS, 0.0)
    assert alarms.state(ALWAYS, 9.0).state == "ok"
    assert alarms.state(ALWAYS, 11.0).state == expected


def test_what_another_state_explains_is_not_said_twice() -> None:
    alarms = Alarms("top", 10.0)
    for _ in range(IN_A_ROW):
        alarms.see(verdict("NO_DECISION"), ALWAYS, 0.0)
    for now_s, expected in ((1.0, "all_rejected"), (11.0, "all_rejected")):
        assert alarms.state(ALWAYS, now_s).state == expected
        assert alarms.state(ALWAYS, now_s, explained=True).state == "ok"
    alarms.see(verdict("GOOD"), ALWAYS, 20.0)
    assert alarms.state(ALWAYS, 31.0).state == "no_part"
    assert alarms.state(ALWAYS, 31.0).values == {"s": 10.0}
    assert alarms.state(ALWAYS, 31.0, explained=True).state == "ok"
