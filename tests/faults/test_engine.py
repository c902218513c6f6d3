"""Whatever the engine does: a named fault within the deadline, and a score again within 5 s."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from differnet_runtime.errors import EngineFault
from differnet_runtime.inference.process import EngineProcess
from tests.runtime.waiting import wait_for

DEADLINE_S = 0.5
SLACK_S = 0.5
"""For a machine that does other things as well."""
BACK_S = 5.0


@pytest.fixture
def faulty(tmp_path: Path) -> Iterator[tuple[EngineProcess, Path]]:
    """An engine whose next fault is what is written to a file."""
    file = tmp_path / "fault"
    engine = EngineProcess(None, backend=f"fake:5ms,faults={file}", deadline_s=DEADLINE_S)
    engine.start()
    assert engine.wait_ready(30.0)
    yield engine, file
    engine.stop()


def answers(engine: EngineProcess) -> bool:
    try:
        return engine.infer(np.full((256, 256, 3), 9, np.uint8)).score.value == 9.0
    except EngineFault:
        return False


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("hang", "timeout"),
        ("raise", "exception"),
        ("segfault", "crashed"),
        ("nan", "not_finite"),
        ("shape", "bad_shape"),
    ],
)
def test_a_fault_is_named_within_the_deadline_and_gone_in_5_s(
    fault: str, code: str, faulty: tuple[EngineProcess, Path]
) -> None:
    engine, file = faulty
    assert answers(engine)
    file.write_text(fault)
    begun = time.monotonic()
    with pytest.raises(EngineFault) as raised:
        engine.infer(np.zeros((256, 256, 3), np.uint8))
    assert time.monotonic() - begun < DEADLINE_S + SLACK_S
    assert raised.value.code == code
    wait_for(lambda: answers(engine), within_s=BACK_S)
    assert code in (engine.status.last_fault or "")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP, signal.SIGABRT])
def test_a_process_that_something_else_ends_or_stops(
    number: signal.Signals, faulty: tuple[EngineProcess, Path]
) -> None:
    engine, _ = faulty
    assert engine.status.pid
    os.kill(engine.status.pid, number)
    begun = time.monotonic()
    with pytest.raises(EngineFault):
        engine.infer(np.zeros((256, 256, 3), np.uint8))
    assert time.monotonic() - begun < DEADLINE_S + SLACK_S
    wait_for(lambda: answers(engine), within_s=BACK_S)
    assert engine.status.restarts == 1


@pytest.mark.parametrize("fault", ["hang", "raise", "segfault"])
def test_a_backend_that_does_not_open_gives_way_to_the_fallback(
    fault: str, sound_model: Callable[..., Path], tmp_path: Path
) -> None:
    engine = EngineProcess(
        sound_model(), backend=f"fake:{fault}@0", deadline_s=DEADLINE_S, start_timeout_s=5.0
    )
    engine.start()
    try:
        assert engine.wait_ready(BACK_S + 30.0)
        status = engine.status
        assert status.backend == "onnxruntime-cpu"
        assert status.fallback
        assert f"fake:{fault}@0" in status.reasons
        answer = engine.infer(np.full((32, 32, 3), 9, np.uint8))
        assert answer.score.value == pytest.approx(9.0)
    finally:
        engine.stop()
