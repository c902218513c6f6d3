"""The messages between the station and its engine process, and the status of that process.

Frames and heatmaps lie in shared memory beside them; see `memory`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from ..backends.fake import PREFIX
from ..model_file.contract import InputContract, StrictModel, Views
from ..model_file.metadata import Calibration, ExtractorSpec, FlowSpec, ModelMetadata, Provenance


class EngineState(str, Enum):
    """State of the engine process; `no_model` while there is nothing to run."""

    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    FAILED = "failed"
    STOPPED = "stopped"
    NO_MODEL = "no_model"


@dataclass(frozen=True)
class EngineStatus:
    """A snapshot of an engine process.

    Args:
        state: Only a `ready` process scores frames.
        backend: Name of the backend that runs; None until it is ready.
        reasons: Why each better backend does not run, by its name.
        fallback: Whether the backend is the fallback rather than the one that was asked for.
        model: Name of the model.
        model_hash: Content hash of the model file.
        restarts: Number of restarts since the start.
        faults: Number of frames without a score and of processes that died.
        answers: Number of frames with a score.
        last_fault: The last fault in words.
        pid: Process id, if there is a process.
        batches: Number of batches by their size.
    """

    state: EngineState
    backend: str | None = None
    reasons: dict[str, str] = field(default_factory=dict)
    fallback: bool = False
    model: str = ""
    model_hash: str = ""
    restarts: int = 0
    faults: int = 0
    answers: int = 0
    last_fault: str | None = None
    pid: int | None = None
    batches: dict[int, int] = field(default_factory=dict)


FAKE_METADATA = ModelMetadata(
    name=PREFIX,
    input=InputContract(height=256, width=256),
    views=Views(angles=(0.0,), trained="any"),
    extractor=ExtractorSpec(name=PREFIX, tap=None, channels=1, weights_sha256=""),
    flow=FlowSpec(features=2),
    calibration=Calibration(
        threshold=200.0,
        false_reject_rate=0.05,
        confidence=0.95,
        bound=1.0,
        good_scores=(0.0, 128.0, 200.0),
        images=3,
        scored_by=PREFIX,
    ),
    provenance=Provenance(
        recipe=PREFIX, seed=0, images=0, epochs=0, data_sha256="", created="", versions={}
    ),
)
"""The fake backend's model: the score is the mean brightness, and a bright frame is a defect."""


class EngineOptions(StrictModel):
    """The options of an engine process.

    Args:
        backend: `auto`, or a name that `open_backend` knows.
        threads: CPU threads; 0 lets the backend choose.
        batch: Greatest batch; None takes 4 on a GPU and 1 on the CPU.
        gives_way: Whether the process takes the lowest priority; see `processes.give_way`.
    """

    backend: str
    threads: int
    batch: int | None
    gives_way: bool


class EngineStart(StrictModel):
    """The argument of the engine process.

    Args:
        model: The model file; None runs the fake backend's model.
        model_hash: Content hash of the model file; a file that was changed meanwhile is refused.
        options: Backend, CPU threads, greatest batch and priority.
        shape: `(height, width, channels)` of the graph's input.
        memory: File descriptor of the shared memory.
    """

    model: Path | None
    model_hash: str
    options: EngineOptions
    shape: tuple[int, int, int]
    memory: int


class Ready(StrictModel):
    """The model is loaded and has passed its golden frames.

    Args:
        kind: Always the word `ready`.
        backend: Name of the backend that runs.
        reasons: Why each better backend does not run, by its name.
        batch: Greatest batch that it takes.
    """

    kind: Literal["ready"] = "ready"
    backend: str
    reasons: dict[str, str]
    batch: int


class EngineFailed(StrictModel):
    """The model can't be run; the process ends."""

    kind: Literal["failed"] = "failed"
    code: str
    text: str


class ScoreRequest(StrictModel):
    """Asks for the scores of the frames in some slots of the shared memory."""

    id: int
    slots: tuple[int, ...]


class FrameScored(StrictModel):
    """A frame's score.

    Args:
        kind: Always the word `scored`.
        score: A finite number, greater for more anomalous frames.
        heads: Score of each head by its name, in the model's order; empty if it has none.
        heatmap: `(rows, columns)` of the heatmap in the frame's slot; None without one.
    """

    kind: Literal["scored"] = "scored"
    score: float
    heads: dict[str, float] = Field(default_factory=dict)
    heatmap: tuple[int, int] | None


class Unscored(StrictModel):
    """The frame has no score; the process goes on."""

    kind: Literal["unscored"] = "unscored"
    code: str
    text: str


FrameResult = Annotated[FrameScored | Unscored, Field(discriminator="kind")]


class ScoreResults(StrictModel):
    """The results of a request.

    Args:
        kind: Always the word `results`.
        id: Number of the request.
        frames: One result for each slot, in their order.
        infer_ms: Milliseconds in the backend.
    """

    kind: Literal["results"] = "results"
    id: int
    frames: tuple[FrameResult, ...]
    infer_ms: float


ANSWER: TypeAdapter[Ready | EngineFailed | ScoreResults] = TypeAdapter(
    Annotated[Ready | EngineFailed | ScoreResults, Field(discriminator="kind")]
)
