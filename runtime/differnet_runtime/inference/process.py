"""The engine as the cameras' threads use it: a model in a process of its own.

It is asked with a deadline, killed when it hangs, and started again. `AbsentEngine` stands in for
it while there is no model.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..backends.fake import PREFIX
from ..backends.selection import AUTO, GPU, ORT_TENSORRT, TENSORRT
from ..errors import EngineFault
from ..inspection.verdict import Answer, judged
from ..model_file.metadata import ModelMetadata
from ..sentences import sentence
from .memory import expected_memory
from .messages import FAKE_METADATA, EngineOptions, EngineState, EngineStatus, FrameScored
from .supervisor import Model, RestartBudget, Supervisor, Worker
from .turns import BatchEntry, Callers, FifoLock, SharedMemory, ThreadSlots, remaining_s

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


class EngineProcess:
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
        self._deadline_s = deadline_s
        self._memory, self._slots = SharedMemory(*read.metadata.input.shape), ThreadSlots()
        self.turns = FifoLock(self._run, self._size, callers, batch_wait_s)
        """The threads that score a frame or wait for their turn."""
        self._answers, self._batches, self._batch = 0, dict[int, int](), batch
        self._last: tuple[Worker, int] | None = None
        self._alone = 0
        builds = backend in (AUTO, GPU, TENSORRT, ORT_TENSORRT)
        self._supervisor = Supervisor(
            read,
            EngineOptions(backend=backend, threads=threads, batch=batch, gives_way=gives_way),
            self._memory,
            start_timeout_s=start_timeout_s or (_START_BUILDING_S if builds else _START_S),
            budget=restarts or RestartBudget(),
            fallback=fallback and model is not None,
        )

    @property
    def metadata(self) -> ModelMetadata:
        """Metadata of the model, with the input contract for preprocessing."""
        return self._supervisor.model.metadata

    @property
    def model_hash(self) -> str:
        """Content hash of the model file."""
        return self._supervisor.model.hash

    @property
    def file_bytes(self) -> int:
        """Size of the model file; 0 with a fake backend."""
        return self._supervisor.model.file_bytes

    @property
    def expected_memory(self) -> int:
        """Memory that the process is expected to take on the CPU, in bytes."""
        return expected_memory(self.metadata, self.file_bytes, self._batch or 1)

    def start(self) -> None:
        """Starts the process; `wait_ready` waits for the model."""
        self._supervisor.start()

    @property
    def alive(self) -> bool:
        """Whether the supervising thread runs; the process itself may have died."""
        return self._supervisor.alive

    @property
    def ready(self) -> bool:
        """Whether there is a process that can score frames."""
        return self._supervisor.worker is not None

    @property
    def wanted(self) -> bool:
        """Whether a frame is being scored, waits, or is about to ask for its turn."""
        return self.turns.wanted

    def wait_ready(self, timeout_s: float) -> bool:
        """Waits until it is ready or has failed to start; returns whether it is ready."""
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
            if self._supervisor.stopping:
                raise EngineFault("stopped", sentence("engine_was_stopped")) from fault
            if fault.code not in _NOT_THE_FRAMES and not self._hurried(fault, limit_s):
                self._supervisor.note(fault)
            raise
        return self._answer(found)

    def _hurried(self, fault: EngineFault, limit_s: float) -> bool:
        """Whether the caller's own short limit was the cause, rather than an engine that hangs."""
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

    def _size(self) -> int:
        """Returns how large the next batch may be."""
        worker = self._supervisor.worker
        if worker is None or worker.ready is None:
            return 1
        self._note_loss(worker)
        return 1 if self._alone else worker.ready.batch

    def _note_loss(self, worker: Worker) -> None:
        """Has the next frames go alone if the last process was lost with a batch."""
        last, size = self._last or (worker, 1)
        if last is not worker and (size > 1 or self._alone):
            self._last, self._alone = (worker, 1), _ALONE

    def _run(self, entries: Sequence[BatchEntry[_Found]]) -> list[_Found | EngineFault]:
        """Scores a batch; only one thread at a time calls it."""
        supervisor, count = self._supervisor, len(entries)
        worker = supervisor.worker
        if worker is None:
            state, last = supervisor.state, supervisor.last_fault
            code = "no_model" if state is EngineState.FAILED else "starting"
            text = sentence(f"engine_is_{state.value}") + (f": {last}" if last else "")
            return [EngineFault(code, text) for _ in entries]
        self._note_loss(worker)
        self._last = worker, count
        until_ns = max(entry.until_ns for entry in entries)
        limit_s = max(self._deadline_s * count, remaining_s(until_ns))
        try:
            results = worker.ask(tuple(entry.slot for entry in entries), until_ns, limit_s)
        except EngineFault as fault:
            if fault.code == "crashed" or worker.overdue:
                supervisor.lose(worker, fault.text)
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
        """Returns at once."""
        yield

    def infer(self, prepared: NDArray[np.uint8], deadline_s: float | None = None) -> Answer:  # noqa: ARG002
        """Raises an `EngineFault` with the code `no_model`."""
        raise EngineFault("no_model", self._why())

    @property
    def status(self) -> EngineStatus:
        """The state `no_model`; the last fault says what to do."""
        return EngineStatus(EngineState.NO_MODEL, last_fault=self._why())
