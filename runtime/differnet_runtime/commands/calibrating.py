"""The work of `differnet calibrate`: scores from pictures or from stored verdicts, a new threshold.

A calibrated model's present threshold also judges the scores that are to set the new one. If they
are of good parts like those before, the number above it follows the law that the threshold was
given with (see `inspection.calibration`). Many more are no chance: the parts are defects, or light,
lens or parts have changed, which only the user can tell.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..command import print_result, progress
from ..database import read_rows
from ..detector import Detector
from ..errors import CalibrationError, DataError, FrameError, ImageReadError
from ..files import SUFFIXES, os_errors
from ..images import decode_image, list_images, read_bytes
from ..inspection.calibration import (
    DEFAULT_FALSE_REJECT_RATE,
    batch_bound,
    binomial_quantile,
    calibrate,
    check_enough,
    describe,
    threshold_rank,
)
from ..inspection.examination import (
    Doubtful,
    Measured,
    Weight,
    act_on,
    appearance,
    different_parts,
    examine,
    measure,
    refuse,
)
from ..inspection.preprocess import preprocess
from ..model_file.contract import PictureSizes
from ..model_file.file import content_hash, read_model_file, signature, write_model_file
from ..model_file.metadata import Appearance, Calibration, ModelMetadata, Provenance
from ..text import nearest

CONFIDENCE = 0.99
"""Probability that a set of good parts like those before passes `check_share`."""
_NAMED = 5
_SQLITE = b"SQLite format 3\0"
_REJECTED = "rejected without a label (counted as above the threshold)"

Verdict = Mapping[str, Any]


def recalibrate(arguments: argparse.Namespace) -> None:
    """Sets the threshold of a model file anew and prints the calibration.

    Args:
        arguments: As parsed by `differnet calibrate`.

    Raises:
        DifferNetError: The model, the pictures or the scores can't be used.
    """
    data, metadata = read_model_file(arguments.model)
    rate = arguments.false_reject_rate or DEFAULT_FALSE_REJECT_RATE
    measure_anew = _from_scores if arguments.scores else _from_pictures
    changes = measure_anew(arguments, data, metadata, rate)
    output, calibration = arguments.output or arguments.model, changes["calibration"]
    write_model_file(output, data, metadata.replaced(**changes))
    text = f"{describe(calibration)}\nWritten to {output}."
    print_result(calibration, text, as_json=arguments.json)
    if signature(data) is not None:
        print(f"{output} is no longer signed: `differnet sign` signs it again", file=sys.stderr)


def _from_pictures(
    arguments: argparse.Namespace, _model: bytes, metadata: ModelMetadata, rate: float
) -> dict[str, Any]:
    """Returns calibration, appearance and sizes of new pictures, by their names in the metadata."""
    paths = _pictures(arguments.images)
    check_enough(len(paths), rate)
    paths = _unseen(paths, metadata.provenance)
    check_enough(len(paths), rate)
    with Detector(
        arguments.model, backend=arguments.backend, threads=arguments.threads
    ) as detector:
        scores, appearance, sizes = _score(
            detector, paths, skip=arguments.skip_unreadable, doubtful=arguments.doubtful or "drop"
        )
    if not arguments.force:
        check_share(scores, metadata.calibration, "pictures")
    return {
        "calibration": calibrate([*scores.values()], rate, scored_by=detector.backend),
        "appearance": appearance,
        "picture_sizes": sizes.joined(metadata.picture_sizes),
    }


def _from_scores(
    arguments: argparse.Namespace, model: bytes, metadata: ModelMetadata, rate: float
) -> dict[str, Any]:
    """Returns the calibration by stored scores, which say nothing about appearance and sizes."""
    present = metadata.calibration
    judge = ScoringModel(content_hash(model), present.threshold if present else None)
    stored = read_scores(arguments.scores, judge, arguments.camera)
    if not arguments.force:
        check_share(stored.good, present, "good verdicts")
    scores = [*stored.good.values()]
    return {
        "calibration": calibrate(scores, rate, scored_by="stored scores", rejected=stored.rejected)
    }


def check_share(scores: Mapping[str, float], present: Calibration | None, what: str) -> None:
    """Refuses scores of which more are above the present threshold than chance explains.

    Args:
        scores: Scores of supposedly good parts, by the name of the picture or the event.
        present: The model's present calibration; without one, nothing is refused.
        what: What was scored, in the plural, for the message.

    Raises:
        CalibrationError: Too many are above; the message names the highest.
    """
    if present is None:
        return
    above = [name for name, score in scores.items() if score > present.threshold]
    most = most_by_chance(present, len(scores))
    if len(above) <= most:
        return
    above.sort(key=lambda name: -scores[name])
    raise CalibrationError(
        f"{len(above)} of {len(scores)} {what} are above the present threshold of "
        f"{present.threshold:.4g}; by chance at most {most}: are these good parts? The highest: "
        f"{', '.join(above[:_NAMED])}. If all are good, since light, lens or parts have changed, "
        "set the new threshold with --force."
    )


def most_by_chance(present: Calibration, parts: int) -> int:
    """Returns how many of `parts` good parts lie above the threshold at most, with `CONFIDENCE`.

    The law is exact for a threshold by rank (beta-binomial: the binomial law, with what few
    calibration pictures leave uncertain), and binomial at its bound for one by a log-normal.
    """
    if present.tail == "lognormal":
        return binomial_quantile(parts, present.bound, CONFIDENCE)
    rank = min(threshold_rank(present.images, present.false_reject_rate), present.images)
    return batch_bound(present.images, rank, parts, CONFIDENCE)


def _pictures(folder: Path) -> list[Path]:
    """Returns the pictures in a folder, sorted by name; at least one."""
    with os_errors(DataError, folder):
        paths = list_images(folder)
    if not paths:
        raise DataError(
            f"{folder} holds no pictures: no file there ends in {', '.join(sorted(SUFFIXES))}"
        )
    return paths


def _unseen(paths: Sequence[Path], trained: Provenance) -> list[Path]:
    """Returns the pictures that training has not seen; the others are named on standard error."""
    digests: dict[Path, str] = {}
    for path in paths:
        with suppress(ImageReadError):  # scoring reports it
            digests[path] = hashlib.sha256(read_bytes(path)).hexdigest()
    _refuse_copies(digests)
    if not trained.pictures:
        print(
            "note: this model does not say which pictures it was trained on, so these are not "
            "compared with them; each must be new to it",
            file=sys.stderr,
        )
        return list(paths)
    known = trained.trained_on(digests.values())
    if seen := [path.name for path in paths if digests.get(path) in known]:
        print(
            f"left out: {len(seen)} of {len(paths)} pictures, which the model was trained on, so "
            f"that it scores them too low: {_some(seen)}",
            file=sys.stderr,
        )
    return [path for path in paths if digests.get(path) not in known]


def _refuse_copies(digests: Mapping[Path, str]) -> None:
    by_hash: dict[str, list[str]] = {}
    for path, digest in digests.items():
        by_hash.setdefault(digest, []).append(path.name)
    if groups := [" = ".join(names) for names in by_hash.values() if len(names) > 1]:
        raise DataError(
            f"{len(groups)} picture(s) are there more than once, byte for byte: {_some(groups)}. "
            "Copies add no knowledge, but would make the threshold's promise look surer. Remove "
            "them."
        )


def _score(
    detector: Detector, paths: Sequence[Path], *, skip: bool, doubtful: Doubtful
) -> tuple[dict[str, float], Appearance, PictureSizes]:
    """Scores every picture; of several pictures of one part the highest score counts.

    Args:
        detector: The exported model, opened with some backend.
        paths: Pictures of good parts.
        skip: Leave out pictures that can't be read or don't fit, and name them on standard error.
        doubtful: What to do with pictures that may not be of a good part.

    Returns:
        The scores by the pictures' names, and the appearance and sizes of the pictures.

    Raises:
        DataError: Pictures can't be used, or show no good part; the message lists each.
        CalibrationError: A score is not a finite number.
        BackendError: Inference failed.
    """
    scores: dict[str, float] = {}
    measured: list[Measured] = []
    unusable: list[str] = []
    for path in progress(paths, "calibrate", unit="images"):
        try:
            data = read_bytes(path)
            image = decode_image(data, str(path))
            prepared = preprocess(image, detector.metadata.input)
        except (ImageReadError, FrameError) as error:
            unusable.append(f"{path}: {error}" if isinstance(error, FrameError) else str(error))
            continue
        scores[path.name] = detector.score_input(prepared)
        measured.append(measure(path, hashlib.sha256(data).hexdigest(), image, prepared))
    if unusable and not (skip and measured):
        raise DataError(
            f"{len(unusable)} of {len(paths)} pictures can't be used:\n  "
            + "\n  ".join(unusable)
            + "\nReplace or remove them, or leave them out with --skip-unreadable."
        )
    for cause in unusable:
        print(f"left out: {cause}", file=sys.stderr)
    if infinite := [name for name, score in scores.items() if not math.isfinite(score)]:
        raise CalibrationError(
            f"the scores of {_some(infinite)} are not finite numbers; no threshold can be set. "
            "Look at those pictures; if they are good ones, train again."
        )
    kept = _examined(measured, doubtful)
    highest: dict[int, str] = {}
    for one, part in zip(kept, different_parts(kept), strict=True):
        highest[part] = max(highest.get(part, one.path.name), one.path.name, key=scores.__getitem__)
    if len(highest) < len(kept):
        print(
            f"{len(kept)} pictures of {len(highest)} different parts: of each part the highest "
            "score counts",
            file=sys.stderr,
        )
    sizes = PictureSizes.of(one.size for one in kept)
    return {name: scores[name] for name in highest.values()}, appearance(kept), sizes


def _examined(measured: Sequence[Measured], doubtful: Doubtful) -> Sequence[Measured]:
    """Refuses pictures that show no good part, and returns those to calibrate with."""
    found = examine(measured)
    refuse(found.of(Weight.SURE), len(measured))
    kept = found.without(act_on(found.of(Weight.DOUBTFUL), len(measured), doubtful))
    if not kept:
        raise DataError("every picture is doubtful; look at them, or take --doubtful keep")
    return kept


def _some(names: Sequence[str], most: int = 10) -> str:
    return ", ".join(names[:most]) + f" and {len(names) - most} more" * (len(names) > most)


@dataclass
class StoredScores:
    """The scores of one camera's verdicts on good parts.

    Args:
        good: Scores of parts that passed or are labelled good, by the event's id or its number.
        left_out: Number of other verdicts, by the reason why they don't count.

    Example:
        >>> StoredScores(left_out=Counter({"there twice": 2})).told()
        '2 there twice'
    """

    good: dict[str, float] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def rejected(self) -> int:
        """Number of rejected parts without a label, which may have been good."""
        return self.left_out[_REJECTED]

    def told(self) -> str:
        """Returns in words what was left out, and why."""
        return ", ".join(f"{count} {reason}" for reason, count in self.left_out.items() if count)


@dataclass(frozen=True)
class ScoringModel:
    """The model whose scores are wanted.

    Args:
        hash: Content hash of the model file, compared with that of verdicts that name their model.
        threshold: The model's threshold, compared with that of verdicts that name no model; None
            if it has none.

    Example:
        >>> ScoringModel("3f1c", threshold=1.25).threshold
        1.25
    """

    hash: str
    threshold: float | None


def read_scores(path: Path, judge: ScoringModel, camera: str | None = None) -> StoredScores:
    """Reads the scores that one model gave the good parts of one camera, each event once.

    Only parts that passed or are labelled good count: a defect's score would raise the threshold
    over the next defect. What is left out, and why, is written to standard error.

    Args:
        path: A log with a JSON object on each line, or a station's database: its index of kept
            pictures (`evidence/index.sqlite`) or its outbox (`outbox.sqlite`).
        judge: The model whose scores are wanted.
        camera: The camera's name; needed if several cameras have scores of good parts.

    Raises:
        DataError: The file can't be read, a line is not an event, or the camera is not clear.
        StoreError: The database can't be read.
        CalibrationError: There is no score of a good part by this model.
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
    """Returns the camera asked for, or the only one with scores of good parts."""
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
    """Returns why a verdict's score does not count; None if it does."""
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


def _is_score(value: Any) -> bool:  # noqa: ANN401 - whatever JSON holds
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def _verdicts(path: Path) -> Iterator[Verdict]:
    with os_errors(DataError, path), path.open("rb") as file:
        if file.read(len(_SQLITE)) == _SQLITE:
            yield from _rows(path)
            return
        file.seek(0)
        for number, line in enumerate(file, 1):
            if line.strip():
                yield _event(path, f"line {number}", line)


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
