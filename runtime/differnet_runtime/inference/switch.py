"""Changes the model while frames keep coming: the new engine is tested beside the old one."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..backends.selection import ON_CPU, ON_GPU
from ..errors import EngineFault
from ..sentences import sentence
from .process import EngineProcess
from .supervisor import RestartBudget

_START_S = 1800.0
_POLL_S = 0.02

log = logging.getLogger(__name__)


@dataclass
class _Held:
    engine: EngineProcess
    users: int = 0


@dataclass(frozen=True)
class Probation:
    """What a new model must do under load before the old one is stopped.

    Args:
        answers: Frames that it must score without a fault.
        longest_s: Seconds after which it has passed without a fault, even with fewer frames.
    """

    answers: int = 10
    longest_s: float = 5.0


class ModelSwitch:
    """Holds the current engine; each frame leases it, and so is judged by one model only.

    Args:
        engine: The first engine, started; this object stops it.
        make: Makes an engine process for another model file, not yet started.
        probation: The test of a new model under load.

    Example:
        >>> with switch.lease() as engine, engine.turn():  # doctest: +SKIP
        ...     answer = engine.infer(preprocess(frame, engine.metadata.input, engine.buffer()))
    """

    def __init__(
        self,
        engine: EngineProcess,
        make: Callable[[Path | None], EngineProcess],
        probation: Probation | None = None,
    ) -> None:
        self._held = _Held(engine)
        self._make = make
        self._candidate: EngineProcess | None = None
        self._probation = probation or Probation()
        self._changed = threading.Condition()
        self._switching = threading.Lock()
        self._stopping = threading.Event()

    @property
    def engine(self) -> EngineProcess:
        """The current engine, for its status; `lease` it for a frame."""
        return self._held.engine

    @contextlib.contextmanager
    def lease(self) -> Iterator[EngineProcess]:
        """Keeps the current engine from being stopped while a frame is judged."""
        with self._changed:
            held = self._held
            held.users += 1
        try:
            yield held.engine
        finally:
            with self._changed:
                held.users -= 1
                if held is not self._held:  # `_drain` may wait for it
                    self._changed.notify_all()

    def to(self, model: Path | None, *, timeout_s: float = _START_S) -> EngineProcess:
        """Changes to another model file; blocks until the new model has passed its probation.

        The old model judges meanwhile, and after every failure; building an engine for the new one
        may take minutes.

        Raises:
            ModelFileError: The file can't be used.
            EngineFault: It can't be loaded, fails its golden frames, runs only on the CPU while
                the old one runs on the GPU, or failed under load and was taken back.
        """
        with self._switching:
            new = _Held(self._make(model))
            self._candidate = new.engine
            new.engine.start()
            try:
                if self._stopping.is_set():
                    new.engine.stop()
                _require_ready(new.engine, model, timeout_s)
                _require_the_gpu(new.engine, self.engine, model)
                self._replace(new, model)
            except BaseException:
                new.engine.stop()
                raise
            return new.engine

    def _replace(self, new: _Held, model: Path | None) -> None:
        old = self._swap(new)
        log.info("%s judges now, on probation", model)
        if not self._passes(new.engine):
            why = _why(new.engine)
            self._swap(old)
            self._drain(new)
            log.warning("%s was taken back: %s", model, why)
            raise EngineFault("no_model", sentence("model_failed", model=model, why=why))
        self._drain(old)
        old.engine.stop()

    def _swap(self, held: _Held) -> _Held:
        with self._changed:
            before, self._held = self._held, held
        return before

    def _passes(self, engine: EngineProcess) -> bool:
        until = time.monotonic() + self._probation.longest_s
        while time.monotonic() < until and not self._stopping.is_set():
            status = engine.status
            if status.faults:
                return False
            if status.answers >= self._probation.answers:
                return True
            self._stopping.wait(_POLL_S)
        return not engine.status.faults

    def _drain(self, held: _Held) -> None:
        """Waits for the frames that still lease an engine, which their deadlines bound."""
        with self._changed:
            self._changed.wait_for(lambda: held.users == 0, timeout=self._probation.longest_s)

    def stop(self, timeout_s: float = 2.0) -> None:
        """Stops the current engine, and a change that is under way."""
        until = time.monotonic() + timeout_s
        self._stopping.set()
        if self._candidate is not None:
            self._candidate.stop(timeout_s)
        if self._switching.acquire(timeout=max(0.0, until - time.monotonic())):  # it has ended
            self._switching.release()
        self._held.engine.stop(max(0.1, until - time.monotonic()))


def _why(engine: EngineProcess) -> str:
    return engine.status.last_fault or sentence(f"engine_is_{engine.status.state.value}")


def _require_ready(engine: EngineProcess, model: Path | None, timeout_s: float) -> None:
    if not engine.wait_ready(timeout_s):
        raise EngineFault("no_model", sentence("model_unusable", model=model, why=_why(engine)))


def _require_the_gpu(new: EngineProcess, old: EngineProcess, model: Path | None) -> None:
    """Refuses a model that runs only on the CPU, not by choice, after one that runs on a GPU."""
    found, before = new.status, old.status
    if found.backend in ON_CPU and found.reasons and before.backend in ON_GPU:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in found.reasons.items())
        text = sentence(
            "model_only_cpu", model=model, backend=before.backend, why=reasons, cpu=found.backend
        )
        raise EngineFault("no_model", text)


def check_model(
    model: Path, *, backend: str = "auto", threads: int = 0, timeout_s: float = _START_S
) -> None:
    """Loads a model in a process of its own and scores its golden frames.

    Raises:
        ModelFileError: The file can't be used.
        EngineFault: It can't be run, or gives other scores than it should.
    """
    engine = EngineProcess(
        model, backend=backend, threads=threads, restarts=RestartBudget(0), fallback=False
    )
    engine.start()
    try:
        _require_ready(engine, model, timeout_s)
    finally:
        engine.stop()
