"""Frames of several callers that go through the engine together."""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from differnet_runtime.errors import EngineFault
from differnet_runtime.inference.messages import EngineState
from differnet_runtime.inference.process import EngineProcess
from differnet_runtime.inference.turns import BatchEntry, Callers, FifoLock
from differnet_runtime.model_file.metadata import ModelMetadata
from tests.faults.test_model_switch import write_fading
from tests.runtime.waiting import wait_for

Start = Callable[..., EngineProcess]
SIZE, CAMERAS = 256, 4


def frame(value: int, size: int = SIZE) -> np.ndarray:
    return np.full((size, size, 3), value, np.uint8)


class Cameras:
    """Callers that each have a frame of their own brightness lying there, always or when told."""

    def __init__(self, engine: EngineProcess, callers: Callers, values: Sequence[int]) -> None:
        self._engine, self._done = engine, threading.Event()
        self.wrong: list[tuple[int, float]] = []
        self.faults: list[tuple[int, str]] = []
        self.judged = dict.fromkeys(values, 0)
        self._threads = [threading.Thread(target=self._camera, args=(one,)) for one in values]
        for value in values:
            callers[str(value)] = lambda: not self._done.is_set()

    def _camera(self, value: int) -> None:
        while not self._done.is_set():
            try:
                with self._engine.turn(20.0):
                    mine = self._engine.buffer()
                    mine[:] = value
                    score = self._engine.infer(mine, 20.0).score.value
            except EngineFault as fault:
                self.faults.append((value, fault.code))
                continue
            if score != pytest.approx(self.expected(value)):
                self.wrong.append((value, score))
            self.judged[value] += 1

    def expected(self, value: int) -> float:
        return value

    def __enter__(self) -> "Cameras":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def until(self, judged: int) -> None:
        """Waits until every camera has so many scores more."""
        least = {value: count + judged for value, count in self.judged.items()}
        wait_for(lambda: all(self.judged[value] >= count for value, count in least.items()))


def test_under_load_batches_of_four_form(engine: Start) -> None:
    callers = Callers()
    process = engine("fake:10ms+2ms", deadline_s=20.0, callers=callers)
    with Cameras(process, callers, range(1, CAMERAS + 1)) as cameras:
        cameras.until(5)
        before = process.status
        cameras.until(25)
        after = process.status
    assert cameras.wrong == []
    assert cameras.faults == []
    runs = {size: count - before.batches.get(size, 0) for size, count in after.batches.items()}
    frames = {size: size * count for size, count in runs.items()}
    assert frames[CAMERAS] > 0.8 * sum(frames.values())


def test_a_frame_that_lies_alone_goes_alone_and_waits_for_nobody(engine: Start) -> None:
    callers = Callers()
    process = engine("fake:10ms+2ms", deadline_s=20.0, callers=callers)
    for name in ("left", "right", "top"):
        callers[name] = lambda: False
    for value in range(5):
        assert process.infer(frame(value)).score.value == value
    assert process.status.batches == {1: 5}


def test_a_frame_waits_for_others_as_long_as_it_is_told_to(engine: Start) -> None:
    callers = Callers()
    process = engine("fake:1ms", deadline_s=20.0, callers=callers, batch_wait_s=10.0)
    for name in ("left", "right"):
        callers[name] = lambda: False
    first = threading.Thread(target=process.infer, args=(frame(1),))
    first.start()
    wait_for(lambda: process.turns.waiting == 1)
    assert process.infer(frame(2)).score.value == 2
    first.join()
    assert process.status.batches == {2: 1}


@pytest.mark.parametrize("asked", [1, 3])
def test_no_more_go_together_than_are_asked_for(engine: Start, asked: int) -> None:
    callers = Callers()
    process = engine("fake:5ms", deadline_s=20.0, callers=callers, batch=asked)
    with Cameras(process, callers, range(1, CAMERAS + 1)) as cameras:
        cameras.until(10)
    assert max(process.status.batches) == asked
    assert cameras.wrong == []


def test_one_frame_without_a_score_does_not_take_the_others_with_it(
    engine: Start, tmp_path: Path, metadata: ModelMetadata
) -> None:
    class Fading(Cameras):
        def expected(self, value: int) -> float:
            return float((200.0 - value) ** 0.5)

    callers = Callers()
    model = write_fading(tmp_path / "fading.onnx", metadata)
    process = engine("onnxruntime-cpu", model, threads=1, batch=4, deadline_s=20.0, callers=callers)
    bright = 250
    with Fading(process, callers, (1, 2, 3, bright)) as cameras:
        wait_for(lambda: process.status.batches.get(4, 0) > 5 and min(
            cameras.judged[value] for value in (1, 2, 3)) > 5)  # fmt: skip
    assert cameras.wrong == []
    assert set(cameras.faults) == {(bright, "not_finite")}
    assert process.status.restarts == 0


def test_a_batch_that_fails_is_scored_frame_by_frame(engine: Start) -> None:
    callers = Callers()
    # The first batch of four, whichever number it has: the fake fails in any of its first twenty.
    backend = "fake:5ms," + ",".join(f"shape@{number}" for number in range(2, 60, 7))
    process = engine(backend, deadline_s=20.0, callers=callers)
    with Cameras(process, callers, range(1, CAMERAS + 1)) as cameras:
        cameras.until(20)
    assert cameras.wrong == []
    assert process.status.restarts == 0
    together = process.status.batches[CAMERAS]
    assert together > 5
    assert len(cameras.faults) < 9, "only those that failed alone as well"


def test_after_a_crash_frames_go_alone_for_a_while(engine: Start) -> None:
    callers = Callers()
    process = engine("fake:5ms,segfault@9", deadline_s=20.0, callers=callers)
    with Cameras(process, callers, range(1, CAMERAS + 1)) as cameras:
        wait_for(lambda: process.status.restarts == 1)
        wait_for(lambda: process.status.state is EngineState.READY)
        before = process.status.batches
        answers = process.status.answers
        wait_for(lambda: process.status.answers > answers + 4)
        alone = process.status.batches
        assert alone[1] > before.get(1, 0)
        if process.status.restarts == 1:  # a crash at each process's ninth batch
            assert alone.get(4, 0) == before.get(4, 0)
    assert cameras.wrong == []


def test_a_batch_goes_without_whoever_keeps_it_waiting(engine: Start) -> None:
    callers = Callers()
    process = engine("fake", deadline_s=20.0, callers=callers, batch_wait_s=10.0)
    for name in ("slow", "quick"):
        callers[name] = lambda: False
    prepared, late = threading.Event(), []

    def slow() -> None:
        with process.turn(10.0):
            prepared.wait(10.0)
            late.append(process.infer(frame(7)).score.value)

    thread = threading.Thread(target=slow)
    thread.start()
    assert process.infer(frame(3)).score.value == 3, "it does not wait for the other's frame"
    prepared.set()
    thread.join()
    assert late == [7.0]
    assert process.status.batches == {1: 2}


def test_who_leaves_without_a_frame_holds_nobody_up(engine: Start) -> None:
    callers = Callers()
    process = engine("fake", deadline_s=20.0, callers=callers, batch_wait_s=10.0)
    for name in ("left", "right"):
        callers[name] = lambda: False

    def without() -> None:
        with process.turn(10.0):
            pass

    thread = threading.Thread(target=without)
    thread.start()
    assert process.infer(frame(3)).score.value == 3
    thread.join()
    assert not process.turns.busy


def test_each_caller_keeps_its_own_deadline() -> None:
    """The engine scores nothing before the hurried one has given up."""
    ended: dict[str, str] = {}
    gave_up = threading.Event()

    def run(entries: Sequence[BatchEntry[str]]) -> list[str | EngineFault]:
        gave_up.wait(20)
        return ["scored"] * len(entries)

    callers = Callers()
    for name in ("hurried", "patient"):
        callers[name] = lambda: False
    turns: FifoLock[str] = FifoLock(run, lambda: 2, callers, wait_s=10.0)

    def ask(name: str, deadline_s: float) -> None:
        assert turns.take(10.0)
        try:
            turns.submit(0, time.monotonic_ns() + int(deadline_s * 1e9))
            ended[name] = "scored"
        except EngineFault:
            ended[name] = "gave up"
            gave_up.set()
        finally:
            turns.give_back()

    threads = [
        threading.Thread(target=ask, args=one) for one in (("hurried", 0.1), ("patient", 60.0))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ended == {"patient": "scored", "hurried": "gave up"}
    wait_for(lambda: not turns.busy)


def test_who_waits_comes_before_another_ones_second_frame() -> None:
    """Two callers ask as fast as they can; the engine is free once the other one waits again."""
    order: list[int] = []
    rounds, names = 40, (0, 1)

    def run(entries: Sequence[BatchEntry[str]]) -> list[str | EngineFault]:
        order.extend(entry.slot for entry in entries)
        if len(order) < 2 * rounds - 1:
            wait_for(lambda: turns.waiting == 1)
        return ["scored"] * len(entries)

    turns: FifoLock[str] = FifoLock(run, lambda: 1)

    def ask(name: int) -> None:
        for _ in range(rounds):
            assert turns.take(20.0)
            turns.submit(name, time.monotonic_ns() + int(20e9))
            turns.give_back()

    threads = [threading.Thread(target=ask, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert order == [order[0], 1 - order[0]] * rounds
