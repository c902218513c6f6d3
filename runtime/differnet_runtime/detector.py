"""The detector: judges frames with a model file, its preprocessing and a backend.

`inspect` judges the frames of a source, one after another.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from .backends.base import Backend, Outputs, greatest_relative_difference
from .backends.selection import choose
from .cameras import Camera
from .cameras.base import FreezeDetector
from .config.models import IntegrityConfig
from .errors import BackendError, EngineFault, ImageReadError
from .images import read_image
from .inspection.image_checks import IntegrityGate
from .inspection.preprocess import checked, golden_frames
from .inspection.verdict import (
    Answer,
    Result,
    frame_of,
    inspect_frame,
    judged,
    named_heads,
    unreadable,
)
from .model_file.contract import check_views
from .model_file.file import content_hash, read_model_file
from .model_file.metadata import ModelMetadata
from .records import Decision, Frame, Image, Inspection

log = logging.getLogger(__name__)

CHECKED = IntegrityConfig()
"""Checks of a picture with the model's limits."""
_LIMIT = 1e-2
"""Greatest relative difference of a score that counts as the same; leaves room for FP16."""


class Detector(AbstractContextManager["Detector"]):
    """Judges frames with an exported model.

    Args:
        model: Path of a file that `differnet export` wrote.
        backend: `auto`, or a name that `open_backend` knows.
        threads: CPU threads for inference; 0 lets the backend choose.
        integrity: The checks of a picture before it is scored: by default, that its size is known
            to the model, and that it is neither black nor overexposed nor blurred. None scores
            every picture unchecked.

    Raises:
        ModelFileError: The file can't be used.
        ViewsError: The file's views were never trained, or can't be had with its input.
        BackendError: No backend can run it.

    Example:
        >>> with Detector("part.onnx") as detector:  # doctest: +SKIP
        ...     result = detector("part.png")
        ...     print(result.verdict, result.value, result.threshold)
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        backend: str = "auto",
        threads: int = 0,
        integrity: IntegrityConfig | None = CHECKED,
    ) -> None:
        data, metadata = read_model_file(model)
        check_views(metadata.views, metadata.input)
        choice = choose(backend, data, path=Path(model), threads=threads)
        self._hold(choice.backend, metadata, integrity)
        self._model_hash = content_hash(data)
        self.not_better = choice.reasons
        """Why `auto` chose no better backend, by the name of each."""

    @classmethod
    def over(
        cls,
        backend: Backend,
        metadata: ModelMetadata,
        *,
        integrity: IntegrityConfig | None = CHECKED,
    ) -> Detector:
        """Returns a detector over an open backend."""
        detector = cls.__new__(cls)
        detector._hold(backend, metadata, integrity)
        detector._model_hash, detector.not_better = "", {}
        return detector

    def _hold(
        self, backend: Backend, metadata: ModelMetadata, integrity: IntegrityConfig | None
    ) -> None:
        self.metadata, self._backend, self._integrity = metadata, backend, integrity
        self.outputs: Callable[[NDArray[np.uint8]], Outputs] = backend.infer
        """Runs the graph, unchecked, on a batch of its input, `(N, height, width, C)` uint8."""
        self._frame = backend.buffer((1, *metadata.input.shape))
        self._gate = self.gate()
        self.stages_ms: dict[str, float] = {}
        """Milliseconds of the last call, by stage; see `inspection.verdict.Inspected`."""

    @property
    def backend(self) -> str:
        """Name of the backend that runs."""
        return self._backend.name

    def gate(self, *, live: bool = False, stale_after_s: float = math.inf) -> IntegrityGate | None:
        """Returns a gate for the frames of one source; None if nothing is to be checked.

        Args:
            live: Whether the source is live, so that it can freeze, and keeps its frame size.
            stale_after_s: Age in seconds from which a frame is refused.
        """
        if self._integrity is None:
            return None
        return IntegrityGate(
            self._integrity,
            self.metadata,
            live=live,
            stale_after_s=stale_after_s,
            one_size=live,
        )

    def __call__(self, frame: Image | str | os.PathLike[str]) -> Result:
        """Judges one picture.

        Args:
            frame: `(H, W, 3)` BGR or `(H, W)` grey, uint8 or uint16; or the path of a picture file.

        Returns:
            The score and the verdict, with threshold and good-percentile if the model is
            calibrated. A picture that can't be decoded, does not fit the model or can't be trusted
            is NO_DECISION, with an infinite score.

        Raises:
            FrameError: The array is no picture; without `integrity`, also a picture that does not
                fit the model's input contract.
            ImageReadError: The file can't be opened; without `integrity`, also one that can't be
                decoded.
            BackendError: Inference failed.
        """
        gate = self._gate
        if isinstance(frame, (str, os.PathLike)):
            try:
                frame = read_image(Path(frame))
            except ImageReadError as error:
                if gate is None or isinstance(error.__cause__, OSError):
                    raise
                return self._refused(unreadable(error))
        checked(frame)
        found = inspect_frame(frame_of(frame), self, gate)
        self.stages_ms = found.stages_ms
        if found.error is not None and (gate is None or isinstance(found.error, BackendError)):
            raise found.error
        return Result.of(found.answer.score) if found.answer else self._refused(found.decision)

    def _refused(self, decision: Decision) -> Result:
        calibration = self.metadata.calibration
        threshold = calibration.threshold if calibration else None
        return Result(math.inf, threshold, None, refused=decision)

    def buffer(self) -> NDArray[np.uint8]:
        """Returns the backend's memory for a prepared frame, `metadata.input.shape` uint8."""
        own: NDArray[np.uint8] = self._frame[0]
        return own

    def infer(
        self,
        prepared: NDArray[np.uint8],
        deadline_s: float | None = None,  # noqa: ARG002 - a call in this process can't be ended
    ) -> Answer:
        """Scores a prepared frame, without a time limit; see `inspection.verdict.ScoringEngine`."""
        begun = time.perf_counter()
        found = self.outputs(prepared[None])
        infer_ms = (time.perf_counter() - begun) * 1e3
        if found.scores.shape != (1,):
            raise EngineFault(
                "bad_shape",
                f"{self.backend} gave scores of shape {found.scores.shape}, expected (1,)",
            )
        score = judged(
            float(found.scores[0]),
            self.metadata.calibration,
            None if found.heatmaps is None else found.heatmaps[0],
            named_heads(found.heads, self.metadata),
        )
        return Answer(score, self._model_hash, infer_ms, self.backend)

    def score_input(self, prepared: NDArray[np.uint8]) -> float:
        """Scores one frame that is already the graph's input.

        Args:
            prepared: `metadata.input.shape` uint8, the result of `preprocess`.

        Raises:
            BackendError: Inference failed.
        """
        return self.infer(prepared).score.value

    def tested_batch(self, most: int) -> int:
        """Returns the greatest batch that the backend scores like single frames.

        Args:
            most: Greatest batch of golden frames to try.
        """
        frames = golden_frames(self.metadata.input)
        alone = np.array([self.score_input(frame) for frame in frames])
        most = min(most, self._backend.batch or most)
        for together in range(2, most + 1):
            chosen = np.arange(together) % len(frames)
            try:
                scores = self.outputs(np.ascontiguousarray(frames[chosen])).scores
            except BackendError as error:
                log.warning("%s can't take %d frames at once: %s", self.backend, together, error)
                return together - 1
            if scores.shape != (together,) or not np.allclose(scores, alone[chosen], _LIMIT, 1e-12):
                log.warning("%s gives wrong scores for %d frames at once", self.backend, together)
                return together - 1
        return max(1, most)

    def self_test(self) -> float:
        """Scores the golden frames and compares them with those written in the file.

        Returns:
            The greatest relative difference found.

        Raises:
            BackendError: It exceeds 1e-2, so this device can't run this model.
        """
        if self.metadata.verification is None:
            raise BackendError("the model file holds no golden scores; export it again")
        expected = np.array(self.metadata.verification.golden_scores)
        frames = golden_frames(self.metadata.input, len(expected))
        actual = np.array([self.score_input(frame) for frame in frames])
        difference = greatest_relative_difference(actual, expected)
        if not difference <= _LIMIT:
            raise BackendError(
                f"{self.backend} scores the golden frames {actual.tolist()}, but the file says "
                f"{expected.tolist()} (relative difference {difference:.2g}, limit {_LIMIT:g})"
            )
        return difference

    def close(self) -> None:
        """Releases the backend."""
        self._backend.close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


_STALE_AFTER_S = 2.0
"""Age from which a live frame is refused, the same as in a station."""


def inspect(
    camera: Camera,
    detector: Detector,
    *,
    threshold: float | None = None,
    score_refused: bool = False,
) -> Iterator[tuple[Frame | None, Inspection]]:
    """Inspects every frame of a source.

    A picture that can't be read, can't be trusted, does not fit or can't be scored is a NO_DECISION
    with its reason: it is neither dropped nor good, and the next one is inspected. Only the frames
    of a live source can be too old or frozen.

    Args:
        camera: An open source of frames.
        detector: An open model, whose checks apply.
        threshold: Replaces the model's threshold.
        score_refused: Whether to score pictures that can't be trusted; they stay NO_DECISION.

    Yields:
        The frame (None if it could not be read) and its inspection. `stages_ms` holds `capture`
        (including the wait for the frame), the stages of `inspection.verdict.Inspected`, and
        `total`, from the frame in memory to the verdict.

    Raises:
        CameraError: The source is lost.

    Example:
        >>> with open_camera("parts/") as camera, Detector(path) as detector:  # doctest: +SKIP
        ...     for frame, inspection in inspect(camera, detector):
        ...         print(inspection.decision.verdict)
    """
    gate = detector.gate(
        live=camera.live, stale_after_s=_STALE_AFTER_S if camera.live else math.inf
    )
    freeze = FreezeDetector()
    for index in count():
        start = time.perf_counter()
        try:
            frame = camera.read()
        except ImageReadError as error:
            stages_ms = {"capture": _ms_since(start), "total": 0.0}
            undecided = unreadable(error)
            yield None, Inspection(error.name, index, time.time(), undecided, None, stages_ms)
            continue
        if frame is None:
            return
        if camera.live:
            frame = replace(frame, unchanged_s=freeze.seconds(frame))
        capture_ms = _ms_since(start)
        found = inspect_frame(
            frame, detector, gate, threshold=threshold, score_refused=score_refused
        )
        yield (
            frame,
            Inspection(
                frame.name,
                frame.index,
                frame.captured_at_s,
                found.decision,
                found.answer.score if found.answer else None,
                {"capture": capture_ms, **found.stages_ms, "total": found.total_ms},
            ),
        )


def _ms_since(start: float) -> float:
    return (time.perf_counter() - start) * 1e3
