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
from differnet_runtime.images import SUFFIXES, list_images, read_bytes, read_image
from differnet_runtime.integrity import Look, appearance_of, look
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
    detector: Detector, paths: Sequence[Path], *, skip: bool
) -> tuple[list[float], Appearance]:
    """Scores every picture.

    Args:
        detector: The exported model.
        paths: Pictures of good parts.
        skip: Leave out what can't be read or does not fit, and list it on standard error.

    Returns:
        The scores, in the order of the pictures, and how they look.

    Raises:
        DataError: Pictures can't be used; lists each with its cause.
        CalibrationError: A score is not a finite number; names the pictures.
        BackendError: Inference failed.
    """
    scores: dict[str, float] = {}
    looks: list[Look] = []
    unusable: list[str] = []
    for path in progress(paths, "calibrate", unit="images"):
        cause = _score_one(detector, path, scores, looks)
        if cause is not None:
            unusable.append(cause)
    if unusable and not (skip and looks):
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
    return list(scores.values()), appearance_of(looks)


def _score_one(
    detector: Detector, path: Path, scores: dict[str, float], looks: list[Look]
) -> str | None:
    """Adds one picture's score and look, or returns why there is none."""
    try:
        prepared = preprocess(read_image(path), detector.metadata.input)
    except ImageReadError as error:
        return str(error)
    except FrameError as error:
        return f"{path}: {error}"
    scores[path.name] = detector.score_input(prepared)
    looks.append(look(prepared))
    return None


def _some(names: Sequence[str], most: int = 10) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
