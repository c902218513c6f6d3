"""An engine and a camera without processes, for a real station in a test."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from differnet_runtime.capture.messages import CameraState, CameraStatus
from differnet_runtime.config import CameraConfig
from differnet_runtime.errors import EngineFault
from differnet_runtime.inference.messages import EngineState, EngineStatus
from differnet_runtime.inference.process import EngineProcess
from differnet_runtime.inspection.verdict import Answer, judged
from differnet_runtime.records import Frame

_PROBATION = 10
"""Answers after which a model change is final; no test waits for that many frames."""


class FakeEngine(EngineProcess):
    """Scores a frame by its mean brightness, in the caller's thread.

    Set `fault` to a code, and every frame has that fault.
    """

    alive = ready = True
    fault: str | None = None

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.scored = self.failed = 0
        self.stopped = False

    def start(self) -> None:
        """Starts no process."""

    def wait_ready(self, timeout_s: float) -> bool:
        return True

    def stop(self, timeout_s: float = 2.0) -> None:
        self.stopped = True

    def infer(self, prepared: NDArray[np.uint8], deadline_s: float | None = None) -> Answer:
        if self.fault is not None:
            self.failed += 1
            raise EngineFault(self.fault, "as the test says")
        self.scored += 1
        score = judged(float(prepared.mean()), self.metadata.calibration)
        return Answer(score, self.model_hash, infer_ms=1.0, backend="fake")

    @property
    def status(self) -> EngineStatus:
        state = EngineState.READY
        return replace(
            super().status,
            state=state,
            backend="fake",
            faults=self.failed,
            answers=_PROBATION + self.scored,
        )


class FakeCapture:
    """Gives the frames that a test puts before the camera, in order."""

    alive = live = True

    def __init__(self, name: str, config: CameraConfig, _: object = None) -> None:
        self.name, self.state, self.reason = name, CameraState.LIVE, None
        self._random = np.random.RandomState(0)
        self._frames: deque[Frame] = deque()
        self._changed = threading.Condition()
        self._stopped, self._count = False, 0
        self.last_ns: int | None = None

    def put(self, brightness: int) -> None:
        """Puts a part of a mean brightness before the camera, with fresh noise."""
        noise = self._random.randint(-20, 21, (64, 64, 3))
        with self._changed:
            self._count += 1
            self.last_ns = time.monotonic_ns()
            image = (brightness + noise).astype(np.uint8)
            name = f"{self.name}#{self._count}"
            self._frames.append(Frame(image, name, self._count, self.last_ns, time.time()))
            self._changed.notify_all()

    def start(self) -> None:
        """Starts no process."""

    def stop(self, timeout_s: float = 2.0) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def wait(self, timeout_s: float) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._frames or self._stopped, timeout_s)
            return bool(self._frames)

    def take(self) -> Frame | None:
        with self._changed:
            return self._frames.popleft() if self._frames else None

    @property
    def status(self) -> CameraStatus:
        return CameraStatus(
            state=self.state, reason=self.reason, frames=self._count, reconnects=0,
            last_frame_ns=self.last_ns, fps=None, width=64, height=64, settings=(), pid=None,
            source=self.name,
        )  # fmt: skip
