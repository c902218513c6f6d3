"""Pictures that can wait: for the engine, for another try, and not for ever."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from differnet_runtime.cameras.files import Remembered, UnreadablePictureError
from differnet_runtime.capture.pictures import Pictures, restore
from differnet_runtime.capture.process import CaptureProcess
from differnet_runtime.config import CameraConfig, EventsConfig
from differnet_runtime.events import InspectionEvent, picture_id
from differnet_runtime.inference.process import EngineProcess, ModelSwitch
from differnet_runtime.outbox.outbox import Outbox, PictureLog
from differnet_runtime.outbox.table import JudgedPicture
from differnet_runtime.records import Frame, Origin
from differnet_runtime.station.camera_loop import PictureQueue, remembered
from differnet_runtime.station.judging import FrameJudge, JudgedFrame
from tests.runtime.waiting import wait_for

NOISE = np.random.RandomState(0).randint(60, 120, (64, 64, 3)).astype(np.uint8)


class Capture:
    """Stands in for `CaptureProcess`: gives a few pictures, and hears which are settled."""

    def __init__(self, *given: Frame | UnreadablePictureError) -> None:
        self.given = list(given)
        self.settled: list[str] = []

    def take(self) -> Frame | None:
        if not self.given:
            return None
        taken = self.given.pop(0)
        if isinstance(taken, UnreadablePictureError):
            raise taken
        return taken

    def settle(self, key: str) -> None:
        self.settled.append(key)


class Line:
    """A queue with a real engine and outbox."""

    def __init__(self, folder: Path, capture: Capture, backend: str, **config: object) -> None:
        self.engine = EngineProcess(None, backend=backend, deadline_s=0.5)
        self.switch = ModelSwitch(self.engine, lambda _: self.engine)
        self.outbox = Outbox(folder / "outbox.sqlite", EventsConfig())
        self.outbox.use_sinks(["jsonl"])
        self.log = PictureLog(self.outbox, "top", "/in")
        self.config = CameraConfig(source="/in", **config)  # type: ignore[arg-type]
        self.queue = PictureQueue(
            self.config,
            cast("CaptureProcess", capture),
            FrameJudge("line", "top", self.config, self.switch, live=False),
            self.log,
        )

    def judged(self, within_s: float = 20.0) -> JudgedFrame:
        until = time.monotonic() + within_s
        while (judged := self.queue.next()) is None:
            assert time.monotonic() < until, self.engine.status
            time.sleep(0.01)
        self.outbox.add(judged.event, judged.picture)
        self.queue.done()
        return judged


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Callable[..., Line]]:
    made: list[Line] = []

    def make(capture: Capture, backend: str = "fake", **config: object) -> Line:
        made.append(Line(tmp_path, capture, backend, **config))
        made[-1].engine.start()
        made[-1].outbox.start()
        return made[-1]

    yield make
    for one in made:
        one.switch.stop()
        one.outbox.stop()


def origin(name: str, digest: str = "d") -> Origin:
    return Origin(name, f"{name}|7|8", digest)


def picture(name: str, digest: str = "d", image: np.ndarray = NOISE) -> Frame:
    made = origin(name, digest)
    return Frame(image, name, 0, time.monotonic_ns(), time.time(), origin=made)


def test_a_picture_waits_for_the_engine(line: Callable[..., Line], tmp_path: Path) -> None:
    capture = Capture(picture("a.png"))
    waiting = Line(tmp_path / "never", capture, "fake")  # not started
    assert waiting.queue.next() is None
    assert len(capture.given) == 1
    started = line(capture)
    assert started.judged().event.verdict == "GOOD"


@pytest.mark.parametrize("fault", ["segfault", "hang", "nan"])
def test_a_picture_is_judged_again_when_the_engine_failed(
    fault: str, line: Callable[..., Line], tmp_path: Path
) -> None:
    faults = tmp_path / "faults"
    faults.write_text(fault)
    one = line(Capture(picture("a.png"), picture("b.png", "e")), f"fake:faults={faults}")
    events = [one.judged().event for _ in range(2)]
    assert [(event.verdict, event.frame and event.frame.name) for event in events] == [
        ("GOOD", "a.png"),
        ("GOOD", "b.png"),
    ]
    assert one.engine.status.faults >= 1


def test_a_picture_that_the_engine_always_fails_on_does_not_hold_up_others(
    line: Callable[..., Line], tmp_path: Path
) -> None:
    faults = tmp_path / "faults"
    faults.write_text("raise nan segfault")
    one = line(Capture(picture("a.png"), picture("b.png", "e")), f"fake:faults={faults}")
    event = one.judged().event
    assert (event.verdict, event.code, event.reject) == ("NO_DECISION", "unscorable", True)
    assert "failed 3 times on this picture, the last time: the engine process was ended" in str(
        event.reason
    )
    assert event.frame is not None
    assert event.frame.name == "a.png"
    assert one.judged().event.verdict == "GOOD"


def test_no_deadline_counts_for_a_picture_that_can_wait(line: Callable[..., Line]) -> None:
    one = line(Capture(picture("a.png")), "fake:200ms", deadline_ms=1)
    assert one.judged().event.verdict == "GOOD"


def test_an_event_has_the_pictures_own_id_and_names_an_identical_one(
    line: Callable[..., Line],
) -> None:
    one = line(Capture(picture("a.png"), picture("b.png"), picture("c.png", "e")))
    first, second, third = (one.judged().event for _ in range(3))
    assert first.id == picture_id("line", "top", "/in", origin("a.png"))
    assert len({first.id, second.id, third.id}) == 3
    assert [event.identical_to for event in (first, second, third)] == [None, "a.png", None]
    changed = [
        picture_id("line2", "top", "/in", origin("a.png")),
        picture_id("line", "side", "/in", origin("a.png")),
        picture_id("line", "top", "/in2", origin("a.png")),
        picture_id("line", "top", "/in", origin("a.png", "other")),
        picture_id("line", "top", "/in", Origin("a.png", "a.png|7|9", "d")),
    ]
    assert len({first.id, *changed}) == 6


def test_a_picture_that_can_not_be_read_has_its_id_too(line: Callable[..., Line]) -> None:
    one = line(Capture(UnreadablePictureError("it is cut short", origin("a.png"))))
    event = one.judged().event
    assert (event.code, event.reason) == ("unreadable", "it is cut short")
    assert event.id == picture_id("line", "top", "/in", origin("a.png"))
    wait_for(lambda: one.log.judged() == {"a.png|7|8": "NO_DECISION"})


def leaving(pictures: Pictures) -> set[str]:
    """Returns the pictures that a new capture process is told to move or delete."""
    found = Remembered()
    restore(pictures.write(), found)
    return set(found.settled)


@pytest.mark.parametrize(
    ("after", "expected"), [("keep", []), ("move", ["a.png", "b.png"]), ("delete", ["b.png"])]
)
def test_a_picture_leaves_once_its_verdict_is_on_disk(
    after: str, expected: list[str], line: Callable[..., Line]
) -> None:
    unreadable = UnreadablePictureError("it is cut short", origin("a.png"))
    capture = Capture(unreadable, picture("b.png"))
    one = line(capture, after=after)
    for _ in range(2):
        one.judged()
    wait_for(lambda: len(one.log.judged()) == 2)
    keys = [f"{name}|7|8" for name in expected]
    wait_for(lambda: capture.settled == keys)
    known = remembered(one.log, one.config)
    assert known.seen == {"a.png|7|8", "b.png|7|8"}
    assert leaving(known) == set(keys)


def test_a_camera_that_is_opened_again_meanwhile_judges_no_picture_twice(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.sqlite", EventsConfig())  # it writes nothing yet
    outbox.use_sinks(["jsonl"])
    log, made = PictureLog(outbox, "top", "/in"), origin("a.png")
    event = InspectionEvent(station="line", camera="top", verdict="GOOD", reject=False)
    outbox.add(event, JudgedPicture("top", log.source, made, "GOOD"))
    known = remembered(log, CameraConfig(source="/in", after="move"))
    assert known.seen == {made.key}
    assert not leaving(known), "it leaves once its verdict is on disk"
    other = PictureLog(outbox, "side", "/in")
    assert not remembered(other, CameraConfig(source="/in")).seen


def test_a_mistake_of_ours_ends_with_that_picture(
    line: Callable[..., Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = line(Capture(picture("a.png"), picture("b.png", "e")))
    judge = FrameJudge.judge

    def failing(self: FrameJudge, take: Callable[[], Frame | None]) -> JudgedFrame | None:
        frame = take()
        if frame is not None and frame.name == "a.png":
            raise ZeroDivisionError("by zero")
        return judge(self, lambda: frame)

    monkeypatch.setattr(FrameJudge, "judge", failing)
    event = one.judged().event
    assert (event.verdict, event.code) == ("NO_DECISION", "exception")
    assert event.frame is not None
    assert event.frame.name == "a.png"
    assert one.judged().event.verdict == "GOOD"
