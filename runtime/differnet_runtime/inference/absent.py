"""The stand-in for an engine while there is no model."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from ..backends.fake import PREFIX
from ..errors import EngineFault
from .process import EngineProcess
from .records import FAKE_METADATA, Answer, EngineState, EngineStatus

NO_METADATA = FAKE_METADATA.replaced(name="", calibration=None)
"""Metadata without a model: it has no threshold, so nothing can be GOOD."""


class AbsentEngine(EngineProcess):
    """An engine without a model: it runs no process, and gives no frame a score.

    Args:
        why: Returns why there is no model, and what to do: the text of each `EngineFault`.
    """

    absent = True
    model_hash = ""
    file_bytes = expected_memory = 0
    alive, ready, wanted = True, False, False
    metadata = NO_METADATA

    def __init__(self, why: Callable[[], str]) -> None:
        super().__init__(None, backend=PREFIX)
        self._why = why

    def start(self) -> None:
        """Starts nothing."""

    def wait_ready(self, timeout_s: float) -> bool:  # noqa: ARG002
        """Returns False at once."""
        return False

    def stop(self, timeout_s: float = 2.0) -> None:
        """Stops nothing."""

    @contextlib.contextmanager
    def turn(self, timeout_s: float | None = None) -> Iterator[None]:  # noqa: ARG002
        """Lets the caller in at once."""
        yield

    def infer(self, prepared: NDArray[np.uint8], deadline_s: float | None = None) -> Answer:  # noqa: ARG002
        """Refuses every frame.

        Raises:
            EngineFault: Always, with the code `no_model`.
        """
        raise EngineFault("no_model", self._why())

    @property
    def status(self) -> EngineStatus:
        """Its state is `no_model`, and the last fault says what to do."""
        return EngineStatus(
            state=EngineState.NO_MODEL,
            backend=None,
            reasons={},
            fallback=False,
            model="",
            model_hash="",
            restarts=0,
            faults=0,
            answers=0,
            last_fault=self._why(),
            pid=None,
        )
