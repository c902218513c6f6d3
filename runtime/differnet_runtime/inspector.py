"""The frames of a source, one after another, each to its verdict."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import count

from .cameras import Camera
from .cameras.repetition import Repetition
from .detector import Detector
from .errors import ImageReadError
from .inspection import inspect_frame, unreadable
from .records import Frame, Inspection

_STALE_AFTER_S = 2.0
"""A live frame that is older says nothing of the part that is there now; as in a station."""


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
        camera: An open source.
        detector: An open model; what it checks of a picture is checked here.
        threshold: Used in place of the model's.
        score_refused: Score pictures that can't be trusted, too; they stay NO_DECISION.

    Yields:
        The frame (None if it could not be read) and what is known of it. `stages_ms` holds
        `capture` (the wait for the frame included), the stages of `inspection.Inspected`, and
        `total`: from the frame at hand to the verdict.

    Raises:
        CameraError: The source is lost.
    """
    gate = detector.gate(
        live=camera.live, stale_after_s=_STALE_AFTER_S if camera.live else math.inf
    )
    repetition = Repetition()
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
            frame = replace(frame, unchanged_s=repetition.seconds(frame))
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
