"""What an engine process gives, and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from ..backends.fake import PREFIX
from ..inspection import Answer as Answer
from ..metadata import (
    Calibration,
    ExtractorSpec,
    FlowSpec,
    InputContract,
    ModelMetadata,
    Provenance,
    Views,
    check_views,
)
from ..model_file import content_hash, read_model_file
from ..signing import require_signature


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
