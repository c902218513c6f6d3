"""The engine process in ordinary use, and its ends."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from differnet_runtime.errors import EngineFault, ModelFileError
from differnet_runtime.inference.messages import EngineState
from differnet_runtime.inference.process import EngineProcess, ModelSwitch
from differnet_runtime.inference.supervisor import RestartBudget
from differnet_runtime.model_file.file import content_hash, write_model_file
from tests.fakes.headed import COLUMNS, ROWS, coloured, write_headed_model
from tests.fakes.weighted import noise, weighted_graph
from tests.runtime.waiting import wait_for

Start = Callable[..., EngineProcess]
SIZE = 256


def frame(value: int = 9, size: int = SIZE) -> np.ndarray:
    return np.full((size, size, 3), value, np.uint8)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except OSError:
        return False


def test_a_real_model_scores_as_in_this_process(
    engine: Start, sound_model: Callable[..., Path]
) -> None:
    path = sound_model(factor=2.0)
    process = engine("auto", path, threads=1)
    answer = process.infer(frame(55, 32))
    assert answer.score.value == pytest.approx(110.0)
    assert answer.score.threshold == 118.0
    assert answer.model_hash == content_hash(path.read_bytes())
    assert answer.score.heatmap is None
    assert answer.backend == process.status.backend == "onnxruntime-cpu"
    assert "tensorrt" in process.status.reasons
    assert process.status.state is EngineState.READY


def test_a_heatmap_comes_with_the_score(engine: Start, tmp_path: Path, metadata) -> None:
    from differnet_runtime.backends.selection import open_backend
    from differnet_runtime.inspection.preprocess import golden_frames
    from differnet_runtime.model_file.metadata import Verification

    graph = weighted_graph(32).SerializeToString()
    contract = metadata.input
    with open_backend("onnxruntime-cpu", graph) as backend:
        golden = backend.infer(golden_frames(contract)).scores.tolist()
        batch = noise(1, contract.shape)
        expected = backend.infer(batch)
    verification = Verification(
        frames=3, greatest_relative_difference=0.0, golden_scores=tuple(golden)
    )
    path = tmp_path / "weighted.onnx"
    write_model_file(path, graph, metadata.replaced(verification=verification))
    process = engine("onnxruntime-cpu", path)
    first = process.infer(batch[0])
    assert expected.heatmaps is not None
    assert first.score.heatmap is not None
    process.infer(np.zeros_like(batch[0]))
    np.testing.assert_array_equal(first.score.heatmap, expected.heatmaps[0])
    assert first.score.value == pytest.approx(float(expected.scores[0]))


def test_heads_and_the_heatmap_of_an_input_that_is_not_square_come_with_the_score(
    engine: Start, tmp_path: Path, metadata
) -> None:
    process = engine("onnxruntime-cpu", write_headed_model(tmp_path / "part.onnx", metadata))
    assert process.buffer().shape == (32, 64, 3)
    picture = coloured(1, 2, 3)
    picture[:, 32:] = (4, 9, 6)
    answer = process.infer(picture)
    assert answer.score.head == "coarse"
    assert list(answer.score.heads) == ["whole", "coarse", "fine"]
    assert answer.score.heads["coarse"] == answer.score.value == pytest.approx(5.5)
    assert answer.score.heatmap is not None
    assert answer.score.heatmap.shape == (ROWS, COLUMNS)
    np.testing.assert_allclose(answer.score.heatmap, [[2.0] * 4 + [19 / 3] * 4] * ROWS, rtol=1e-6)


def test_a_file_that_does_not_name_its_heads_is_not_started(
    engine: Start, tmp_path: Path, metadata
) -> None:
    path = write_headed_model(tmp_path / "part.onnx", metadata, count=2)
    process = engine("onnxruntime-cpu", path, fallback=False, restarts=RestartBudget(0))
    assert process.status.state is EngineState.FAILED
    assert process.status.last_fault is not None
    assert "(1, 2), but the file names 3 heads" in process.status.last_fault


@pytest.mark.parametrize("backend", ["cpu", "onnxruntime-cpu"])
def test_the_cpu_is_no_fallback_of_the_cpu(
    backend: str, engine: Start, tmp_path: Path, metadata
) -> None:
    path = write_headed_model(tmp_path / "part.onnx", metadata, count=2)
    status = engine(backend, path, fallback=True, restarts=RestartBudget(0)).status
    assert status.state is EngineState.FAILED
    assert not status.fallback


def test_each_thread_has_its_own_buffer_and_its_own_answer(engine: Start) -> None:
    process = engine("fake:2ms", deadline_s=10.0)
    wrong: list[object] = []

    def camera(value: int) -> None:
        for _ in range(20):
            mine = process.buffer()
            mine[:] = value
            if (given := process.infer(mine).score.value) != value:
                wrong.append((value, given))

    for _ in range(12):  # more threads in all than there are slots
        threads = [threading.Thread(target=camera, args=(k,)) for k in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if process.status.answers > 500:
            break
    assert wrong == []


def test_turns_are_given_in_the_order_in_which_they_were_asked_for(engine: Start) -> None:
    process = engine(batch=1)
    order: list[int] = []

    def camera(number: int) -> None:
        with process.turn(10.0):
            order.append(number)

    threads = [threading.Thread(target=camera, args=(k,)) for k in range(5)]
    with process.turn():
        for count, thread in enumerate(threads, 1):
            thread.start()
            wait_for(lambda count=count: process.turns.waiting == count)  # type: ignore[misc]
        process.infer(frame())  # it may use what it holds
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2, 3, 4]


def test_a_busy_engine_is_no_broken_one(engine: Start) -> None:
    process = engine("fake:300ms", deadline_s=5.0)
    slow = threading.Thread(target=process.infer, args=(frame(),))
    slow.start()
    wait_for(lambda: process.turns.busy)
    with pytest.raises(EngineFault) as raised:
        process.infer(frame(), deadline_s=0.02)
    assert raised.value.code == "busy"
    slow.join()
    with pytest.raises(EngineFault) as raised:  # a caller in a hurry: the process is not hung
        process.infer(frame(1), deadline_s=0.02)
    assert raised.value.code == "timeout"
    assert process.infer(frame(2)).score.value == 2.0
    assert process.status.restarts == 0


def test_a_caller_in_a_hurry_is_no_fault_of_the_engine(engine: Start) -> None:
    process = engine("fake:100ms", deadline_s=2.0)
    pid = process.status.pid
    with pytest.raises(EngineFault) as raised:
        process.infer(frame(), deadline_s=0.001)
    assert raised.value.code == "timeout"
    time.sleep(3.0)  # nobody asks again: the answer lies there until the process would be overdue
    status = process.status
    assert (status.faults, status.restarts, status.pid) == (0, 0, pid)
    assert process.infer(frame(2)).score.value == 2.0


def test_an_engine_that_hangs_on_a_hurried_frame_is_found(engine: Start) -> None:
    process = engine("fake:hang@1", deadline_s=0.5)
    with pytest.raises(EngineFault):
        process.infer(frame(), deadline_s=0.001)
    wait_for(lambda: process.status.restarts == 1)
    assert process.status.faults == 1
    assert "hangs" in str(process.status.last_fault)


def test_a_late_command_takes_no_good_model_back(engine: Start) -> None:
    first = engine("fake")

    def make(_: Path | None) -> EngineProcess:
        return EngineProcess(None, backend="fake:50ms", deadline_s=2.0)

    switch, done = ModelSwitch(first, make, answers=3), threading.Event()

    def camera() -> None:
        while not done.is_set():
            hurry = 0.001 if switch.engine is not first else None
            for deadline_s in (hurry, None):
                with contextlib.suppress(EngineFault), switch.lease() as held:
                    held.infer(frame(), deadline_s)

    load = threading.Thread(target=camera)
    load.start()
    try:
        assert switch.to(None) is switch.engine
    finally:
        done.set()
        load.join()
        switch.stop()


def test_a_frame_of_another_size_is_named(engine: Start) -> None:
    with pytest.raises(EngineFault, match=r"takes \(256, 256, 3\) uint8; received \(32, 32, 3\)"):
        engine().infer(frame(size=32))


def test_a_used_up_budget_fails_and_room_comes_back(engine: Start) -> None:
    budget = RestartBudget(1, window_s=3600.0)
    process = engine("fake:segfault@1", restarts=budget)
    for _ in range(2):
        wait_for(lambda: process.status.state is EngineState.READY)
        with pytest.raises(EngineFault):
            process.infer(frame())
    wait_for(lambda: process.status.state is EngineState.FAILED)
    with pytest.raises(EngineFault) as raised:
        process.infer(frame())
    assert raised.value.code == "no_model"
    budget.window_s = 1.0  # of which some has passed
    wait_for(lambda: process.status.state is EngineState.READY)


def test_a_model_that_computes_something_else_never_scores(
    engine: Start, sound_model: Callable[..., Path]
) -> None:
    process = engine("onnxruntime-cpu", sound_model(factor=2.0, golden=1.0))
    assert process.status.state is EngineState.FAILED
    with pytest.raises(EngineFault, match="golden frames"):
        process.infer(frame(size=32))


def test_a_file_that_was_calibrated_meanwhile_runs_after_a_restart(
    engine: Start, sound_model: Callable[..., Path]
) -> None:
    path = sound_model(factor=1.0)
    process = engine("onnxruntime-cpu", path)
    before = process.infer(frame(size=32)).model_hash
    sound_model(factor=2.0)
    assert process.infer(frame(size=32)).model_hash == before
    pid = process.status.pid
    assert pid
    os.kill(pid, 9)
    wait_for(lambda: process.status.restarts == 1 and process.status.state is EngineState.READY)
    answer = process.infer(frame(5, 32))
    assert answer.model_hash != before
    assert answer.score.value == pytest.approx(10.0)


def test_a_damaged_file_is_refused_at_once(sound_model: Callable[..., Path]) -> None:
    path = sound_model()
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ModelFileError):
        EngineProcess(path)


@pytest.mark.parametrize("backend", ["fake:hang@0", "fake:hang@1", "fake"])
def test_it_stops_within_its_time_whatever_it_does(backend: str) -> None:
    process = EngineProcess(None, backend=backend, deadline_s=30.0)
    process.start()
    wait_for(lambda: process.status.pid is not None)
    caller = None
    if backend == "fake:hang@1":
        assert process.wait_ready(30.0)
        caller = threading.Thread(target=_ignoring_faults, args=(process,))
        caller.start()
        wait_for(lambda: process.turns.busy)
    begun = time.monotonic()
    process.stop(4.0)
    assert time.monotonic() - begun < 4.0
    assert process.status.state is EngineState.STOPPED
    assert process.status.pid
    assert not alive(process.status.pid)
    if caller:
        caller.join(5.0)
        assert not caller.is_alive()


def _ignoring_faults(process: EngineProcess) -> None:
    with contextlib.suppress(EngineFault):
        process.infer(frame())


def test_the_process_goes_with_the_daemon() -> None:
    code = """
import os, signal
from differnet_runtime.inference.process import EngineProcess
engine = EngineProcess(None, backend="fake")
engine.start()
engine.wait_ready(30)
print(engine.status.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    daemon = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    pid = int(daemon.stdout)
    wait_for(lambda: not alive(pid))


def test_restarts_leave_nothing_behind(engine: Start) -> None:
    process = engine("fake:raise@2,segfault@3", restarts=RestartBudget(100, 60.0))

    def crash() -> None:
        for _ in range(3):
            with contextlib.suppress(EngineFault):
                process.infer(frame())
        wait_for(lambda: process.status.state is EngineState.READY)

    def held() -> tuple[int, int]:
        return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()

    crash()
    before = held()
    for _ in range(4):
        crash()
    assert process.status.restarts >= 5
    assert held() == before
