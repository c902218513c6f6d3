"""Keeps an engine process running: starts it, starts it again within a budget, or falls back.

One engine process as the daemon sees it: started, asked, killed, and not waited for forever.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import ValidationError

from ..backends.selection import ON_CPU, ORT_CPU
from ..errors import DifferNetError, EngineFault
from ..processes import Child
from ..sentences import sentence
from ..service import STOP_S, Service
from .memory import RestartBudget, SharedMemory
from .messages import (
    ANSWER,
    PACKET,
    EngineFailed,
    EngineStart,
    EngineState,
    Model,
    Ready,
    ScoreRequest,
    ScoreResults,
)
from .turns import remaining_s

_POLL_S = 0.1


@dataclass
class Pending:
    """The request that the process works on.

    Args:
        id: Its number.
        kill_ns: When the process is taken for hung.
    """

    id: int
    kill_ns: int


class Worker:
    """Owns a process from its start to its end.

    Args:
        model: What it runs.
        backend: `auto`, or a name that `open_backend` knows.
        threads: CPU threads; 0 lets the backend choose.
        memory: Where the frames lie.
        batch: Frames that it is to take together; None leaves that to it.
        gives_way: Whether the process takes the lowest priority; see `processes.give_way`.

    Raises:
        EngineFault: No process can be started.
    """

    def __init__(
        self,
        model: Model,
        backend: str,
        threads: int,
        memory: SharedMemory,
        batch: int | None = None,
        gives_way: bool = False,
    ) -> None:
        self.model = model
        self.ready: Ready | None = None
        self.pending: Pending | None = None
        self._next_id = 0
        self._asking = threading.Lock()
        contract = model.metadata.input

        def start(channel: int) -> str:
            return EngineStart(
                model=model.path,
                model_hash=model.hash,
                backend=backend,
                threads=threads,
                batch=batch,
                height=contract.height,
                width=contract.width,
                channels=contract.channels,
                channel=channel,
                memory=memory.descriptor,
                parent=os.getpid(),
                gives_way=gives_way,
            ).model_dump_json()

        try:
            self._child = Child(
                f"{__package__}.child",
                start,
                title=sentence("engine_process"),
                pass_fds=(memory.descriptor,),
            )
        except OSError as error:
            text = f"no engine process can be started: {error}"
            raise EngineFault("crashed", text) from error
        self._channel = self._child.channel

    @property
    def pid(self) -> int:
        """Process id."""
        return self._child.pid

    def wait_ready(self, timeout_s: float, stop: threading.Event) -> Ready:
        """Waits until the model is loaded and tested.

        Raises:
            EngineFault: It can't be, took too long, or `stop` was set.
        """
        until_ns = time.monotonic_ns() + int(timeout_s * 1e9)
        while not stop.is_set():
            answer = self._receive(min(_POLL_S, remaining_s(until_ns)))
            if isinstance(answer, Ready):
                self.ready = answer
                return answer
            if isinstance(answer, EngineFailed):
                raise EngineFault(answer.code, answer.text)
            if time.monotonic_ns() >= until_ns:
                raise EngineFault("timeout", sentence("engine_not_loaded", waited_s=timeout_s))
        raise EngineFault("starting", sentence("engine_stopped_early"))

    def ask(self, slots: tuple[int, ...], until_ns: int, limit_s: float) -> ScoreResults:
        """Has the frames in some slots scored.

        Args:
            slots: Where they lie.
            until_ns: When the caller needs the answer.
            limit_s: How long the process may work on them.

        Raises:
            EngineFault: There is no answer. `overdue` then says whether the process hangs.
        """
        with self._asking:
            return self._ask(slots, until_ns, limit_s)

    def _ask(self, slots: tuple[int, ...], until_ns: int, limit_s: float) -> ScoreResults:
        self._finish_pending(until_ns)
        self._next_id += 1
        request = ScoreRequest(id=self._next_id, slots=slots)
        self.pending = Pending(request.id, time.monotonic_ns() + int(limit_s * 1e9))
        try:
            self._channel.send(request.model_dump_json().encode())
        except OSError as error:
            raise EngineFault("crashed", self._child.death()) from error
        answer = self._answer(until_ns)
        if answer is None:
            raise EngineFault("timeout", sentence("engine_late"))
        return answer

    def drop_late(self) -> None:
        """Throws away the answer to a frame whose caller has given up, if it is there.

        Raises:
            EngineFault: The process has ended.
        """
        if self._asking.acquire(blocking=False):  # else somebody waits for an answer right now
            try:
                self._answer(time.monotonic_ns())
            finally:
                self._asking.release()

    @property
    def overdue(self) -> bool:
        """Whether it has worked on a frame for longer than it may."""
        pending = self.pending
        return pending is not None and time.monotonic_ns() >= pending.kill_ns

    def _finish_pending(self, until_ns: int) -> None:
        """Waits for the answer to a frame whose caller has given up; it is thrown away."""
        if self.pending and self._answer(until_ns) is None:
            raise EngineFault("timeout", sentence("engine_on_earlier"))

    def _answer(self, until_ns: int) -> ScoreResults | None:
        while self.pending:
            answer = self._receive(remaining_s(until_ns))
            if answer is None:
                return None
            if isinstance(answer, ScoreResults) and answer.id == self.pending.id:
                self.pending = None
                return answer
        return None

    def _receive(self, timeout_s: float) -> Ready | EngineFailed | ScoreResults | None:
        try:
            self._channel.settimeout(max(timeout_s, 1e-6))
            packet = self._channel.recv(PACKET)
            if packet:
                return ANSWER.validate_json(packet)
        except TimeoutError:
            return None
        except (OSError, ValidationError) as error:
            raise EngineFault(
                "crashed", f"{self._child.death()} ({type(error).__name__})"
            ) from error
        raise EngineFault("crashed", self._child.death())

    def died(self) -> str | None:
        """Returns how the process ended, or None while it runs."""
        return self._child.died()

    def kill(self) -> None:
        """Ends the process; one that the kernel can't end (in a driver) is left behind."""
        self._child.kill()
        with self._asking:
            self._channel.close()


_WATCH_S = 0.2
_BACKOFF_S = (0.0, 0.2, 0.5, 1.0, 2.0)
"""Waits before a start, by how many starts before it failed in a row."""
_RESTART_LEAST_S, _RESTART_FACTOR = 10.0, 3.0
"""A later start may take this many times what the first took: then it is taken for hung."""

log = logging.getLogger(__name__)


class Supervisor(Service):
    """Owns the processes, in a thread of its own: the kernel ends them with the thread.

    Args:
        model: What they run.
        backend: `auto`, or a name that `open_backend` knows.
        threads: CPU threads; 0 lets the backend choose.
        memory: Where the frames lie.
        start_timeout_s: How long the first start may take.
        budget: How often it may be started again; when that is used up, the next start waits for
            room.
        fallback: Whether onnxruntime-cpu may take over from a backend that does not start, or
            that uses up its restarts.
        batch: Frames that a process is to take together; None leaves that to it.
        gives_way: Whether the process takes the lowest priority; see `processes.give_way`.
    """

    def __init__(
        self,
        model: Model,
        backend: str,
        threads: int,
        memory: SharedMemory,
        *,
        start_timeout_s: float,
        budget: RestartBudget,
        fallback: bool,
        batch: int | None = None,
        gives_way: bool = False,
    ) -> None:
        super().__init__("engine")
        self.model = model
        self.state = EngineState.STOPPED
        self.worker: Worker | None = None
        """The process that is ready; None while there is none."""
        self.pid: int | None = None
        self.reasons: dict[str, str] = {}
        self.fallen_back = False
        self.restarts = self.faults = 0
        self.last_fault: str | None = None
        self._backend, self._threads, self._memory = backend, threads, memory
        self._batch, self._gives_way = batch, gives_way
        self._start_timeout_s, self._budget, self._fallback = start_timeout_s, budget, fallback
        self._started_once, self._failed_starts = False, 0
        self._told: set[str] = set()
        self._lock = threading.Lock()
        self._wake, self._settled = threading.Event(), threading.Event()

    def start(self) -> None:
        """Starts the thread, and with it the first process."""
        self.state = EngineState.STARTING
        super().start()

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop: the end of its process is no fault then."""
        return self._stopping.is_set()

    def wait_settled(self, timeout_s: float) -> None:
        """Waits until the first start has come to an end, good or bad."""
        self._settled.wait(timeout_s)

    def stop(self, timeout_s: float = STOP_S) -> None:
        """Kills the process and ends the thread."""
        self._stopping.set()
        self._wake.set()
        super().stop(timeout_s)
        self.state = EngineState.STOPPED
        self._settled.set()

    def note(self, fault: EngineFault) -> None:
        """Counts a fault, and keeps its text."""
        self.faults += 1
        self.last_fault = f"{fault.code}: {fault.text}"

    def lose(self, worker: Worker, why: str) -> bool:
        """Gives up a process, so that another is started; False if another thread just did."""
        with self._lock:
            if self.worker is not worker:
                return False
            self.worker, self.state = None, EngineState.RESTARTING
        log.warning("the engine process is lost: %s", why)
        worker.kill()
        self._wake.set()
        return True

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._guarded(self._bring_up)
            self._wake.wait(_WATCH_S)
            self._wake.clear()
            self._guarded(self._watch)
        with self._lock:
            worker, self.worker = self.worker, None
        if worker is not None:
            worker.kill()  # whoever asks it sees the end of its channel

    def _guarded(self, step: Callable[[], None]) -> None:
        """Takes a step; the thread outlives whatever happens, or nobody would look any more."""
        try:
            step()
        except Exception as error:  # noted, and told once
            fault = _fault_of(error)
            self.note(fault)
            if fault.text not in self._told:
                log.exception("looking after the engine process failed")
            self._told.add(fault.text)

    def _watch(self) -> None:
        worker = self.worker
        if worker is None:
            return
        fault = _fault_in(worker)
        if fault is not None and self.lose(worker, fault.text):
            self.note(fault)

    def _bring_up(self) -> None:
        if self.worker is not None:
            return
        if self._started_once:
            if not self._budget.take(time.monotonic_ns()):
                self._fail(f"{self._budget.restarts} restarts in {self._budget.window_s:g} s")
                return
            self.restarts += 1
            self._stopping.wait(_BACKOFF_S[min(self._failed_starts, len(_BACKOFF_S) - 1)])
        self._started_once = True
        begun = time.monotonic()
        try:
            worker = self._started()
        except Exception as error:  # as the memory or the descriptors used up
            if self._stopping.is_set():
                return
            self._failed_starts += 1
            fault = _fault_of(error)
            self.note(fault)
            self._fail(fault.text)
            return
        taken_s = time.monotonic() - begun
        self._start_timeout_s = max(_RESTART_LEAST_S, _RESTART_FACTOR * taken_s)
        self._failed_starts = 0
        with self._lock:
            self.worker, self.model, self.state = worker, worker.model, EngineState.READY
        self._settled.set()

    def _started(self) -> Worker:
        model = self._read_again() if self.restarts else self.model
        worker = Worker(
            model,
            self._backend,
            self._threads,
            self._memory,
            self._batch,
            self._gives_way,
        )
        self.pid = worker.pid
        try:
            ready = worker.wait_ready(self._start_timeout_s, self._stopping)
        except BaseException:
            worker.kill()
            raise
        log.info("engine process %d is ready with %s", worker.pid, ready.backend)
        return worker

    def _read_again(self) -> Model:
        """Reads the file as it is now: it may have been calibrated again meanwhile."""
        model = Model.read(self.model.path, self.model.trusted_keys)
        if model.metadata.input != self.model.metadata.input:
            raise EngineFault("no_model", f"{model.path} was replaced by one with another input")
        if model.hash != self.model.hash:
            log.warning("%s has changed; the engine now runs it as it is", model.path)
        return model

    def _fail(self, why: str) -> None:
        """Falls back where that is allowed, or waits for room in the budget."""
        if self._fallback and self._backend not in ON_CPU:
            log.warning("%s falls back to %s: %s", self._backend, ORT_CPU, why)
            self.reasons = {**self.reasons, self._backend: why}
            self._backend, self.fallen_back, self._started_once = ORT_CPU, True, False
            self._budget, self._failed_starts = self._budget.fresh(), 0
            self.state = EngineState.RESTARTING
            self._wake.set()
            return
        if self.state is not EngineState.FAILED:
            log.error("the engine has failed: %s", why)
        self.state = EngineState.FAILED
        self._settled.set()


def _fault_of(error: Exception) -> EngineFault:
    """Returns what went wrong as a fault."""
    if isinstance(error, EngineFault):
        return error
    if isinstance(error, DifferNetError):
        return EngineFault("no_model", str(error))
    return EngineFault("exception", f"{type(error).__name__}: {error}")


def _fault_in(worker: Worker) -> EngineFault | None:
    """Returns why a process has to be given up, if it has."""
    try:
        worker.drop_late()
    except EngineFault as fault:
        return fault
    if worker.overdue:
        return EngineFault("timeout", sentence("engine_hangs"))
    death = worker.died()
    return None if death is None else EngineFault("crashed", death)
