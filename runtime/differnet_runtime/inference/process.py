"""The engine as the cameras' threads use it: a model in a process of its own.

It is asked with a deadline, killed when it hangs, and started again. `AbsentEngine` stands in for
it while there is no model.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..backends.fake import PREFIX
from ..backends.selection import AUTO, GPU, ON_CPU, ON_GPU, ORT_TENSORRT, TENSORRT
from ..errors import EngineFault
from ..inspection.verdict import Answer, judged
from ..model_file.metadata import ModelMetadata
from ..sentences import sentence
from .memory import expected_memory
from .messages import FAKE_METADATA, EngineOptions, EngineState, EngineStatus, FrameScored
from .supervisor import Model, RestartBudget, Supervisor, Worker
from .turns import BatchEntry, Callers, FifoLock, SharedMemory, remaining_s

_START_S, _START_BUILDING_S = 120.0, 1800.0
_ALONE = 64
"""Number of frames that go alone after a process was lost with a batch, one of which may be the
cause."""
_NOT_THE_FRAMES = ("busy", "starting", "no_model")
"""Codes of faults that reveal nothing new about the engine."""


class _Found(NamedTuple):
    """A frame's score, the slot of its heatmap, and the process that computed it."""

    scored: FrameScored
    slot: int
    worker: Worker
    infer_ms: float


class EngineProcess(Supervisor):
    """Scores frames for any number of threads, in a process that may die.

    Frames that wait at the same time go through it as one batch, if `batch` allows it.

    Args:
        model: The model file; None with a `fake` backend.
        backend: `auto`, or a name that `open_backend` knows.
        threads: CPU threads; 0 lets the backend choose.
        deadline_s: How long a frame may take; then the process is taken for hung, and killed.
        start_timeout_s: How long the first start may take; None allows half an hour where TensorRT
            may build an engine, and two minutes elsewhere.
        restarts: Limit of restarts; None for the defaults of `RestartBudget`.
        fallback: Whether onnxruntime-cpu may replace a backend that does not start, or that uses
            up its restarts.
        trusted_keys: Public keys (see `signing`) of which one must have signed the model file;
            empty accepts any file.
        batch: Greatest batch; None takes 4 on a GPU and 1 on the CPU.
        batch_wait_s: How long a frame may wait for others.
        callers: The cameras that may ask; without them, only threads that wait already share a
            batch.
        gives_way: Whether its process takes the lowest priority; see `processes.give_way`.

    Raises:
        ModelFileError: The file can't be used, or none of the keys has signed it.
        SigningError: Signatures can't be checked here.
        ViewsError: Its views were never trained, or can't be had with its input.

    Example:
        >>> engine = EngineProcess(Path("part.onnx"))  # doctest: +SKIP
        >>> engine.start()  # doctest: +SKIP
        >>> engine.wait_ready(60.0)  # doctest: +SKIP
        >>> answer = engine.infer(prepared)  # doctest: +SKIP
    """

    absent = False  # True for `AbsentEngine`

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
        batch: int | None = None,
        batch_wait_s: float = 0.0,
        callers: Callers | None = None,
        gives_way: bool = False,
    ) -> None:
        read = Model.read(model, trusted_keys)
        self.thresholds: Mapping[str, float | None] = {}
        """Configured thresholds by the cameras that it is meant for; None takes the model's."""
        builds = backend in (AUTO, GPU, TENSORRT, ORT_TENSORRT)
        super().__init__(
            read,
            EngineOptions(backend=backend, threads=threads, batch=batch, gives_way=gives_way),
            SharedMemory(*read.metadata.input.shape),
            start_timeout_s=start_timeout_s or (_START_BUILDING_S if builds else _START_S),
            budget=restarts or RestartBudget(),
            fallback=fallback and model is not None,
        )
        self._deadline_s = deadline_s
        self.turns = FifoLock(self._score, self._size, callers, batch_wait_s)
        """The threads that score a frame or wait for their turn."""
        self._answers, self._batches = 0, dict[int, int]()
        self._last: tuple[Worker, int] | None = None
        self._alone = 0
        self.leases = 0
        """Number of frames that lease it; see `ModelSwitch.lease`."""

    @property
    def metadata(self) -> ModelMetadata:
        """Metadata of the model, with the input contract for preprocessing."""
        return self.model.metadata

    @property
    def model_hash(self) -> str:
        """Content hash of the model file."""
        return self.model.hash

    @property
    def expected_memory(self) -> int:
        """Memory that the process is expected to take on the CPU, in bytes."""
        return expected_memory(self.metadata, self.model.file_bytes, self._options.batch or 1)

    @property
    def wanted(self) -> bool:
        """Whether a frame is being scored, waits, or is about to ask for its turn."""
        return self.turns.wanted

    def buffer(self) -> NDArray[np.uint8]:
        """Returns the calling thread's `(height, width, C)` uint8, for its prepared frames."""
        return self._memory.frame(self.turns.slot())

    @contextlib.contextmanager
    def turn(self, timeout_s: float | None = None) -> Iterator[None]:
        """Waits for a place in the next batch, so that the caller can take its newest frame then.

        Without it a frame waits behind those of the other cameras, and is old when it is judged.
        `infer` uses the place; until then the rest of the batch waits for this thread.

        Raises:
            EngineFault: The turn did not come in time.
        """
        timeout_s = self._deadline_s if timeout_s is None else timeout_s
        if not self.turns.take(timeout_s):
            raise EngineFault("busy", sentence("engine_busy", waited_s=timeout_s))
        try:
            yield
        finally:
            self.turns.give_back()

    def infer(self, prepared: NDArray[np.uint8], deadline_s: float | None = None) -> Answer:
        """Scores a prepared frame.

        Args:
            prepared: `metadata.input.shape` uint8; the thread's `buffer` saves a copy.
            deadline_s: Time limit in seconds, including the wait for other cameras; None for the
                engine's own.

        Raises:
            EngineFault: There is no score; `code` is one of timeout, crashed, exception,
                not_finite, bad_shape, starting, no_model, busy, stopped.
        """
        limit_s = self._deadline_s if deadline_s is None else deadline_s
        until_ns = time.monotonic_ns() + int(limit_s * 1e9)
        try:
            slot = self._place(prepared)
            with self.turn(limit_s):
                found = self.turns.submit(slot, until_ns)
        except EngineFault as fault:
            if self._stopping.is_set():
                raise EngineFault("stopped", sentence("engine_was_stopped")) from fault
            if fault.code not in _NOT_THE_FRAMES and not self._hurried(fault, limit_s):
                self.note(fault)
            raise
        return self._answer(found)

    def _hurried(self, fault: EngineFault, limit_s: float) -> bool:
        """Whether the caller's own short limit was the cause, rather than an engine that hangs."""
        worker = self.worker
        in_time = worker is not None and not worker.overdue
        return fault.code == "timeout" and limit_s < self._deadline_s and in_time

    def _place(self, prepared: NDArray[np.uint8]) -> int:
        slot = self.turns.slot()
        own = self._memory.frame(slot)
        if prepared.shape != own.shape or prepared.dtype != np.uint8:
            raise EngineFault(
                "bad_shape",
                f"the model takes {own.shape} uint8; received {prepared.shape} {prepared.dtype}",
            )
        if not np.shares_memory(prepared, own):
            own[:] = prepared
        return slot

    def _size(self) -> int:
        """Returns how large the next batch may be."""
        worker = self.worker
        if worker is None or worker.ready is None:
            return 1
        self._note_loss(worker)
        return 1 if self._alone else worker.ready.batch

    def _note_loss(self, worker: Worker) -> None:
        """Has the next frames go alone if the last process was lost with a batch."""
        last, size = self._last or (worker, 1)
        if last is not worker and (size > 1 or self._alone):
            self._last, self._alone = (worker, 1), _ALONE

    def _score(self, entries: Sequence[BatchEntry[_Found]]) -> list[_Found | EngineFault]:
        """Scores a batch; only one thread at a time calls it."""
        worker, count = self.worker, len(entries)
        if worker is None:
            code = "no_model" if self.state is EngineState.FAILED else "starting"
            why = f": {self.last_fault}" if self.last_fault else ""
            text = sentence(f"engine_is_{self.state.value}") + why
            return [EngineFault(code, text) for _ in entries]
        self._note_loss(worker)
        self._last = worker, count
        until_ns = max(entry.until_ns for entry in entries)
        limit_s = max(self._deadline_s * count, remaining_s(until_ns))
        try:
            results = worker.ask(tuple(entry.slot for entry in entries), until_ns, limit_s)
        except EngineFault as fault:
            if fault.code == "crashed" or worker.overdue:
                self.lose(worker, fault.text)
            return [EngineFault(fault.code, fault.text) for _ in entries]
        self._batches[count] = self._batches.get(count, 0) + 1
        outcomes: list[_Found | EngineFault] = [
            _Found(frame, entry.slot, worker, results.infer_ms)
            if isinstance(frame, FrameScored)
            else EngineFault(frame.code, frame.text)
            for frame, entry in zip(results.frames, entries, strict=True)
        ]
        scored = sum(isinstance(outcome, _Found) for outcome in outcomes)
        self._answers += scored
        self._alone = max(0, self._alone - scored)
        return outcomes

    def _answer(self, found: _Found) -> Answer:
        scored, worker = found.scored, found.worker
        shape, ready = scored.heatmap, worker.ready
        assert ready is not None, "only a ready process is asked"
        heatmap = None if shape is None else self._memory.heatmap(found.slot, *shape).copy()
        return Answer(
            judged(scored.score, worker.model.metadata.calibration, heatmap, scored.heads),
            model_hash=worker.model.hash,
            infer_ms=found.infer_ms,
            backend=ready.backend,
        )

    @property
    def status(self) -> EngineStatus:
        """The current status."""
        worker = self.worker
        ready = worker.ready if worker else None
        return EngineStatus(
            state=self.state,
            backend=ready.backend if ready else None,
            reasons={**(ready.reasons if ready else {}), **self.reasons},
            fallback=self.fallen_back,
            model=self.metadata.name,
            model_hash=self.model_hash,
            restarts=self.restarts,
            faults=self.faults,
            answers=self._answers,
            last_fault=self.last_fault,
            pid=self.pid,
            batches=dict(self._batches),
        )


NO_METADATA = FAKE_METADATA.replaced(name="", calibration=None)
"""Metadata without a model: without a threshold, nothing can be GOOD."""


class AbsentEngine(EngineProcess):
    """An engine without a model: it runs no process, and scores no frame.

    Args:
        why: Returns why there is no model, and what to do: the text of each `EngineFault`.
    """

    absent = True
    alive, expected_memory = True, 0

    def __init__(self, why: Callable[[], str]) -> None:
        super().__init__(None, backend=PREFIX)
        self.model, self._advice = Model(None, "", NO_METADATA), why
        self._settled.set()

    @property
    def why(self) -> str:
        """Why there is no model, and what to do."""
        return self._advice()

    def start(self) -> None:
        """Starts nothing."""

    @contextlib.contextmanager
    def turn(self, timeout_s: float | None = None) -> Iterator[None]:  # noqa: ARG002
        """Returns at once."""
        yield

    def infer(self, prepared: NDArray[np.uint8], deadline_s: float | None = None) -> Answer:  # noqa: ARG002
        """Raises an `EngineFault` with the code `no_model`."""
        raise EngineFault("no_model", self.why)

    @property
    def status(self) -> EngineStatus:
        """The state `no_model`; the last fault says what to do."""
        return EngineStatus(EngineState.NO_MODEL, last_fault=self.why)


_POLL_S = 0.02

log = logging.getLogger(__name__)


class ModelSwitch:
    """Holds the current engine; each frame leases it, and so is judged by one model only.

    Args:
        engine: The first engine, started; this object stops it.
        make: Makes an engine process for another model file, not yet started.
        answers: Frames that a new model must score without a fault before the old one is stopped.
        longest_s: Seconds after which it has passed without a fault, even with fewer frames.

    Example:
        >>> with switch.lease() as engine, engine.turn():  # doctest: +SKIP
        ...     answer = engine.infer(preprocess(frame, engine.metadata.input, engine.buffer()))
    """

    def __init__(
        self,
        engine: EngineProcess,
        make: Callable[[Path | None], EngineProcess],
        *,
        answers: int = 10,
        longest_s: float = 5.0,
    ) -> None:
        self.engine = engine
        """The current engine, for its status; `lease` it for a frame."""
        self._make = make
        self._candidate: EngineProcess | None = None
        self._answers, self._longest_s = answers, longest_s
        self._changed = threading.Condition()
        self._switching = threading.Lock()
        self._stopping = threading.Event()

    @contextlib.contextmanager
    def lease(self) -> Iterator[EngineProcess]:
        """Keeps the current engine from being stopped while a frame is judged."""
        with self._changed:
            engine = self.engine
            engine.leases += 1
        try:
            yield engine
        finally:
            with self._changed:
                engine.leases -= 1
                if engine is not self.engine:  # `_drain` may wait for it
                    self._changed.notify_all()

    def to(self, model: Path | None) -> EngineProcess:
        """Changes to another model file; blocks until the new model has passed its probation.

        The old model judges meanwhile, and after every failure; building an engine for the new one
        may take minutes.

        Raises:
            ModelFileError: The file can't be used.
            EngineFault: It can't be loaded, fails its golden frames, runs only on the CPU while
                the old one runs on the GPU, or failed under load and was taken back.
        """
        with self._switching:
            new = self._candidate = self._make(model)
            new.start()
            try:
                if self._stopping.is_set():
                    new.stop()
                _require_ready(new, model)
                _require_the_gpu(new, self.engine, model)
                self._replace(new, model)
            except BaseException:
                new.stop()
                raise
            return new

    def _replace(self, new: EngineProcess, model: Path | None) -> None:
        old, self.engine = self.engine, new
        log.info("%s judges now, on probation", model)
        if not self._passes(new):
            why = new.why
            self.engine = old
            self._drain(new)
            log.warning("%s was taken back: %s", model, why)
            raise EngineFault("no_model", sentence("model_failed", model=model, why=why))
        self._drain(old)
        old.stop()

    def _passes(self, engine: EngineProcess) -> bool:
        until = time.monotonic() + self._longest_s
        while time.monotonic() < until and not self._stopping.is_set():
            status = engine.status
            if status.faults:
                return False
            if status.answers >= self._answers:
                return True
            self._stopping.wait(_POLL_S)
        return not engine.status.faults

    def _drain(self, engine: EngineProcess) -> None:
        """Waits for the frames that still lease an engine, which their deadlines bound."""
        with self._changed:
            self._changed.wait_for(lambda: engine.leases == 0, timeout=self._longest_s)

    def stop(self, timeout_s: float = 2.0) -> None:
        """Stops the current engine, and a change that is under way."""
        until = time.monotonic() + timeout_s
        self._stopping.set()
        if self._candidate is not None:
            self._candidate.stop(timeout_s)
        if self._switching.acquire(timeout=max(0.0, until - time.monotonic())):  # it has ended
            self._switching.release()
        self.engine.stop(max(0.1, until - time.monotonic()))


def _require_ready(engine: EngineProcess, model: Path | None) -> None:
    if not engine.wait_ready(_START_BUILDING_S):
        raise EngineFault("no_model", sentence("model_unusable", model=model, why=engine.why))


def _require_the_gpu(new: EngineProcess, old: EngineProcess, model: Path | None) -> None:
    """Refuses a model that runs only on the CPU, not by choice, after one that runs on a GPU."""
    found, before = new.status, old.status
    if found.backend in ON_CPU and found.reasons and before.backend in ON_GPU:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in found.reasons.items())
        text = sentence(
            "model_only_cpu", model=model, backend=before.backend, why=reasons, cpu=found.backend
        )
        raise EngineFault("no_model", text)


def check_model(model: Path, *, backend: str = "auto", threads: int = 0) -> None:
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
        _require_ready(engine, model)
    finally:
        engine.stop()
