"""The thread that looks after the engine process outlives what nobody expected."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from differnet_runtime.errors import EngineFault
from differnet_runtime.inference import supervisor
from differnet_runtime.inference.messages import EngineState
from differnet_runtime.inference.process import EngineProcess
from differnet_runtime.inference.supervisor import Worker
from tests.runtime.waiting import wait_for

FRAME = np.full((256, 256, 3), 9, np.uint8)
FULL = OSError(errno.EMFILE, "Too many open files")


@pytest.mark.parametrize("first", [True, False], ids=["the first start", "a restart"])
def test_a_start_that_fails_unexpectedly_is_tried_again(
    first: bool, engine: Callable[..., EngineProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0

    def failing(*arguments: Any) -> Worker:
        nonlocal tries
        tries += 1
        if tries == (1 if first else 2):
            raise FULL
        return Worker(*arguments)

    monkeypatch.setattr(supervisor, "Worker", failing)
    process = engine("fake:segfault@1" if not first else "fake")
    if not first:
        with pytest.raises(EngineFault):
            process.infer(FRAME)
    wait_for(lambda: tries >= (2 if first else 3))
    wait_for(lambda: process.status.state is EngineState.READY)
    assert process.alive
    if first:
        assert process.status.last_fault == "exception: OSError: [Errno 24] Too many open files"
        assert process.infer(FRAME).score.value == 9.0


def test_a_process_that_comes_up_halfway_is_ended(
    engine: Callable[..., EngineProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    pids: list[int] = []

    class Halfway(Worker):
        def wait_ready(self, *arguments: Any) -> Any:
            pids.append(self.pid)
            if len(pids) == 1:
                raise MemoryError
            return super().wait_ready(*arguments)

    monkeypatch.setattr(supervisor, "Worker", Halfway)
    process = engine("fake")
    wait_for(lambda: process.status.state is EngineState.READY)
    assert not Path(f"/proc/{pids[0]}").exists()
    assert len(pids) == 2


def test_looking_after_it_goes_on_and_is_told_once(
    engine: Callable[..., EngineProcess],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    process = engine("fake")
    looks = 0

    def failing(_: Worker) -> None:
        nonlocal looks
        looks += 1
        if looks <= 3:
            raise FULL

    monkeypatch.setattr(Worker, "fault", failing)
    wait_for(lambda: looks > 4)
    assert process.alive
    assert process.status.state is EngineState.READY
    assert "Too many open files" in str(process.status.last_fault)
    assert caplog.text.count("looking after the engine process failed") == 1
    assert process.infer(FRAME).score.value == 9.0
