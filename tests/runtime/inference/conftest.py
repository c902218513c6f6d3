"""Engines that are stopped after the test, whatever it did."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from differnet_runtime.inference.process import EngineProcess


@pytest.fixture
def engine() -> Iterator[Callable[..., EngineProcess]]:
    """Returns a function that starts an engine process and waits until it has settled."""
    started: list[EngineProcess] = []

    def start(backend: str = "fake", model: Path | None = None, **options: object) -> EngineProcess:
        process = EngineProcess(model, backend=backend, **options)  # type: ignore[arg-type]
        started.append(process)
        process.start()
        process.wait_ready(30.0)
        return process

    yield start
    for process in started:
        process.stop()
