"""The model in a process of its own: asked with a deadline, killed when it hangs, started again."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..calibration import judged
from ..errors import DifferNetError, EngineFault
from ..metadata import ModelMetadata
from ..selection import AUTO, ORT_CPU, ORT_TENSORRT, TENSORRT
from .budget import RestartBudget
from .memory import SharedMemory, Slots
from .messages import Result
from .records import Answer, EngineState, EngineStatus, Model
from .turns import Turns, remaining_s
from .worker import Worker

_WATCH_S = 0.2
_BACKOFF_S = (0.0, 0.2, 0.5, 1.0, 2.0)
_START_S, _START_BUILDING_S = 120.0, 1800.0
_RESTART_LEAST_S, _RESTART_FACTOR = 10.0, 3.0

log = logging.getLogger(__name__)


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

    Raises:
        ModelFileError: The file can't be used.
        ViewsError: Its views were never trained.
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
    ) -> None:
        self._model = Model.read(model)
        self._backend, self._threads, self._deadline_s = backend, threads, deadline_s
        builds = backend in (AUTO, TENSORRT, ORT_TENSORRT)
        self._start_timeout_s = start_timeout_s or (_START_BUILDING_S if builds else _START_S)
        self._budget = restarts or RestartBudget()
        self._fallback = fallback and model is not None
        contract = self._model.metadata.input
        self._memory = SharedMemory(contract.size, contract.channels)
        self._slots, self._turns = Slots(), Turns()
        self._worker: Worker | None = None
        self._lock = threading.Lock()
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._settled = threading.Event()
        self._thread: threading.Thread | None = None
        self._state, self._reasons = EngineState.STOPPED, dict[str, str]()
        self._fallen_back, self._started_once = False, False
        self._restarts = self._faults = self._answers = self._failed_starts = 0
        self._last_fault: str | None = None
        self._pid: int | None = None

    @property
    def metadata(self) -> ModelMetadata:
        """Of the model: the input contract for the caller's preprocessing among it."""
        return self._model.metadata

    @property
    def model_hash(self) -> str:
        """Content hash of the model file."""
        return self._model.hash

    def start(self) -> None:
        """Starts the process and its supervisor; `wait_ready` waits for the model."""
        self._state = EngineState.STARTING
        self._thread = threading.Thread(target=self._supervise, name="engine", daemon=True)
        self._thread.start()

    def wait_ready(self, timeout_s: float) -> bool:
        """Waits until it is ready, or has failed to start; says whether it is ready."""
        self._settled.wait(timeout_s)
        return self._state is EngineState.READY

    def stop(self, timeout_s: float = 2.0) -> None:
        """Kills the process and ends the supervisor; returns within `timeout_s`."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout_s)
        self._state = EngineState.STOPPED

    def buffer(self) -> NDArray[np.uint8]:
        """Returns the calling thread's `(size, size, C)` uint8, in which it prepares its frames."""
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
                not_finite, bad_shape, starting, no_model, busy.
        """
        limit_s = self._deadline_s if deadline_s is None else deadline_s
        until_ns = time.monotonic_ns() + int(limit_s * 1e9)
        try:
            slot = self._place(prepared)
            with self.turn(limit_s):
                answer = self._ask(slot, until_ns)
        except EngineFault as fault:
            self._note(fault)
            raise
        self._answers += 1
        return answer

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
        worker = self._worker
        if worker is None:
            code = "no_model" if self._state is EngineState.FAILED else "starting"
            why = f": {self._last_fault}" if self._last_fault else ""
            raise EngineFault(code, f"the engine is {self._state.value}{why}")
        limit_s = max(self._deadline_s, remaining_s(until_ns))
        try:
            result = worker.ask(slot, until_ns, limit_s)
        except EngineFault as fault:
            if fault.code == "crashed" or worker.overdue:
                self._lose(worker, fault)
            raise
        return self._answer(worker, result)

    def _answer(self, worker: Worker, result: Result) -> Answer:
        side, ready = result.heatmap, worker.ready
        assert ready is not None, "only a ready process is asked"
        return Answer(
            score=judged(result.score, worker.model.metadata.calibration),
            heatmap=None if side is None else self._memory.heatmap(side).copy(),
            model_hash=worker.model.hash,
            infer_ms=result.infer_ms,
            backend=ready.backend,
        )

    @property
    def status(self) -> EngineStatus:
        """A snapshot of everything known."""
        worker = self._worker
        ready = worker.ready if worker else None
        return EngineStatus(
            state=self._state,
            backend=ready.backend if ready else None,
            reasons={**(ready.reasons if ready else {}), **self._reasons},
            fallback=self._fallen_back,
            model=self._model.metadata.name,
            model_hash=self._model.hash,
            restarts=self._restarts,
            faults=self._faults,
            answers=self._answers,
            last_fault=self._last_fault,
            pid=self._pid,
        )

    def _note(self, fault: EngineFault) -> None:
        if fault.code == "busy":  # that is the load's fault
            return
        self._faults += 1
        if fault.code not in ("starting", "no_model"):  # those repeat what is known
            self._last_fault = f"{fault.code}: {fault.text}"

    def _lose(self, worker: Worker, fault: EngineFault) -> None:
        """Gives up a process; the supervisor starts another."""
        with self._lock:
            if self._worker is not worker:
                return
            self._worker, self._state = None, EngineState.RESTARTING
        log.warning("the engine process is lost: %s", fault.text)
        self._note(fault)
        worker.kill()
        worker.close()
        self._wake.set()

    def _supervise(self) -> None:
        """Owns the processes: the kernel ends them with the thread that started them."""
        while not self._stopping.is_set():
            if self._worker is None:
                self._bring_up()
            self._wake.wait(_WATCH_S)
            self._wake.clear()
            self._watch()
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.kill()  # whoever asks it sees the end of its channel
            worker.close()

    def _watch(self) -> None:
        worker = self._worker
        if worker is None:
            return
        if worker.overdue:
            self._lose(worker, EngineFault("timeout", "the engine hangs on a frame"))
        elif (death := worker.died()) is not None:
            self._lose(worker, EngineFault("crashed", death))

    def _bring_up(self) -> None:
        if self._started_once:
            if not self._budget.take(time.monotonic_ns()):
                self._fail(f"{self._budget.restarts} restarts in {self._budget.window_s:g} s")
                return
            self._restarts += 1
            self._stopping.wait(_BACKOFF_S[min(self._failed_starts, len(_BACKOFF_S) - 1)])
        self._started_once = True
        begun = time.monotonic()
        try:
            worker = self._started()
        except (EngineFault, DifferNetError) as error:
            self._failed_starts += 1
            fault = error if isinstance(error, EngineFault) else EngineFault("no_model", str(error))
            self._note(fault)
            self._fail(fault.text)
            return
        taken_s = time.monotonic() - begun
        self._start_timeout_s = max(_RESTART_LEAST_S, _RESTART_FACTOR * taken_s)
        self._failed_starts = 0
        with self._lock:
            self._worker, self._model, self._pid = worker, worker.model, worker.pid
            self._state = EngineState.READY
        self._settled.set()

    def _started(self) -> Worker:
        model = self._read_again() if self._restarts else self._model
        worker = Worker(model, self._backend, self._threads, self._memory)
        self._pid = worker.pid
        try:
            ready = worker.wait_ready(self._start_timeout_s, self._stopping)
        except EngineFault:
            worker.kill()
            worker.close()
            raise
        log.info("engine process %d is ready with %s", worker.pid, ready.backend)
        return worker

    def _read_again(self) -> Model:
        """Reads the file as it is now: it may have been calibrated again meanwhile."""
        model = Model.read(self._model.path)
        if model.metadata.input.shape != self._model.metadata.input.shape:
            raise EngineFault("no_model", f"{model.path} was replaced by one of another input size")
        if model.hash != self._model.hash:
            log.warning("%s has changed; the engine now runs it as it is", model.path)
        return model

    def _fail(self, why: str) -> None:
        """Falls back where that is allowed, or waits for room in the budget."""
        if self._stopping.is_set():
            return
        if self._fallback and self._backend != ORT_CPU:
            log.warning("%s falls back to %s: %s", self._backend, ORT_CPU, why)
            self._reasons[self._backend] = why
            self._backend, self._fallen_back, self._started_once = ORT_CPU, True, False
            self._budget, self._failed_starts = self._budget.fresh(), 0
            self._state = EngineState.RESTARTING
            self._wake.set()
            return
        if self._state is not EngineState.FAILED:
            log.error("the engine has failed: %s", why)
        self._state = EngineState.FAILED
        self._settled.set()
