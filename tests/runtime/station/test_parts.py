"""Which frames are one part, which of them is shown, and what is counted."""

from __future__ import annotations

from collections import Counter

import numpy as np

from differnet_runtime.events import FrameRef, InspectionEvent
from differnet_runtime.records import Frame
from differnet_runtime.station.judging import JudgedFrame
from differnet_runtime.station.reporting import PartPosition, PartTracker

SECOND = 1_000_000_000


def judged(verdict: str, at_s: float, score: float | None = 1.0, **values: object) -> JudgedFrame:
    frame = Frame(np.zeros((4, 4), np.uint8), "f", 0, int(at_s * SECOND), at_s)
    ref = FrameRef(name="f", index=0, captured_at_s=at_s, age_ms=1.0, width=4, height=4)
    plain = {
        "station": "line", "camera": "top", "verdict": verdict, "reject": verdict != "GOOD",
        "score": score, "frame": ref,
    }  # fmt: skip
    return JudgedFrame(InspectionEvent.model_validate({**plain, **values}), frame)


def placed(parts: PartTracker, *frames: JudgedFrame) -> tuple[list[PartPosition], Counter[str]]:
    """Returns where verdicts stand, and the parts that they add up to."""
    places = [parts.place(one) for one in frames]
    sums: Counter[str] = Counter()
    for place in places:
        if place.count is not None:
            for name in ("good", "defect", "undecided"):
                sums[name] += getattr(place.count, name)
    return places, +sums


def test_rejects_that_follow_one_another_are_one_part_and_its_worst_frame_counts() -> None:
    frames = [judged("DEFECT", 0.1 * k, score) for k, score in enumerate((2.0, 5.0, 3.0))]
    places, sums = placed(PartTracker(1.0), *frames)
    assert sums == {"defect": 1}
    assert {place.event.first_event for place in places} == {frames[0].event.id}
    assert [place.event.part_frame for place in places] == [1, 2, 3]
    assert [place.worst for place in places] == [True, True, False]


def test_a_good_frame_ends_a_part_and_so_does_time() -> None:
    frames = [judged("DEFECT", 0.0), judged("GOOD", 0.2), judged("DEFECT", 0.4),
              judged("DEFECT", 1.3), judged("DEFECT", 1.5)]  # fmt: skip
    places, sums = placed(PartTracker(1.0), *frames)
    assert sums == {"good": 1, "defect": 3}
    assert [place.event.part_frame for place in places] == [1, 1, 1, 2, 1]


def test_an_undecided_part_that_turns_out_defective_is_moved() -> None:
    frames = [judged("NO_DECISION", 0.0, None), judged("DEFECT", 0.2), judged("GOOD", 0.3)]
    places, sums = placed(PartTracker(1.0), *frames)
    assert sums == {"defect": 1, "good": 1}
    assert places[1].worst


def test_commands_are_parts_of_their_own_and_a_lost_camera_is_none() -> None:
    commands = [judged("DEFECT", 0.1 * k, trigger="http", part=f"p-{k}") for k in range(3)]
    _, sums = placed(PartTracker(1.0), *commands)
    assert sums == {"defect": 3}
    lost = judged("NO_DECISION", 0.0, None, frame=None, code="camera_lost")
    (place,), sums = placed(PartTracker(1.0), lost)
    assert (place.event.first_event, sums) == (None, {})


def test_without_a_time_each_frame_is_a_part() -> None:
    places, sums = placed(PartTracker(0.0), judged("DEFECT", 1.0), judged("DEFECT", 1.0))
    assert sums == {"defect": 2}
    assert [place.event.part_frame for place in places] == [1, 1]
