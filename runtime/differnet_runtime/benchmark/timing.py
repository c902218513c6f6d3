"""Timing one contender: inference by batch, then a frame's way stage by stage."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ..backends import Backend
from ..config.integrity import IntegrityConfig
from ..detector import Detector
from ..inspection import inspect_frame
from ..metadata import ModelMetadata
from ..preprocess import golden_frames
from ..records import Inspection
from .frames import FrameSource
from .records import STAGES, Samples


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Args:
        warm_up: Runs before each round that are not counted.
        runs: Counted runs of a round.
        rounds: Rounds; their medians show how steady the machine is.
        batches: Batches of inference alone; batch 1 is always measured.
    """

    warm_up: int = 20
    runs: int = 100
    rounds: int = 3
    batches: tuple[int, ...] = (1,)


@dataclass
class _Lap:
    """Times the parts of one frame's way."""

    last: int = field(default_factory=time.perf_counter_ns)

    def ms(self) -> float:
        now = time.perf_counter_ns()
        passed, self.last = now - self.last, now
        return passed / 1e6


def time_inference(
    backend: Backend, metadata: ModelMetadata, effort: Effort, batch: int
) -> Samples:
    """Times `Backend.infer` of a full batch that lies in the backend's own memory.

    The frames are the golden ones. All zeros would do the same work, but may be quicker.
    """
    frames = backend.buffer((batch, *metadata.input.shape))
    frames[...] = golden_frames(metadata.input, batch)
    return Samples(_rounds(lambda: backend.infer(frames), effort))


def _rounds(call: Callable[[], object], effort: Effort) -> np.ndarray:
    times = np.empty((effort.rounds, effort.runs))
    for row in times:
        for _ in range(effort.warm_up):
            call()
        for position in range(effort.runs):
            lap = _Lap()
            call()
            row[position] = lap.ms()
    return times


def time_stages(
    backend: Backend, metadata: ModelMetadata, source: FrameSource, effort: Effort
) -> tuple[dict[str, Samples], Samples]:
    """Times a frame's way, one frame after another, as `differnet run` goes it.

    What is published is the inspection's line of JSON, to a sink that drops it.

    Returns:
        The stages, and the total but for capture and for the copy that `differnet run` saves.

    Raises:
        CameraError: The source can't be opened, is lost, or gives nothing.
        ImageReadError: A picture can't be read.
        FrameError: Its frames do not fit the model.
        BackendError: Inference failed.
    """
    times = np.empty((effort.rounds, effort.runs, len(STAGES)))
    way = _Way(backend, metadata, source)
    with open(os.devnull, "w", encoding="utf-8") as sink:  # noqa: PTH123 - it has no path to join
        for row in times:
            for position in range(-effort.warm_up, effort.runs):
                stages = way.go(sink.write)
                if position >= 0:
                    row[position] = stages
    found = {name: Samples(times[:, :, k]) for k, name in enumerate(STAGES)}
    counted = [k for k, name in enumerate(STAGES) if name not in ("capture", "copy")]
    return found, Samples(times[:, :, counted].sum(axis=2))


class _Way:
    """Goes a frame's way, to the end also with frames that the gate would refuse."""

    def __init__(self, backend: Backend, metadata: ModelMetadata, source: FrameSource) -> None:
        # Drawn frames have a size that the model need not know.
        self._detector = Detector.over(backend, metadata, integrity=IntegrityConfig(size="any"))
        self._gate = self._detector.gate()
        self._frames = source.frames()
        self._elsewhere = np.empty(metadata.input.shape, np.uint8)

    def go(self, publish: Callable[[str], object]) -> list[float]:
        """Returns the milliseconds of each of `STAGES` for the next frame."""
        lap = _Lap()
        frame = next(self._frames)
        capture_ms = lap.ms()
        found = inspect_frame(frame, self._detector, self._gate, score_refused=True)
        if found.error is not None:
            raise found.error
        assert found.answer is not None
        lap.ms()
        np.copyto(self._elsewhere, self._detector.buffer())
        copy_ms = lap.ms()
        inspection = Inspection(
            frame.name, frame.index, frame.captured_at_s, found.decision, found.answer.score
        )
        publish(json.dumps(inspection.record(), allow_nan=False) + "\n")
        publish_ms = lap.ms()
        known = [found.stages_ms[name] for name in ("preprocess", "integrity", "infer")]
        preprocess_ms, integrity_ms, infer_ms = known
        decide_ms = found.total_ms - sum(known)
        return [
            capture_ms, preprocess_ms, integrity_ms, copy_ms, infer_ms, decide_ms, publish_ms
        ]  # fmt: skip
