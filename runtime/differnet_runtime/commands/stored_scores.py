"""Scores for `differnet calibrate` from verdicts that a station or `differnet run` stored.

A log has a JSON object on each line; a station's database is its index of kept pictures
(`evidence/index.sqlite`) or its outbox (`outbox.sqlite`).
"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from differnet_runtime.database import read_rows
from differnet_runtime.errors import CalibrationError, DataError
from differnet_runtime.suggestions import nearest

_SQLITE = b"SQLite format 3\0"
_REJECTED = "rejected without a label (counted as above the threshold)"

Verdict = Mapping[str, Any]


@dataclass
class StoredScores:
    """What one camera's verdicts say of good parts.

    Args:
        good: Scores of parts that passed or are labelled good, by the event's id or its number.
        left_out: How many other verdicts there were, by reason.
    """

    good: dict[str, float] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def rejected(self) -> int:
        """How many were rejected and have no label, so that they may be good."""
        return self.left_out[_REJECTED]

    def told(self) -> str:
        """Says what was left out, and why."""
        return ", ".join(f"{count} {reason}" for reason, count in self.left_out.items() if count)


@dataclass(frozen=True)
class Judge:
    """The model whose scores are wanted.

    Args:
        hash: Of its file's content, for verdicts that name their model.
        threshold: Its threshold, by which verdicts that name none are told from another model's;
            None without one.
    """

    hash: str
    threshold: float | None


def read_scores(path: Path, judge: Judge, camera: str | None = None) -> StoredScores:
    """Reads the scores of one model and one camera, each event once.

    A defect's score would raise the threshold over the next defect, so that only parts that passed
    or are labelled good count; how many were left out, and why, is told on standard error.

    Args:
        path: A log of events or a station's database.
        judge: The model.
        camera: Its name; None where there is one camera only.

    Raises:
        DataError: The file can't be read, a line is not an event, or it is not said which of
            several cameras is meant.
        StoreError: The database can't be read.
        CalibrationError: It holds no score of a good part by this model.
    """
    cameras: dict[str | None, StoredScores] = {}
    seen: set[str] = set()
    other_events = 0
    for number, verdict in enumerate(_verdicts(path), 1):
        if verdict.get("type", "inspection") != "inspection" or "verdict" not in verdict:
            other_events += 1
            continue
        name = str(verdict.get("id") or f"number {number}")
        of = verdict.get("camera")
        if of is not None and not isinstance(of, str):
            raise DataError(
                f"{path}: the camera of verdict {name} is {of!r}, and a name is expected"
            )
        stored = cameras.setdefault(of, StoredScores())
        reason = "there twice" if name in seen else _why_not(verdict, judge)
        seen.add(name)
        if reason is None:
            stored.good[name] = float(verdict["score"])
        else:
            stored.left_out[reason] += 1
    found = cameras.pop(_chosen(path, cameras, camera), StoredScores())
    others = sum(len(one.good) + one.left_out.total() for one in cameras.values())
    found.left_out.update({"of other cameras": others, "no verdicts": other_events})
    if found.told():
        print(f"left out: {found.told()}", file=sys.stderr)
    if not found.good:
        raise CalibrationError(
            f"{path} holds no score that this model gave a good part "
            f"({found.told() or 'it has no verdicts'})"
        )
    return found


def _chosen(
    path: Path, cameras: Mapping[str | None, StoredScores], camera: str | None
) -> str | None:
    """Returns the camera that was asked for, or the only one with scores of good parts."""
    usable = {name: len(one.good) for name, one in cameras.items() if one.good}
    listed = ", ".join(f"{name or 'no name'} ({count})" for name, count in usable.items())
    if camera is not None:
        if camera not in cameras:
            close = nearest(camera, filter(None, cameras))
            known = f"with scores of good parts it has {listed or 'none'}"
            raise DataError(
                f"--camera {camera}: {path} has no verdicts of this camera; "
                + (f"did you mean {close}?" if close else known)
            )
        return camera
    if len(usable) > 1:
        raise DataError(
            f"{path} has scores of good parts of several cameras, which need a threshold each: "
            f"{listed}. Choose one: --camera NAME"
        )
    return next(iter(usable or cameras), None)


def _why_not(verdict: Verdict, judge: Judge) -> str | None:
    """Returns why a verdict's score is not to be used, or None."""
    label, decided = verdict.get("label"), verdict.get("verdict")
    if decided not in ("GOOD", "DEFECT") or not _is_score(verdict.get("score")):
        return "without a decision or a score"
    model = verdict.get("model")
    if isinstance(model, dict):
        if model.get("hash") != judge.hash:
            return "of another model"
    elif verdict.get("threshold") != judge.threshold:
        return "judged by another threshold, perhaps of another model"
    if label in (None, "good", "defect"):
        passed = label == "good" or (label is None and decided == "GOOD")
        return None if passed else "labelled defects" if label else _REJECTED
    return "with a label other than good and defect"


def _is_score(value: object) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False


def _verdicts(path: Path) -> Iterator[Verdict]:
    try:
        with path.open("rb") as file:
            start = file.read(len(_SQLITE))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    return _rows(path) if start == _SQLITE else _lines(path)


def _rows(path: Path) -> Iterator[Verdict]:
    tables = {row["name"] for row in read_rows(path, "SELECT name FROM sqlite_master")}
    if "picture" in tables:
        yield from read_rows(path, "SELECT * FROM picture ORDER BY row")
    elif "event" in tables:
        for row in read_rows(path, "SELECT row, text FROM event ORDER BY row"):
            yield _event(path, f"row {row['row']}", row["text"])
    else:
        raise DataError(
            f"{path} is no database of a station's verdicts; expected evidence/index.sqlite or "
            "outbox.sqlite in its state folder"
        )


def _lines(path: Path) -> Iterator[Verdict]:
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _event(path, f"line {number}", line)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error


def _event(path: Path, where: str, text: str | bytes) -> Verdict:
    try:
        event = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path}, {where}: not JSON ({error}); a log of events has one on each line"
        ) from error
    if not isinstance(event, dict):
        raise DataError(f"{path}, {where}: a JSON object is expected; received {event!r:.60}")
    return event
