"""Scores for `differnet calibrate` from verdicts that a station or `differnet run` stored.

A log has a JSON object on each line; a station's database is its index of kept pictures
(`evidence/index.sqlite`) or its outbox (`outbox.sqlite`).

Labels of a station as a data set: pictures by class, and how they were taken.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..config import load_config
from ..database import read_rows
from ..errors import CalibrationError, DataError
from ..evidence.pictures import find
from ..files import write_bytes
from ..images import read_image
from ..inspection.capture_record import CaptureRecord, View, write_capture
from ..labels import FILE, LIST, Labelled
from ..model_file.contract import StrictModel
from ..text import instead, nearest

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
class ScoringModel:
    """The model whose scores are wanted.

    Args:
        hash: Of its file's content, for verdicts that name their model.
        threshold: Its threshold, by which verdicts that name none are told from another model's;
            None without one.
    """

    hash: str
    threshold: float | None


def read_scores(path: Path, judge: ScoringModel, camera: str | None = None) -> StoredScores:
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


def _why_not(verdict: Verdict, judge: ScoringModel) -> str | None:
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


GROUPS = r"([^/]+)__[^/]+__[0-9a-f]{32}\.\w+$"
"""Names the part in an exported picture's path."""

_DEFECT = "defect"
"""Kind of those defects for which nobody named one."""

_UNSAFE = re.compile(r"[^A-Za-z0-9.-]+")


class Exported(StrictModel):
    """What was exported.

    Args:
        pictures: How many of each class, by its folder.
        gone: Labels whose pictures are no longer kept.
    """

    pictures: dict[str, int]
    gone: int


def state_of(station: Path) -> Path:
    """Returns a station's state folder, given it or the configuration.

    Raises:
        ConfigError: The configuration is wrong.
    """
    return station if station.is_dir() else load_config(station).config.station.state


def read_labels(state: Path, camera: str | None) -> list[Labelled]:
    """Returns the labels, the latest first.

    Raises:
        DataError: There is no station's state, or no such camera has a label.
        StoreError: The database can't be read.
    """
    path = state / FILE
    if not path.is_file():
        raise DataError(
            f"{state} holds no labels ({FILE}): give the configuration or the state folder of a "
            "station that has run with this version"
        )
    found = [Labelled.model_validate(row) for row in read_rows(path, LIST)]
    cameras = sorted({one.camera for one in found})
    if camera is not None and camera not in cameras:
        known = instead(camera, cameras) if cameras else "there are none yet"
        raise DataError(f"there are no labels of a camera {camera!r}; {known}")
    return [one for one in found if camera in (None, one.camera)]


def picture_of(state: Path, id_: str) -> Path | None:
    """Returns the file of a labelled picture; None where it is no longer kept."""
    return find(state / "evidence", id_, "input")


def export(state: Path, labels: Iterable[Labelled], output: Path) -> Exported:
    """Writes a data set: `good`, a folder for each kind of defect, `capture.json`.

    A picture's name begins with its part, so that pictures of one part stay together.

    Args:
        state: The station's state folder.
        labels: Those to export, the latest first; one whose picture is gone is counted only.
        output: New or empty.

    Raises:
        DataError: Nothing can be exported, the folder is not empty, or the cameras' models have
            different regions.
        OutputError: The data set can't be written.
    """
    if output.is_dir() and any(output.iterdir()):
        raise DataError(f"--output {output} is not empty: give a new folder")
    kept, gone = [], 0
    for one in labels:
        if (path := picture_of(state, one.id)) is None:
            gone += 1
        else:
            kept.append((one, path))
    if not kept:
        why = f": the pictures of all {gone} are gone" if gone else "; there are none yet"
        raise DataError(f"no labelled picture can be exported{why}")
    view = _view(one for one, _ in kept)
    counts: Counter[str] = Counter()
    written = output
    for one, path in kept:
        folder = "good" if one.label == "good" else one.kind or _DEFECT
        try:
            data = path.read_bytes()
        except FileNotFoundError:  # the station runs, and just let it go
            gone += 1
            continue
        written = output / folder / _name(one, path.suffix)
        write_bytes(written, data)
        counts[folder] += 1
    if not counts:
        raise DataError(f"no labelled picture can be exported: the pictures of all {gone} are gone")
    _record(output, written, view, sorted({one.camera for one, _ in kept}))
    return Exported(pictures=dict(sorted(counts.items())), gone=gone)


def _view(labels: Iterable[Labelled]) -> View:
    """Returns what the latest model of each camera saw, which must be the same for all."""
    views: dict[str, str] = {}
    for one in labels:
        if one.view is not None:
            views.setdefault(one.camera, one.view)
    if len(set(views.values())) > 1:
        raise DataError(
            f"the cameras {', '.join(sorted(views))} are judged by models with different regions "
            "or fits, which one data set can't hold: export one camera at a time (--camera)"
        )
    return View.model_validate_json(next(iter(views.values()))) if views else View()


def _name(one: Labelled, suffix: str) -> str:
    part = _UNSAFE.sub("-", one.part or one.first or one.id)
    return f"{part}__{one.camera}__{one.id}{suffix}"


def _record(output: Path, picture: Path, view: View, cameras: list[str]) -> None:
    height, width = read_image(picture).shape[:2]
    write_capture(
        output,
        CaptureRecord(
            source=f"labels of {', '.join(cameras)}",
            roi=view.roi,
            fit=view.fit,
            frame_size=(width, height),
            created=datetime.now(timezone.utc).isoformat(),
            groups=GROUPS,
        ),
    )
