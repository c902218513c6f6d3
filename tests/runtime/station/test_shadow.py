"""A model on trial gets frames only when no live one needs an engine; its end harms nobody."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from differnet_runtime.config.models import IntegrityConfig
from differnet_runtime.events import InspectionEvent, ModelRef
from differnet_runtime.inference.messages import FAKE_METADATA
from differnet_runtime.inference.process import AbsentEngine, EngineProcess
from differnet_runtime.inference.supervisor import RestartBudget
from differnet_runtime.inference.turns import Callers
from differnet_runtime.inspection.verdict import Answer
from differnet_runtime.inspection.verdict import judged as score_of
from differnet_runtime.records import Frame
from differnet_runtime.station.judging import JudgedFrame
from differnet_runtime.station.shadows import KEPT, Shadow
from tests.runtime.waiting import wait_for

Make = Callable[..., Shadow]
GREY, BRIGHT = 100, 230
"""The fake model scores the mean brightness; above 200 is a defect."""


class InProcess(AbsentEngine):
    """Scores as the fake backend does, in this process."""

    absent, ready = False, True
    metadata = FAKE_METADATA

    def __init__(self) -> None:
        super().__init__(str)

    def wait_ready(self, timeout_s: float) -> bool:
        return True

    def infer(self, prepared: np.ndarray, deadline_s: float | None = None) -> Answer:
        score = score_of(float(prepared.mean()), FAKE_METADATA.calibration)
        return Answer(score, "fake", 0.0, "fake")


def engine(backend: str = "fake", model: Path | None = None) -> EngineProcess:
    return EngineProcess(
        model, backend=backend, restarts=RestartBudget(0), fallback=False, gives_way=True
    )


def judged(
    brightness: int, *, reject: bool = False, model: str = "live", code: str | None = None
) -> JudgedFrame:
    """A frame, and what the live model said of it."""
    noise = np.random.RandomState(brightness).randint(-9, 10, (64, 64, 3))
    image = (noise + brightness).astype(np.uint8)
    frame = Frame(image, "top#1", 1, time.monotonic_ns(), time.time())
    verdict = "NO_DECISION" if code else "DEFECT" if reject else "GOOD"
    event = InspectionEvent(
        station="line", camera="top", verdict=verdict, reject=verdict != "GOOD", code=code,
        score=1.0, threshold=2.0, model=ModelRef(name="ring", hash=model),
    )  # fmt: skip
    return JudgedFrame(event, frame)


@pytest.fixture
def make() -> Iterator[Make]:
    """Starts a trial."""
    started: list[Shadow] = []

    def start(own: EngineProcess | None = None, *, ready: bool = True, **options: Any) -> Shadow:
        options = {"free": lambda: True, **options}
        shadow = Shadow("top", own or InProcess(), IntegrityConfig(), **options)
        started.append(shadow)
        shadow.start()
        if ready:
            wait_for(lambda: shadow.view().state == "running", 30.0)
        return shadow

    yield start
    for shadow in started:
        shadow.stop()


def see(shadow: Shadow, one: JudgedFrame) -> None:
    """Has a frame judged."""
    before = shadow.view().judged
    shadow.offer(one)
    wait_for(lambda: shadow.view().judged == before + 1)


def test_it_counts_how_often_the_two_agree(make: Make) -> None:
    shadow = make()
    for brightness, reject in ((GREY, False), (BRIGHT, True), (GREY, True), (BRIGHT, False)):
        see(shadow, judged(brightness, reject=reject))
    view = shadow.view()
    assert (view.judged, view.agree, view.skipped) == (4, 2, 0)
    assert (view.only_live_rejects, view.only_shadow_rejects) == (1, 1)
    newest, other = view.differing
    assert (newest.live.verdict, newest.shadow.verdict) == ("GOOD", "DEFECT")
    assert (other.live.verdict, other.shadow.verdict) == ("DEFECT", "GOOD")
    assert newest.live.score == 1.0
    assert newest.shadow.score == pytest.approx(BRIGHT, abs=2.0)
    assert newest.shadow.threshold == 200.0
    data = shadow.picture(newest.id)
    assert data is not None
    shown = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert shown is not None
    assert shown.mean() == pytest.approx(BRIGHT, abs=3.0)
    assert shadow.picture("99") is None


def test_what_the_live_model_could_not_judge_is_not_compared(make: Make) -> None:
    shadow = make()
    shadow.offer(judged(GREY, code="blurred"))
    see(shadow, judged(BRIGHT, reject=True))
    assert shadow.view().judged == 1


def test_a_frame_that_it_can_not_judge_counts_as_rejected(make: Make) -> None:
    shadow = make()
    see(shadow, judged(BRIGHT, reject=True))
    damaged = judged(GREY)
    assert damaged.frame is not None
    frame = Frame(damaged.frame.image, "top#2", 2, time.monotonic_ns(), time.time(), damage="torn")
    see(shadow, JudgedFrame(damaged.event, frame))
    (difference,) = shadow.view().differing
    assert difference.shadow.verdict == "NO_DECISION"
    assert shadow.view().only_shadow_rejects == 1


def test_only_the_newest_pictures_are_kept(make: Make) -> None:
    shadow = make()
    for _ in range(KEPT + 3):
        see(shadow, judged(BRIGHT))
    view = shadow.view()
    assert [one.id for one in view.differing] == [str(n) for n in range(KEPT + 3, 3, -1)]
    assert shadow.picture("3") is None
    assert shadow.picture("4") is not None
    assert view.only_shadow_rejects == KEPT + 3


def test_the_stations_threshold_is_used(make: Make) -> None:
    shadow = make(threshold=lambda: 50.0)
    see(shadow, judged(GREY))
    assert shadow.view().only_shadow_rejects == 1


def test_one_frame_waits_at_most_and_the_others_are_skipped(make: Make) -> None:
    free = threading.Event()
    shadow = make(free=free.is_set)
    for brightness in (GREY, GREY + 1, BRIGHT):
        shadow.offer(judged(brightness))
    assert (shadow.view().judged, shadow.view().skipped) == (0, 2)
    free.set()
    wait_for(lambda: shadow.view().judged == 1)
    (difference,) = shadow.view().differing
    assert difference.shadow.score == pytest.approx(BRIGHT, abs=2.0), "the newest"


def test_live_frames_always_go_first(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    callers, lies_there = Callers(), threading.Event()
    callers["top"] = lies_there.is_set
    live = EngineProcess(None, backend="fake:30ms", callers=callers)
    live.start()
    assert live.wait_ready(30.0)
    order: list[str] = []
    shadow = make(free=lambda: not live.wanted)
    infer = shadow.engine.infer

    def observed(*frame: Any) -> Any:
        order.append("shadow, though a live frame waits" if live.wanted else "shadow")
        return infer(*frame)

    monkeypatch.setattr(shadow.engine, "infer", observed)

    def camera(frames: int) -> None:
        """As a camera's thread: each frame lies there when the one before has its verdict."""
        for _ in range(frames):
            with live.turn():
                live.infer(live.buffer())
                order.append("live")
                shadow.offer(judged(GREY))

    try:
        lies_there.set()
        threads = [threading.Thread(target=camera, args=(6,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert order == ["live"] * 12
        lies_there.clear()
        wait_for(lambda: shadow.view().judged == 1)
    finally:
        live.stop()
    assert order[12:] == ["shadow"]
    assert shadow.view().skipped == 11


def test_counts_begin_anew_beside_another_live_model(make: Make) -> None:
    shadow = make()
    see(shadow, judged(BRIGHT))
    since = shadow.view().since
    shadow.offer(judged(GREY, model="next"))
    wait_for(lambda: shadow.view().agree == 1)
    view = shadow.view()
    assert (view.judged, view.only_shadow_rejects, view.differing) == (1, 0, [])
    assert view.since >= since


@pytest.mark.parametrize("busy", [False, True])
def test_its_death_is_told_and_is_the_end_of_it(busy: bool, make: Make) -> None:
    shadow = make(engine("fake:5000ms" if busy else "fake"))
    pid = shadow.engine.status.pid
    assert pid is not None
    if busy:
        shadow.offer(judged(GREY))
        wait_for(lambda: shadow.engine.wanted)
    assert os.getpriority(os.PRIO_PROCESS, pid) == 19, "all else goes first"
    assert Path(f"/proc/{pid}/oom_score_adj").read_text().strip() == "1000"
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: shadow.view().state == "failed")
    assert "SIGKILL" in (shadow.view().error or "")
    wait_for(lambda: not shadow.engine.ready)
    shadow.offer(judged(GREY))
    assert shadow.view().judged == 0


def test_a_model_that_does_not_pass_is_told(make: Make, sound_model: Callable[..., Path]) -> None:
    shadow = make(engine("onnxruntime-cpu", sound_model(golden=3.0)), ready=False)
    assert shadow.view().state in ("starting", "failed")
    wait_for(lambda: shadow.view().state == "failed", 30.0)
    assert "golden frames" in (shadow.view().error or "")
