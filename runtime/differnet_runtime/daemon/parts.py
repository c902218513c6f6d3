"""Parts, not frames: which verdicts are on one and the same part, and which frame is its worst."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from ..events import InspectionEvent
from ..outbox import Count
from ..records import Verdict
from .judging import Judged

_COUNTED = {"GOOD": "good", "DEFECT": "defect", "NO_DECISION": "undecided"}


@dataclass
class Seen:
    """A part before its camera.

    Args:
        first: Id of the event on its first frame.
        begun_ns: When that frame was taken, by the monotonic clock.
        worst: Verdict and score of its worst frame, in an order of badness.
        verdict: Of the part: that of its worst frame.
        frames: So far.
        kept: Id of its picture in the evidence, once there is one.
    """

    first: str
    begun_ns: int
    worst: tuple[bool, float]
    verdict: str
    frames: int = 1
    kept: str | None = None


@dataclass(frozen=True)
class Place:
    """Where a verdict stands among the frames of its part.

    Args:
        event: The verdict, with the part's first event and the frame's number.
        part: None where the verdict is on no part: the camera was lost.
        worst: It is the worst frame so far.
        count: What it changes in the number of parts; None for nothing.
    """

    event: InspectionEvent
    part: Seen | None = None
    worst: bool = True
    count: Count | None = None


class Parts:
    """Tells the parts of all cameras apart.

    A command asks for a verdict on a part, and a picture in a file is one. Of a free-running
    camera, frames that follow one another with the same outcome (good, or rejected) are one part
    for `same_part_s`, counted from its first frame.

    Args:
        same_part_s: Returns a camera's setting.
    """

    def __init__(self, same_part_s: Callable[[str], float]) -> None:
        self._same_part_s = same_part_s
        self._lock = threading.Lock()
        self._latest: dict[str, Seen] = {}

    def place(self, judged: Judged) -> Place:
        """Finds out to which part a verdict belongs."""
        event = judged.event
        free = event.trigger == "free"
        if free and event.frame is None:
            return Place(event)
        at_ns = judged.frame.captured_ns if judged.frame else time.monotonic_ns()
        with self._lock:
            part = self._latest.get(event.camera)
            if not free or judged.picture is not None or not self._same(part, event, at_ns):
                part = Seen(event.id, at_ns, _badness(event), event.verdict)
                self._latest[event.camera] = part
                count = _count(event, **{_COUNTED[event.verdict]: 1})
                return Place(_told(event, part), part, count=count)
            assert part is not None
            return self._another_frame(part, event)

    def _same(self, part: Seen | None, event: InspectionEvent, at_ns: int) -> bool:
        if part is None or (part.verdict == Verdict.GOOD) == event.reject:
            return False
        return 0 <= at_ns - part.begun_ns < self._same_part_s(event.camera) * 1e9

    def _another_frame(self, part: Seen, event: InspectionEvent) -> Place:
        part.frames += 1
        worst, count = _badness(event) > part.worst, None
        if worst:
            if event.verdict != part.verdict:
                count = _count(event, **{_COUNTED[part.verdict]: -1, _COUNTED[event.verdict]: 1})
            part.worst, part.verdict = _badness(event), event.verdict
        return Place(_told(event, part), part, worst, count)


def _badness(event: InspectionEvent) -> tuple[bool, float]:
    return event.verdict == Verdict.DEFECT, -math.inf if event.score is None else event.score


def _told(event: InspectionEvent, part: Seen) -> InspectionEvent:
    return event.model_copy(update={"first_event": part.first, "part_frame": part.frames})


def _count(event: InspectionEvent, **changes: int) -> Count:
    return Count(event.camera, event.at_s, **changes)
