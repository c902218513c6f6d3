"""The steps of `differnet calibrate`: find the pictures, tell which are new, score them.

What a calibrated model's own threshold says of the scores that are to set a new one.

If they are of good parts like those before, the number above the present threshold follows the law
that the threshold was given with (see `calibration`). Many more are no chance: the parts are
defects, or light, lens or parts have changed, which only the user can tell.
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..command import progress
from ..detector import Detector
from ..errors import CalibrationError, DataError, FrameError, ImageReadError
from ..files import SUFFIXES
from ..images import decode_image, list_images, read_bytes
from ..inspection.calibration import batch_bound, binomial_quantile, threshold_rank
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
from ..model_file.metadata import Appearance, Calibration, Provenance

CONFIDENCE = 0.99
"""Of a hundred sets of good parts like those before, one is questioned."""

_NAMED = 5


def check_share(scores: Mapping[str, float], present: Calibration | None, what: str) -> None:
    """Refuses scores of which more are above the present threshold than chance explains.

    Args:
        scores: Of parts that are said to be good, by the name of the picture or the event.
        present: The model's calibration; without one, nothing can be told.
        what: What the names are of, in the plural.

    Raises:
        CalibrationError: Too many are above; names the highest.
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
    """Returns how many of so many good parts are above the threshold, with `CONFIDENCE` at most.

    A threshold by rank has the exact law (beta-binomial: the binomial law, with what few
    calibration pictures leave uncertain). By a log-normal it has the binomial law at its bound.
    """
    if present.tail == "lognormal":
        return binomial_quantile(parts, present.bound, CONFIDENCE)
    rank = min(threshold_rank(present.images, present.false_reject_rate), present.images)
    return batch_bound(present.images, rank, parts, CONFIDENCE)


def pictures(folder: Path) -> list[Path]:
    """Returns the pictures in a folder, by name.

    Raises:
        DataError: It can't be listed, or holds none.
    """
    try:
        paths = list_images(folder)
    except OSError as error:
        raise DataError(f"{folder}: {error.strerror or error}") from error
    if not paths:
        raise DataError(
            f"{folder} holds no pictures: no file there ends in {', '.join(sorted(SUFFIXES))}"
        )
    return paths


def new_pictures(paths: Sequence[Path], trained: Provenance) -> list[Path]:
    """Returns the pictures that training has not seen; the others are told on standard error.

    Args:
        paths: Pictures of good parts.
        trained: Knows the model's training pictures by the hash of their files.

    Raises:
        DataError: Two files hold the same bytes, which would make the bound look surer than it is;
            names them.
    """
    digests = {path: digest for path in paths if (digest := _digest(path)) is not None}
    _refuse_copies(digests)
    if not trained.pictures:
        print(
            "note: this model does not say which pictures it was trained on, so these are not "
            "compared with them; each must be new to it",
            file=sys.stderr,
        )
        return list(paths)
    known = trained.trained_on(digests.values())
    seen = [path.name for path in paths if digests.get(path) in known]
    if seen:
        print(
            f"left out: {len(seen)} of {len(paths)} pictures, which the model was trained on, so "
            f"that it scores them too low: {_some(seen)}",
            file=sys.stderr,
        )
    return [path for path in paths if digests.get(path) not in known]


def _digest(path: Path) -> str | None:
    """Returns the file's SHA-256; None where it can't be read, which scoring reports."""
    try:
        return hashlib.sha256(read_bytes(path)).hexdigest()
    except ImageReadError:
        return None


def _refuse_copies(digests: Mapping[Path, str]) -> None:
    by_hash: dict[str, list[str]] = {}
    for path, digest in digests.items():
        by_hash.setdefault(digest, []).append(path.name)
    groups = [" = ".join(names) for names in by_hash.values() if len(names) > 1]
    if groups:
        raise DataError(
            f"{len(groups)} picture(s) are there more than once, byte for byte: {_some(groups)}. "
            "Copies add no knowledge, but would make the threshold's promise look surer. Remove "
            "them."
        )


def score(
    detector: Detector, paths: Sequence[Path], *, skip: bool, doubtful: Doubtful = "drop"
) -> tuple[dict[str, float], Appearance, PictureSizes]:
    """Scores every picture.

    Args:
        detector: The exported model.
        paths: Pictures of good parts.
        skip: Leave out what can't be read or does not fit, and list it on standard error.
        doubtful: What to do with pictures that may not be of a good part.

    Returns:
        The scores by the pictures' names, of each part the highest; how they look, and their sizes.

    Raises:
        DataError: Pictures can't be used, or show no good part; lists each with its cause.
        CalibrationError: A score is not a finite number; names the pictures.
        BackendError: Inference failed.
    """
    scores: dict[str, float] = {}
    measured: list[Measured] = []
    unusable: list[str] = []
    for path in progress(paths, "calibrate", unit="images"):
        cause = _score_one(detector, path, scores, measured)
        if cause is not None:
            unusable.append(cause)
    if unusable and not (skip and measured):
        raise DataError(
            f"{len(unusable)} of {len(paths)} pictures can't be used:\n  "
            + "\n  ".join(unusable)
            + "\nReplace or remove them, or leave them out with --skip-unreadable."
        )
    for cause in unusable:
        print(f"left out: {cause}", file=sys.stderr)
    infinite = [name for name, score in scores.items() if not math.isfinite(score)]
    if infinite:
        raise CalibrationError(
            f"the scores of {_some(infinite)} are not finite numbers; no threshold can be set. "
            "Look at those pictures; if they are good ones, train again."
        )
    kept = _examined(measured, doubtful)
    highest: dict[int, str] = {}
    for one, part in zip(kept, different_parts(kept), strict=True):
        name = one.path.name
        if part not in highest or scores[name] > scores[highest[part]]:
            highest[part] = name
    if len(highest) < len(kept):
        print(
            f"{len(kept)} pictures of {len(highest)} different parts: of each part the highest "
            "score counts",
            file=sys.stderr,
        )
    found = {name: scores[name] for name in highest.values()}
    return found, appearance(kept), PictureSizes.of(one.size for one in kept)


def _examined(measured: Sequence[Measured], doubtful: Doubtful) -> Sequence[Measured]:
    """Refuses pictures that show no good part, and returns those to calibrate by."""
    found = examine(measured)
    refuse(found.of(Weight.SURE), len(measured))
    kept = found.without(act_on(found.of(Weight.DOUBTFUL), len(measured), doubtful))
    if not kept:
        raise DataError("every picture is doubtful; look at them, or take --doubtful keep")
    return kept


def _score_one(
    detector: Detector, path: Path, scores: dict[str, float], measured: list[Measured]
) -> str | None:
    """Adds one picture's score and measures, or returns why there is none."""
    try:
        data = read_bytes(path)
        image = decode_image(data, str(path))
        prepared = preprocess(image, detector.metadata.input)
    except ImageReadError as error:
        return str(error)
    except FrameError as error:
        return f"{path}: {error}"
    scores[path.name] = detector.score_input(prepared)
    measured.append(measure(path, hashlib.sha256(data).hexdigest(), image, prepared))
    return None


def _some(names: Sequence[str], most: int = 10) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
