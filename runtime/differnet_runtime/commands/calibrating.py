"""The steps of `differnet calibrate`: find the pictures, refuse copies, score them."""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from differnet_runtime.command import progress
from differnet_runtime.detector import Detector
from differnet_runtime.errors import CalibrationError, DataError, FrameError, ImageReadError
from differnet_runtime.images import SUFFIXES, decode_image, list_images, read_bytes
from differnet_runtime.integrity.doubtful import Doubtful, act_on, refuse
from differnet_runtime.integrity.examination import (
    Measured,
    Weight,
    appearance,
    different_parts,
    examine,
    measure,
)
from differnet_runtime.metadata import Appearance
from differnet_runtime.preprocess import preprocess


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


def refuse_duplicates(paths: Sequence[Path]) -> None:
    """Refuses pictures that are there twice: they would make the bound look surer than it is.

    Raises:
        DataError: Two files hold the same bytes; names them.
    """
    by_hash: dict[str, list[str]] = {}
    for path in paths:
        try:
            digest = hashlib.sha256(read_bytes(path)).hexdigest()
        except ImageReadError:
            continue  # reported with its cause when it is to be scored
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
) -> tuple[list[float], Appearance]:
    """Scores every picture.

    Args:
        detector: The exported model.
        paths: Pictures of good parts.
        skip: Leave out what can't be read or does not fit, and list it on standard error.
        doubtful: What to do with pictures that may not be of a good part.

    Returns:
        The scores, in the order of the pictures, of each part the greatest; and how they look.

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
    greatest: dict[int, float] = {}
    for one, part in zip(kept, different_parts(kept), strict=True):
        value = scores[one.path.name]
        greatest[part] = max(value, greatest.get(part, value))
    if len(greatest) < len(kept):
        print(
            f"{len(kept)} pictures of {len(greatest)} different parts: of each part the highest "
            "score counts",
            file=sys.stderr,
        )
    return list(greatest.values()), appearance(kept)


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
