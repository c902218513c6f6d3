"""What an engine process gives, and what is known of it.

What the daemon and the engine process say to each other, beside the frames' shared memory.

The start is one JSON argument; each message is one JSON packet on a socket pair.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from ..backends.fake import PREFIX
from ..model_file.contract import InputContract, StrictModel, Views, check_views
from ..model_file.file import content_hash, read_model_file
from ..model_file.metadata import Calibration, ExtractorSpec, FlowSpec, ModelMetadata, Provenance
from ..model_file.signing import require_signature


class EngineState(str, Enum):
    """What the engine process does; `no_model` where there is nothing to run yet."""

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
        state: Only `ready` scores frames.
        backend: What runs; None until it is ready.
        reasons: Why no better backend does, by the name of each; a fallback is among them.
        fallback: Whether the backend is the fallback, and not the one that was asked for.
        model: The model's name.
        model_hash: Its content hash.
        restarts: Since the start; faults and answers likewise.
        faults: Frames without a score, and processes that died.
        answers: Frames with a score.
        last_fault: In words.
        pid: Of the process, if there is one.
        batches: How often it was given so many frames together.
    """

    state: EngineState
    backend: str | None
    reasons: dict[str, str]
    fallback: bool
    model: str
    model_hash: str
    restarts: int
    faults: int
    answers: int
    last_fault: str | None
    pid: int | None
    batches: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """A model file as the daemon knows it: what it says of itself, but not its weights.

    Args:
        path: None for the fake backend's model.
        hash: Content hash.
        metadata: All that the file says.
        trusted_keys: Public keys of which one must have signed it; empty for no such demand.
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


PACKET = 65536
"""Greatest message in bytes."""
MOST_TEXT = 4000
"""Characters of an error that are passed on."""
MOST_FRAME_TEXT = 1000
"""Likewise of one frame's; a message may hold one for each of 32."""


class EngineStart(StrictModel):
    """What the engine process is to run.

    Args:
        model: The model file; None runs the fake backend's model.
        model_hash: Its content hash; a file that was changed meanwhile is refused.
        backend: `auto`, or a name that `open_backend` knows.
        threads: CPU threads; 0 lets the backend choose.
        batch: Frames that it is to take together; None leaves that to it.
        height: Height of the graph's input in pixels.
        width: Likewise.
        channels: Its channels.
        channel: The socket's file descriptor.
        memory: The shared memory's.
        parent: Process id of the daemon, without which this process ends.
        gives_way: Whether to take the lowest priority; see `processes.give_way`.
    """

    model: Path | None
    model_hash: str
    backend: str
    threads: int
    batch: int | None
    height: int
    width: int
    channels: int
    channel: int
    memory: int
    parent: int
    gives_way: bool = False


class Ready(StrictModel):
    """The model is loaded and has passed its golden frames.

    Args:
        kind: Always `ready`.
        backend: What runs.
        reasons: Why not a better one, by the name of each.
        batch: Frames that it takes together.
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
    """Frames lie in slots of the shared memory."""

    id: int
    slots: tuple[int, ...]


class FrameScored(StrictModel):
    """A frame's score.

    Args:
        kind: Always `scored`.
        score: A finite number.
        heads: Score of each head by its name, in the model's order; empty where it has none.
        heatmap: Rows and columns of the heatmap, which lies in the frame's slot; None for none.
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
    """What became of a request's frames.

    Args:
        kind: Always `results`.
        id: Of the request.
        frames: In the order of its slots.
        infer_ms: Milliseconds in the backend.
    """

    kind: Literal["results"] = "results"
    id: int
    frames: tuple[FrameResult, ...]
    infer_ms: float


ANSWER: TypeAdapter[Ready | EngineFailed | ScoreResults] = TypeAdapter(
    Annotated[Ready | EngineFailed | ScoreResults, Field(discriminator="kind")]
)
