"""The model in a process of its own: asked with a deadline, killed when it hangs, started again."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..calibration import judged
from ..errors import EngineFault
from ..metadata import ModelMetadata
from ..selection import AUTO, ORT_TENSORRT, TENSORRT
from .budget import RestartBudget
from .memory import SharedMemory, Slots
from .messages import Result
from .records import Answer, EngineState, EngineStatus, Model
from .supervisor import Supervisor
from .turns import Turns, remaining_s
from .worker import Worker

_START_S, _START_BUILDING_S = 120.0, 1800.0
_NOT_THE_FRAMES = ("busy", "starting", "no_model")
"""Faults that say nothing new of the engine."""


class EngineProcess:
    """Scores frames for any number of threads, one at a time, in a process that may die.

    Args:
        model: The model file; None with a `fake` backend.
        backend: `auto`, or a name that `open_backend` knows.
        threads: CPU threads; 0 lets the backend choose.
        deadline_s: How long a frame may take; then the process is taken for hung, and killed.
        start_timeout_s: How long the first start may take; None leaves TensorRT half an hour for
            building an engine, and others two minutes.
        restarts: How often it may be started again.
        fallback: Whether onnxruntime-cpu may take over from a backend that does not start, or
            that uses up its restarts.
        trusted_keys: Public keys (see `signing`) of which one must have signed the model file;
            empty for no such demand.

    Raises:
        ModelFileError: The file can't be used, or none of the keys has signed it.
        SigningError: Signatures can't be checked here.
        ViewsError: Its views were never trained, or can't be had with its input.
    """

    def __init__(
        self,
        model: Path | None,
        *,
        backend: str = AUTO,
        threads: int = 0,
        deadline_s: float = 1.0,
        start_timeout_s: float | None = None,
        restarts: RestartBudget | None = None,
        fallback: bool = True,
        trusted_keys: tuple[str, ...] = (),
    ) -> None:
        read = Model.read(model, trusted_keys)
        contract = read.metadata.input
        self._deadline_s = deadline_s
        self._memory = SharedMemory(*contract.shape)
        self._slots, self._turns = Slots(), Turns()
        self._answers = 0
        builds = backend in (AUTO, TENSORRT, ORT_TENSORRT)
        self._supervisor = Supervisor(
            read,
            backend,
            threads,
            self._memory,
            start_timeout_s=start_timeout_s or (_START_BUILDING_S if builds else _START_S),
            budget=restarts or RestartBudget(),
            fallback=fallback and model is not None,
        )

    @property
    def metadata(self) -> ModelMetadata:
        """Of the model: the input contract for the caller's preprocessing among it."""
        return self._supervisor.model.metadata

    @property
    def model_hash(self) -> str:
        """Content hash of the model file."""
        return self._supervisor.model.hash

    def start(self) -> None:
        """Starts the process; `wait_ready` waits for the model."""
        self._supervisor.start()

    @property
    def alive(self) -> bool:
        """Whether the thread that looks after the process runs; the process itself may be dead."""
        return self._supervisor.alive

    @property
    def ready(self) -> bool:
        """Whether a process is there that can be asked."""
        return self._supervisor.worker is not None

    def wait_ready(self, timeout_s: float) -> bool:
        """Waits until it is ready, or has failed to start; says whether it is ready."""
        self._supervisor.wait_settled(timeout_s)
        return self._supervisor.state is EngineState.READY

    def stop(self, timeout_s: float = 2.0) -> None:
        """Kills the process; returns within `timeout_s`."""
        self._supervisor.stop(timeout_s)

    def buffer(self) -> NDArray[np.uint8]:
        """Returns the calling thread's `(height, width, C)` uint8, for its prepared frames."""
        return self._memory.frame(self._slots.own())

    @contextlib.contextmanager
    def turn(self, timeout_s: float | None = None) -> Iterator[None]:
        """Holds the engine for this thread, so that it can take its newest frame just before.

        Without it a frame waits behind those of the other cameras, and is old when it is judged.

        Raises:
            EngineFault: The turn did not come in time.
        """
        timeout_s = self._deadline_s if timeout_s is None else timeout_s
        if not self._turns.take(timeout_s):
            raise EngineFault("busy", f"the engine was busy with other cameras for {timeout_s:g} s")
        try:
            yield
        finally:
            self._turns.give_back()

    def infer(self, prepared: NDArray[np.uint8], deadline_s: float | None = None) -> Answer:
        """Scores a prepared frame.

        Args:
            prepared: `metadata.input.shape` uint8; the thread's `buffer` saves a copy.
            deadline_s: When the caller needs the answer, the wait for other cameras included;
                None gives the engine's own.

        Raises:
            EngineFault: There is no score; `code` is one of timeout, crashed, exception,
                not_finite, bad_shape, starting, no_model, busy, stopped.
        """
        limit_s = self._deadline_s if deadline_s is None else deadline_s
        until_ns = time.monotonic_ns() + int(limit_s * 1e9)
        try:
            slot = self._place(prepared)
            with self.turn(limit_s):
                answer = self._ask(slot, until_ns)
        except EngineFault as fault:
            if self._supervisor.stopping:
                raise EngineFault("stopped", "the engine was stopped") from fault
            if fault.code not in _NOT_THE_FRAMES and not self._hurried(fault, limit_s):
                self._supervisor.note(fault)
            raise
        self._answers += 1
        return answer

    def _hurried(self, fault: EngineFault, limit_s: float) -> bool:
        """Whether only the caller was short of time; if the engine hangs, it was given up."""
        worker = self._supervisor.worker
        in_time = worker is not None and not worker.overdue
        return fault.code == "timeout" and limit_s < self._deadline_s and in_time

    def _place(self, prepared: NDArray[np.uint8]) -> int:
        slot = self._slots.own()
        own = self._memory.frame(slot)
        if prepared.shape != own.shape or prepared.dtype != np.uint8:
            raise EngineFault(
                "bad_shape",
                f"the model takes {own.shape} uint8; received {prepared.shape} {prepared.dtype}",
            )
        if not np.shares_memory(prepared, own):
            own[:] = prepared
        return slot

    def _ask(self, slot: int, until_ns: int) -> Answer:
        supervisor = self._supervisor
        worker = supervisor.worker
        if worker is None:
            state, last = supervisor.state, supervisor.last_fault
            code = "no_model" if state is EngineState.FAILED else "starting"
            raise EngineFault(code, f"the engine is {state.value}{f': {last}' if last else ''}")
        limit_s = max(self._deadline_s, remaining_s(until_ns))
        try:
            result = worker.ask(slot, until_ns, limit_s)
        except EngineFault as fault:
            if fault.code == "crashed" or worker.overdue:
                supervisor.lose(worker, fault.text)
            raise
        return self._answer(worker, result)

    def _answer(self, worker: Worker, result: Result) -> Answer:
        shape, ready = result.heatmap, worker.ready
        assert ready is not None, "only a ready process is asked"
        heatmap = None if shape is None else self._memory.heatmap(*shape).copy()
        return Answer(
            judged(result.score, worker.model.metadata.calibration, heatmap, result.heads),
            model_hash=worker.model.hash,
            infer_ms=result.infer_ms,
            backend=ready.backend,
        )

    @property
    def status(self) -> EngineStatus:
        """A snapshot of everything known."""
        supervisor = self._supervisor
        worker, model = supervisor.worker, supervisor.model
        ready = worker.ready if worker else None
        return EngineStatus(
            state=supervisor.state,
            backend=ready.backend if ready else None,
            reasons={**(ready.reasons if ready else {}), **supervisor.reasons},
            fallback=supervisor.fallen_back,
            model=model.metadata.name,
            model_hash=model.hash,
            restarts=supervisor.restarts,
            faults=supervisor.faults,
            answers=self._answers,
            last_fault=supervisor.last_fault,
            pid=supervisor.pid,
        )
