"""Timing one contender: inference by batch, then a frame's way stage by stage."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ..backends import Backend
from ..calibration import judged
from ..decision import decide
from ..metadata import ModelMetadata
from ..preprocess import golden_frames, preprocess
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
    """Times a frame's way, one frame after another, as `inspector.inspect` goes it.

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
    def __init__(self, backend: Backend, metadata: ModelMetadata, source: FrameSource) -> None:
        self._backend, self._metadata = backend, metadata
        self._frames = source.frames()
        self._buffer = backend.buffer((1, *metadata.input.shape))
        self._elsewhere = np.empty(metadata.input.shape, np.uint8)

    def go(self, publish: Callable[[str], object]) -> list[float]:
        """Returns the milliseconds of each of `STAGES` for the next frame."""
        lap = _Lap()
        frame = next(self._frames)
        stages = [lap.ms()]
        preprocess(frame.image, self._metadata.input, self._elsewhere)
        stages.append(lap.ms())
        np.copyto(self._buffer[0], self._elsewhere)
        stages.append(lap.ms())
        found = self._backend.infer(self._buffer)
        stages.append(lap.ms())
        heatmap = None if found.heatmaps is None else found.heatmaps[0]
        score = judged(float(found.scores[0]), self._metadata.calibration, heatmap)
        decision = decide(score)
        stages.append(lap.ms())
        inspection = Inspection(frame.name, frame.index, frame.captured_at_s, decision, score)
        publish(json.dumps(inspection.record(), allow_nan=False) + "\n")
        stages.append(lap.ms())
        return stages
