"""Commands: bounded for each camera, shared by who sends them, and judged once they are taken."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import cast

import numpy as np
import pytest

from differnet_runtime.capture.messages import CameraState, CameraStatus
from differnet_runtime.capture.process import CaptureProcess
from differnet_runtime.config import CameraConfig
from differnet_runtime.errors import TooManyCommandsError
from differnet_runtime.events import InspectionEvent
from differnet_runtime.inference.process import EngineProcess, ModelSwitch
from differnet_runtime.records import Frame
from differnet_runtime.station.camera_loop import CameraLoop, CommandRate
from differnet_runtime.station.judging import FrameJudge, JudgedFrame, TriggerCommand
from tests.runtime.waiting import wait_for

RATE = 10


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Capture:
    """Stands in for `CaptureProcess`: a fresh frame lies there whenever it is asked."""

    status = CameraStatus(
        state=CameraState.LIVE, source="drawn", reason=None, frames=0, reconnects=0,
        last_frame_ns=None, fps=None, width=None, height=None, settings=(), pid=None,
    )  # fmt: skip
    alive = True

    def __init__(self) -> None:
        self._random = np.random.RandomState(0)
        self._taken = 0

    def start(self) -> None:
        """Nothing is to be started."""

    def stop(self, timeout_s: float) -> None:
        """Nothing is to be stopped."""

    def wait(self, timeout_s: float) -> bool:
        return True

    def take(self) -> Frame:
        self._taken += 1
        image = self._random.randint(60, 120, (64, 64, 3)).astype(np.uint8)
        now_ns = time.monotonic_ns()
        return Frame(image, f"top#{self._taken}", self._taken, now_ns, time.time())


class Line:
    """A camera that waits for commands, in front of a fake engine."""

    def __init__(self) -> None:
        self.engine = EngineProcess(None, backend="fake", deadline_s=20.0)
        self.engine.start()
        assert self.engine.wait_ready(30.0)
        self.switch = ModelSwitch(self.engine, lambda _: self.engine)
        self.reported: list[InspectionEvent] = []
        config = CameraConfig(
            source="0", trigger="command", max_commands_per_s=RATE, deadline_ms=20_000
        )
        judge = FrameJudge("line", "top", config, self.switch, live=True)
        capture = cast("CaptureProcess", Capture())
        self.loop = CameraLoop("top", config, capture, judge, self._report)
        self.loop.start()

    def _report(self, judged: JudgedFrame) -> InspectionEvent:
        self.reported.append(judged.event)
        return judged.event

    def stop(self) -> None:
        self.loop.stop()
        self.switch.stop()


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line()
    yield made
    made.stop()


def test_a_flood_is_taken_at_the_configured_rate_and_no_faster() -> None:
    clock = Clock()
    rate = CommandRate(RATE, clock)
    assert sum(rate.take("flood") for _ in range(1000)) == RATE
    taken = 0
    for _ in range(10_000):
        clock.now_s += 0.001
        taken += rate.take("flood")
    assert taken == pytest.approx(10 * RATE, abs=1)


@pytest.mark.parametrize("per_second", [1, RATE // 2])
def test_who_keeps_to_its_share_is_always_taken_beside_a_flood(per_second: int) -> None:
    clock = Clock()
    rate = CommandRate(RATE, clock)
    flood, refused = sum(rate.take("flood") for _ in range(1000)), 0
    for millisecond in range(10_000):
        clock.now_s += 0.001
        flood += rate.take("flood")
        if millisecond % (1000 // per_second) == 0:
            refused += not rate.take("line")
    assert refused == 0
    assert flood + 10 * per_second <= 11 * RATE + 1, "what the line takes, the flood does not get"
    assert flood >= 10 * (RATE - per_second)


def test_many_senders_together_get_no_more_than_twice_the_rate_at_once() -> None:
    clock = Clock()
    rate = CommandRate(RATE, clock)
    assert sum(rate.take(f"10.0.0.{one}") for one in range(250)) <= 2 * RATE
    clock.now_s += 3600.0
    assert sum(rate.take("line") for _ in range(250)) == RATE, "an idle hour is not saved up"


def test_what_is_taken_is_judged_and_the_rest_is_refused_and_counted(line: Line) -> None:
    asked: list[TriggerCommand] = []
    refusals: list[str] = []

    def ask(number: int) -> None:
        try:
            asked.append(line.loop.ask(f"A-{number}", "http", "10.0.0.66"))
        except TooManyCommandsError as error:
            refusals.append(str(error))

    for number in range(200):
        ask(number)
    own = [line.loop.ask(f"B-{number}", "mqtt", "mqtt") for number in range(RATE // 2)]
    events = [one.answer.result(30.0) for one in asked + own]
    assert len(asked) >= RATE
    assert len(refusals) == line.loop.refused_commands == 200 - len(asked) > 0
    assert all("max_commands_per_s = 10" in one for one in refusals)
    assert {event.verdict for event in events} == {"GOOD"}
    assert [event.part for event in line.reported] == [event.part for event in events]


def test_refusals_are_told_no_faster_than_commands_are_taken(line: Line) -> None:
    begun = time.monotonic()
    for number in range(500):
        line.loop.refuse(f"A-{number}", "mqtt", "too many")
    told = [event.part for event in line.reported]
    assert told[:RATE] == [f"A-{number}" for number in range(RATE)]
    assert len(told) <= RATE * (1 + time.monotonic() - begun)
    assert {event.code for event in line.reported} == {"refused"}


def test_a_commanded_camera_is_counted_while_it_waits_for_the_engine(line: Line) -> None:
    assert not line.loop.lies_there()
    with line.engine.turn(20.0):
        command = line.loop.ask("A-1", "mqtt", "mqtt")
        wait_for(lambda: line.engine.turns.waiting == 1)
        assert line.loop.lies_there()
    assert command.answer.result(20.0).verdict == "GOOD"
    wait_for(lambda: not line.loop.lies_there())
