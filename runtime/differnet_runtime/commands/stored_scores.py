"""Scores for `differnet calibrate` from what a run or the daemon wrote: JSON lines of verdicts."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from differnet_runtime.errors import CalibrationError, DataError


def read_scores(path: Path, model_hash: str, camera: str | None = None) -> list[float]:
    """Reads the scores of one model from a file of events, each event once.

    What has no score (NO_DECISION, states) is left out, and so is another model's score; how many
    is told on standard error.

    Args:
        path: JSON lines, as `differnet run --output` and the daemon's sink write them.
        model_hash: Content hash of the model, for lines that name one.
        camera: Only this camera's.

    Raises:
        DataError: The file can't be read, or a line is not an event; names the line.
        CalibrationError: It holds no score of this model.
    """
    scores: list[float] = []
    seen: set[str] = set()
    left_out = {"without a score": 0, "of another model": 0, "there twice": 0}
    for event in _events(path):
        if camera is not None and event.get("camera") != camera:
            continue
        reason = _why_not(event, model_hash, seen)
        if reason is None:
            scores.append(float(event["score"]))
        else:
            left_out[reason] += 1
    told = ", ".join(f"{count} {reason}" for reason, count in left_out.items() if count)
    if told:
        print(f"left out: {told}", file=sys.stderr)
    if not scores:
        raise CalibrationError(
            f"{path} holds no score of this model ({told or 'it has no verdicts'})"
        )
    return scores


def _why_not(event: dict[str, Any], model_hash: str, seen: set[str]) -> str | None:
    """Returns why an event's score is not to be used, or None."""
    score, model = event.get("score"), event.get("model")
    if not _is_score(score) or event.get("verdict") == "NO_DECISION":
        return "without a score"
    if isinstance(model, dict) and model.get("hash") != model_hash:
        return "of another model"
    identity = event.get("id")
    if identity is not None and str(identity) in seen:  # a sink delivers at least once
        return "there twice"
    seen.add(str(identity))
    return None


def _is_score(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _events(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _event(path, number, line)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error


def _event(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError as error:
        raise DataError(
            f"{path}, line {number}: not JSON ({error}); a file of events has one on each line"
        ) from error
    if not isinstance(event, dict):
        raise DataError(f"{path}, line {number}: a JSON object is expected; received {event!r:.60}")
    return event
