"""One frame's way to its verdict: preprocess, check, infer, decide. No other code gives verdicts.

Whatever runs the model plugs into it: a backend in this process (`Detector`), a process of its own
(`EngineProcess`), or scores that are known already (evaluation).
"""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendError, EngineFault, FrameError, ImageReadError
from ..model_file.metadata import Calibration, ModelMetadata
from ..records import Decision, Frame, Image, Score, Verdict
from .image_checks import IntegrityGate, no_decision
from .preprocess import preprocess


def inspect_frame(
    frame: Frame,
    engine: ScoringEngine,
    gate: IntegrityGate | None,
    *,
    threshold: float | None = None,
    until_ns: int | None = None,
    score_refused: bool = False,
) -> Inspected:
    """Gives the verdict on a frame.

    Args:
        frame: A frame of any source.
        engine: The engine that runs the model.
        gate: Image checks of the frame's source; None trusts every frame.
        threshold: Used in place of the model's.
        until_ns: `time.monotonic_ns()` until which the score is wanted.
        score_refused: Score frames that the gate refuses, too; their verdict stays NO_DECISION.
    """
    stages_ms: dict[str, float] = {}
    begun = last = time.perf_counter()

    def passed(stage: str) -> None:
        nonlocal last
        now = time.perf_counter()
        stages_ms[stage], last = (now - last) * 1e3, now

    def inspected(
        decision: Decision,
        answer: Answer | None = None,
        error: FrameError | BackendError | None = None,
    ) -> Inspected:
        return Inspected(decision, answer, stages_ms, (time.perf_counter() - begun) * 1e3, error)

    try:
        prepared = preprocess(frame.image, engine.metadata.input, engine.buffer())
        passed("preprocess")
        refused = gate.check(frame, prepared, time.monotonic_ns()) if gate is not None else None
        passed("integrity")
        if refused is not None and not score_refused:
            return inspected(refused)
        answer = engine.infer(prepared, _left_s(until_ns))
        passed("engine")
    except FrameError as error:
        return inspected(Decision.none("wrong_size", str(error)), error=error)
    except BackendError as error:
        passed("engine")
        return inspected(Decision.none(engine_code(error), str(error)), error=error)
    stages_ms["infer"] = answer.infer_ms
    if threshold is not None or refused is not None:
        threshold = answer.score.threshold if threshold is None else threshold
        score = replace(answer.score, threshold=threshold, refused=refused)
        answer = replace(answer, score=score)
    return inspected(decide(answer.score), answer)


def _left_s(until_ns: int | None) -> float | None:
    return None if until_ns is None else max(0.001, (until_ns - time.monotonic_ns()) / 1e9)


def judged(
    value: float,
    calibration: Calibration | None,
    heatmap: NDArray[np.float32] | None = None,
    heads: dict[str, float] | None = None,
) -> Score:
    """Returns a score with what is needed to judge it; without a threshold if there is none."""
    if calibration is None:
        return Score(value, None, None, heatmap=heatmap, heads=heads or {})
    good, percentile = calibration.good_scores, None
    if not math.isnan(value):
        percentile = 100.0 * bisect_right(good, value) / len(good)  # they are ascending
    return Score(
        value,
        calibration.threshold,
        percentile,
        calibration.lowest_plausible,
        heatmap,
        heads or {},
    )


def named_heads(heads: NDArray[np.float32] | None, metadata: ModelMetadata) -> dict[str, float]:
    """Returns the scores of one frame's heads by their names.

    Args:
        heads: `(1, H) float32` output of the graph; None if it has no such output.
        metadata: Metadata of the model, with the names of its H heads.

    Returns:
        The score of each head; empty if the model has none.

    Raises:
        EngineFault: The number of scores differs from the number of heads.
    """
    if heads is None or not metadata.heads:
        return {}
    expected = (1, len(metadata.heads))
    if heads.shape != expected:
        raise EngineFault(
            "bad_shape",
            f"the graph gives scores of heads in the shape {heads.shape}, but the file names "
            f"{len(metadata.heads)} heads: {expected} is expected. Export the model again.",
        )
    values = map(float, heads[0])
    return dict(zip((head.name for head in metadata.heads), values, strict=True))


def decide(score: Score) -> Decision:
    """Judges a score against its threshold.

    Args:
        score: Raw score with the model's threshold.

    Returns:
        DEFECT above the threshold, GOOD at or below it; NO_DECISION, with the reason, for a picture
        that can't be trusted, a score that is not finite or lies far below every good part's, or a
        model without a finite threshold. (NaN > threshold is False: without that check a gross
        defect would pass. A covered lens can score lower than any part.)
    """
    if score.refused is not None:
        return score.refused
    if not score.finite:
        return no_decision("not_finite", "score_not_finite", score=score.value)
    if not all(map(math.isfinite, score.heads.values())):
        return no_decision("not_finite", "heads_not_finite", scores=score.heads)
    if score.threshold is None:
        return no_decision("no_threshold", "no_threshold")
    if not math.isfinite(score.threshold):
        return no_decision("no_threshold", "threshold_not_finite", threshold=score.threshold)
    if score.lowest is not None and not score.value >= score.lowest:
        return no_decision(
            "implausible", "score_implausible", score=score.value, least=score.lowest
        )
    return Decision(Verdict.DEFECT if score.value > score.threshold else Verdict.GOOD)


def unreadable(error: ImageReadError) -> Decision:
    """Returns the verdict on a picture that can't be read."""
    return Decision.none("unreadable", error.cause)


def engine_code(error: BackendError) -> str:
    """Returns the code of the verdict; an engine that was stopped has no fault."""
    code = error.code if isinstance(error, EngineFault) else "exception"
    return code if code in ("not_finite", "stopped") else f"engine_{code}"


def frame_of(image: Image, name: str = "") -> Frame:
    """Returns a picture that comes from no camera as a frame."""
    return Frame(image, name, 0, time.monotonic_ns(), time.time())


@dataclass(frozen=True)
class Answer:
    """A frame's score, and which model gave it.

    Args:
        score: With the threshold of that very model, and its heatmap where it gives one.
        model_hash: Content hash of the model file.
        infer_ms: Milliseconds in the backend.
        backend: Name of the backend that ran (`onnxruntime-cpu`).
    """

    score: Score
    model_hash: str
    infer_ms: float
    backend: str


class ScoringEngine(Protocol):
    """Runs a model, in this process or another."""

    @property
    def metadata(self) -> ModelMetadata:
        """Metadata of the model."""

    def buffer(self) -> NDArray[np.uint8]:
        """Returns memory for the calling thread's prepared frame, `metadata.input.shape`."""

    def infer(self, prepared: NDArray[np.uint8], deadline_s: float | None = None) -> Answer:
        """Scores a prepared frame, within `deadline_s` where the engine can keep to it.

        Raises:
            BackendError: There is no score.
        """


@dataclass(frozen=True)
class Inspected:
    """What became of a frame.

    Args:
        decision: Verdict, code and reason.
        answer: None where the model did not score the frame.
        stages_ms: Milliseconds in `preprocess`, `integrity`, `engine` (the way to the model and
            back) and `infer` (the model alone, a part of it).
        total_ms: From the frame at hand to the verdict.
        error: The error that left the frame without a score; None if none occurred.
    """

    decision: Decision
    answer: Answer | None = None
    stages_ms: dict[str, float] = field(default_factory=dict)
    total_ms: float = 0.0
    error: FrameError | BackendError | None = None


@dataclass(frozen=True)
class Result(Score):
    """What a detector says of a picture: its score and the verdict.

    `value` is infinite where the picture was not scored, so that whoever compares it with the
    threshold rejects the part.
    """

    @classmethod
    def of(cls, score: Score) -> Result:
        """Returns the result of a score."""
        return cls(**vars(score))

    @property
    def decision(self) -> Decision:
        """Verdict and, for NO_DECISION, its code and reason."""
        return decide(self)

    @property
    def verdict(self) -> Verdict:
        """GOOD, DEFECT or NO_DECISION."""
        return self.decision.verdict

    @property
    def code(self) -> str | None:
        """Why there is no decision, for programs; None for GOOD and DEFECT."""
        return self.decision.code

    @property
    def reason(self) -> str | None:
        """Why there is no decision, in words; None for GOOD and DEFECT."""
        return self.decision.reason
