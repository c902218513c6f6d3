"""A frame's way, top to bottom: camera, detector, decision, inspection."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import count

from .cameras import Camera
from .decision import decide
from .detector import Detector
from .errors import BackendError, FrameError, ImageReadError
from .records import Decision, Frame, Inspection, Score, Verdict


def inspect(
    camera: Camera, detector: Detector, *, threshold: float | None = None
) -> Iterator[tuple[Frame | None, Inspection]]:
    """Inspects every frame of a source.

    A picture that can't be read, does not fit or can't be scored is a NO_DECISION with its
    reason: it is neither dropped nor good, and the next one is inspected.

    Args:
        camera: An open source.
        detector: An open model.
        threshold: Used in place of the model's.

    Yields:
        The frame (None if it could not be read) and what is known of it. `stages_ms` holds
        `capture` (the wait for the frame included), `preprocess`, `infer`, and `total`: from
        the frame at hand to the verdict.

    Raises:
        CameraError: The source is lost.
    """
    for index in count():
        start = time.perf_counter()
        try:
            frame = camera.read()
        except ImageReadError as error:
            undecided = Decision(Verdict.NO_DECISION, error.cause)
            stages_ms = {"capture": _ms_since(start), "total": 0.0}
            yield None, Inspection(error.name, index, time.time(), undecided, None, stages_ms)
            continue
        if frame is None:
            return
        capture_ms = _ms_since(start)
        inspection = inspect_frame(frame, detector, threshold=threshold)
        stages_ms = {"capture": capture_ms, **inspection.stages_ms}
        yield frame, replace(inspection, stages_ms=stages_ms)


def inspect_frame(
    frame: Frame, detector: Detector, *, threshold: float | None = None
) -> Inspection:
    """Inspects one frame; see `inspect`."""
    start = time.perf_counter()
    score: Score | None = None
    stages_ms: dict[str, float] = {}
    try:
        score = detector(frame.image)
    except (FrameError, BackendError) as error:
        decision = Decision(Verdict.NO_DECISION, str(error))
    else:
        if threshold is not None:
            score = replace(score, threshold=threshold)
        decision, stages_ms = decide(score), detector.stages_ms
    stages_ms = {**stages_ms, "total": _ms_since(start)}
    return Inspection(frame.name, frame.index, frame.captured_at_s, decision, score, stages_ms)


def _ms_since(start: float) -> float:
    return (time.perf_counter() - start) * 1e3
