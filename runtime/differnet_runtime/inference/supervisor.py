"""Keeps an engine process running: starts, watches, restarts and replaces it.

`Worker` is one engine process, asked with deadlines. `Supervisor` starts workers within a budget of
restarts, or falls back to the CPU.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from ..backends.fake import PREFIX
from ..backends.selection import ON_CPU, ORT_CPU
from ..errors import DifferNetError, EngineFault
from ..model_file.contract import check_views
from ..model_file.file import content_hash, read_model_file
from ..model_file.metadata import ModelMetadata
from ..model_file.signing import require_signature
from ..processes import Child
from ..sentences import sentence
from ..service import STOP_S, Backoff, Service
from .messages import (
    ANSWER,
    FAKE_METADATA,
    EngineFailed,
    EngineOptions,
    EngineStart,
    EngineState,
    Ready,
    ScoreRequest,
    ScoreResults,
)
from .turns import SharedMemory, remaining_s

_POLL_S, _WATCH_S = 0.1, 0.2
_RESTART_LEAST_S, _RESTART_FACTOR = 10.0, 3.0
"""A restart that takes this many times as long as the first start is taken for hung."""

log = logging.getLogger(__name__)


class Supervisor(Service):
    """Owns the engine processes, in a thread of its own: the kernel ends them with the thread.

    Args:
        model: The model that they run.
        options: Backend, CPU threads, greatest batch and priority.
        memory: Shared memory for frames and heatmaps.
        start_timeout_s: How long the first start may take.
        budget: Limit of restarts; when it is used up, the next start waits for room.
        fallback: Whether onnxruntime-cpu may replace a backend that does not start, or that uses
            up its restarts.
    """

    def __init__(
        self,
        model: Model,
        options: EngineOptions,
        memory: SharedMemory,
        *,
        start_timeout_s: float,
        budget: RestartBudget,
        fallback: bool,
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
        self._options, self._memory = options, memory
        self._start_timeout_s, self._budget, self._fallback = start_timeout_s, budget, fallback
        self._started_once, self._backoff = False, Backoff()
        self._lock = threading.Lock()
        self._wake, self._settled = threading.Event(), threading.Event()

    def start(self) -> None:
        """Starts the thread, and with it the first process; `wait_ready` waits for the model."""
        self.state = EngineState.STARTING
        super().start()

    @property
    def ready(self) -> bool:
        """Whether there is a process that can score frames."""
        return self.worker is not None

    @property
    def why(self) -> str:
        """Why it scores no frame, in words."""
        return self.last_fault or sentence(f"engine_is_{self.state.value}")

    def wait_ready(self, timeout_s: float) -> bool:
        """Waits until it is ready or has failed to start; returns whether it is ready."""
        self._settled.wait(timeout_s)
        return self.state is EngineState.READY

    def stop(self, timeout_s: float = STOP_S) -> None:
        """Kills the process and ends the thread."""
        self._stopping.set()
        self._wake.set()
        super().stop(timeout_s)
        self.state = EngineState.STOPPED
        self._settled.set()

    def note(self, fault: EngineFault) -> None:
        """Counts a fault, and keeps its text as the last one."""
        self.faults += 1
        self.last_fault = f"{fault.code}: {fault.text}"

    def lose(self, worker: Worker, why: str) -> bool:
        """Ends a process, so that another is started; False if another thread just did that."""
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
        """Takes a step; logs an unexpected error once, so that the thread outlives it."""
        try:
            step()
        except Exception as error:
            self.note(_fault_of(error))
            self._log_once("looking after the engine process failed", error)

    def _watch(self) -> None:
        worker = self.worker
        fault = None if worker is None else worker.fault()
        if worker is not None and fault is not None and self.lose(worker, fault.text):
            self.note(fault)

    def _bring_up(self) -> None:
        if self.worker is not None:
            return
        if self._started_once:
            if not self._budget.take(time.monotonic_ns()):
                self._fail(f"{self._budget.restarts} restarts in {self._budget.window_s:g} s")
                return
            self.restarts += 1
        self._stopping.wait(self._backoff.next_s())
        self._started_once = True
        begun = time.monotonic()
        try:
            worker = self._started()
        except Exception as error:  # such as memory or descriptors that are used up
            if not self._stopping.is_set():
                fault = _fault_of(error)
                self.note(fault)
                self._fail(fault.text)
            return
        taken_s = time.monotonic() - begun
        self._start_timeout_s = max(_RESTART_LEAST_S, _RESTART_FACTOR * taken_s)
        self._backoff.reset()
        with self._lock:
            self.worker, self.model, self.state = worker, worker.model, EngineState.READY
        self._settled.set()

    def _started(self) -> Worker:
        model = self._read_again() if self.restarts else self.model
        worker = Worker(model, self._options, self._memory)
        self.pid = worker.pid
        try:
            ready = worker.wait_ready(self._start_timeout_s, self._stopping)
        except BaseException:
            worker.kill()
            raise
        log.info("engine process %d is ready with %s", worker.pid, ready.backend)
        return worker

    def _read_again(self) -> Model:
        """Reads the file anew: it may have been calibrated again meanwhile."""
        model = Model.read(self.model.path, self.model.trusted_keys)
        if model.metadata.input != self.model.metadata.input:
            raise EngineFault("no_model", f"{model.path} was replaced by one with another input")
        if model.hash != self.model.hash:
            log.warning("%s has changed; the engine now runs it as it is", model.path)
        return model

    def _fail(self, why: str) -> None:
        """Falls back to the CPU if that is allowed, or waits for room in the budget."""
        backend = self._options.backend
        if self._fallback and backend not in ON_CPU:
            log.warning("%s falls back to %s: %s", backend, ORT_CPU, why)
            self.reasons = {**self.reasons, backend: why}
            self._options = self._options.model_copy(update={"backend": ORT_CPU})
            self.fallen_back, self._started_once = True, False
            self._backoff.reset()
            self._budget = RestartBudget(self._budget.restarts, self._budget.window_s)
            self.state = EngineState.RESTARTING
            self._wake.set()
            return
        if self.state is not EngineState.FAILED:
            log.error("the engine has failed: %s", why)
        self.state = EngineState.FAILED
        self._settled.set()


@dataclass
class RestartBudget:
    """Limits the restarts of a process within a sliding window of time.

    Args:
        restarts: Greatest number of restarts within the window.
        window_s: Length of the window in seconds.
    """

    restarts: int = 5
    window_s: float = 60.0
    _spent_ns: deque[int] = field(default_factory=deque, init=False, repr=False)

    def take(self, now_ns: int) -> bool:
        """Spends a restart; returns False if none is left."""
        while self._spent_ns and now_ns - self._spent_ns[0] >= self.window_s * 1e9:
            self._spent_ns.popleft()
        if len(self._spent_ns) >= self.restarts:
            return False
        self._spent_ns.append(now_ns)
        return True


class Worker:
    """One engine process, from its start to its end.

    Args:
        model: The model that it runs.
        options: Backend, CPU threads, greatest batch and priority.
        memory: Shared memory for frames and heatmaps.

    Raises:
        EngineFault: No process can be started.
    """

    def __init__(self, model: Model, options: EngineOptions, memory: SharedMemory) -> None:
        self.model = model
        self.ready: Ready | None = None
        self._pending: _Pending | None = None
        self._next_id = 0
        self._asking = threading.Lock()
        start = EngineStart(
            model=model.path,
            model_hash=model.hash,
            options=options,
            shape=model.metadata.input.shape,
            memory=memory.descriptor,
        )
        try:
            self._child = Child(
                f"{__package__}.child",
                start.model_dump_json(),
                title=sentence("engine_process"),
                pass_fds=(memory.descriptor,),
            )
        except OSError as error:
            text = f"no engine process can be started: {error}"
            raise EngineFault("crashed", text) from error

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
        """Asks for the scores of the frames in some slots, and waits for them.

        Args:
            slots: Slots of the shared memory.
            until_ns: `time.monotonic_ns()` until which the caller needs the answer.
            limit_s: How long the process may work on them.

        Raises:
            EngineFault: There is no answer. `overdue` then says whether the process hangs.
        """
        with self._asking:
            if self._pending and self._answer(until_ns) is None:
                raise EngineFault("timeout", sentence("engine_on_earlier"))
            self._next_id += 1
            request = ScoreRequest(id=self._next_id, slots=slots)
            self._pending = _Pending(request.id, time.monotonic_ns() + int(limit_s * 1e9))
            try:
                self._child.send(request)
            except OSError as error:
                raise EngineFault("crashed", self._child.death()) from error
            answer = self._answer(until_ns)
        if answer is None:
            raise EngineFault("timeout", sentence("engine_late"))
        return answer

    @property
    def overdue(self) -> bool:
        """Whether it has worked on a request for longer than it may."""
        pending = self._pending
        return pending is not None and time.monotonic_ns() >= pending.kill_ns

    def fault(self) -> EngineFault | None:
        """Returns why the process has to be given up, or None.

        The answer to a frame whose caller has given up is received and dropped, if it is there.
        """
        if self._asking.acquire(blocking=False):  # else another thread waits for an answer
            try:
                self._answer(time.monotonic_ns())
            except EngineFault as fault:
                return fault
            finally:
                self._asking.release()
        if self.overdue:
            return EngineFault("timeout", sentence("engine_hangs"))
        return None if self._child.code is None else EngineFault("crashed", self._child.death())

    def kill(self) -> None:
        """Ends the process; one that the kernel can't end (in a driver) is left behind."""
        self._child.kill()
        with self._asking:
            self._child.channel.close()

    def _answer(self, until_ns: int) -> ScoreResults | None:
        """Returns the answer to the pending request, or None if it does not come in time."""
        while self._pending and (answer := self._receive(remaining_s(until_ns))) is not None:
            if isinstance(answer, ScoreResults) and answer.id == self._pending.id:
                self._pending = None
                return answer
        return None

    def _receive(self, timeout_s: float) -> Ready | EngineFailed | ScoreResults | None:
        try:
            return self._child.receive(ANSWER, timeout_s)
        except EOFError as error:
            raise EngineFault("crashed", self._child.death()) from error
        except (OSError, ValidationError) as error:
            text = f"{self._child.death()} ({type(error).__name__})"
            raise EngineFault("crashed", text) from error


@dataclass(frozen=True)
class _Pending:
    """The request that a process works on; at `kill_ns` it is taken for hung."""

    id: int
    kill_ns: int


@dataclass(frozen=True)
class Model:
    """A model file as the station knows it: its metadata, but not its weights.

    Args:
        path: The model file; None for the fake backend's model.
        hash: Content hash of the file.
        metadata: Metadata of the file.
        trusted_keys: Public keys of which one must have signed it; empty accepts any file.
        file_bytes: Size of the file.
    """

    path: Path | None
    hash: str
    metadata: ModelMetadata = field(repr=False)
    trusted_keys: tuple[str, ...] = ()
    file_bytes: int = 0

    @classmethod
    def read(cls, path: Path | None, trusted_keys: tuple[str, ...] = ()) -> Model:
        """Reads and checks a model file.

        Raises:
            ModelFileError: It can't be used, or none of the keys has signed it.
            SigningError: Signatures can't be checked here.
            ViewsError: Its views were never trained, or can't be had with its input.
        """
        if path is None:
            return cls(None, PREFIX, FAKE_METADATA)
        data, metadata = read_model_file(path)
        require_signature(data, str(path), trusted_keys)
        check_views(metadata.views, metadata.input)
        return cls(path.absolute(), content_hash(data), metadata, trusted_keys, len(data))


def _fault_of(error: Exception) -> EngineFault:
    """Converts an error to a fault."""
    if isinstance(error, EngineFault):
        return error
    if isinstance(error, DifferNetError):
        return EngineFault("no_model", str(error))
    return EngineFault("exception", f"{type(error).__name__}: {error}")
