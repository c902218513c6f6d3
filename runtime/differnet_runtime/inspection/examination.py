"""Looks at pictures of good parts before anything is learned from them.

Each picture is measured while it is read; then the set is judged as a whole, since what is odd
depends on the others: a dark scene is not black, and pictures of 0 and 255 alone are masks only
where the others are not. Pictures that show no good part are refused, doubtful ones are refused,
left out or kept, as the user says.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import chain
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from ..config.models import IntegrityConfig
from ..errors import DataError
from ..model_file.metadata import Appearance
from ..records import Image
from ..sentences import sentence
from ..text import printable
from .image_checks import AppearanceLimits, Look, appearance_of, look
from .similar import detail_of, parts_of

_log = logging.getLogger(__name__)

Doubtful = Literal["stop", "drop", "keep"]
"""What to do with doubtful pictures."""

_CONSTANT = 0.5
"""Pixels with a smaller standard deviation, in grey levels of the file, show nothing."""
_TWO_VALUED = 0.97
"""Share of pixels that have one of two grey levels exactly; a mask saved as JPEG has a few more."""
_COMMON = 0.9
"""A shape is expected where this share of the pictures has it."""
_COMPANION = re.compile(r"(.+)[_-](?:mask|gt|label|seg|segmentation|ground_?truth)", re.IGNORECASE)


class Weight(str, Enum):
    """What a finding means: surely no good part, doubtful, or merely worth knowing."""

    SURE = "sure"
    DOUBTFUL = "doubtful"
    NOTE = "note"


@dataclass(frozen=True)
class ImageFinding:
    """What is odd about a picture.

    Args:
        path: Path of the picture.
        cause: The finding in one or two words: `black`, `mask`, `copy`.
        detail: The observation as a phrase, with its figures.
        weight: Whether it rules the picture out.
    """

    path: Path
    cause: str
    detail: str
    weight: Weight

    def __str__(self) -> str:
        return f"{self.path.name}: {self.cause} ({self.detail})"


@dataclass(frozen=True)
class Measured:
    """What is known of one picture.

    Args:
        path: Path of the picture.
        content: SHA-256 of the file, hexadecimal; copies have the same.
        look: Brightness and sharpness of the model's input.
        size: Width and height in pixels.
        deviation: Standard deviation of its pixels, in the file's own grey levels.
        two_valued: Whether nearly all pixels have one of two values.
        detail: `(4096,) float32`, the picture without exposure and shading (`detail_of`).
    """

    path: Path
    content: str
    look: Look
    size: tuple[int, int]
    deviation: float
    two_valued: bool
    detail: NDArray[np.float32]


def measure(path: Path, content: str, image: Image, prepared: NDArray[np.uint8]) -> Measured:
    """Measures a picture.

    Args:
        path: Path of the picture.
        content: SHA-256 of its bytes.
        image: `(H, W, 3)` uint8 or uint16, as decoded.
        prepared: The image after `preprocess`.
    """
    values: NDArray[np.integer] = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), image.dtype)
    height, width = values.shape
    return Measured(
        path,
        content,
        look(prepared),
        (width, height),
        float(values.std()),
        _two_valued(values),
        detail_of(prepared),
    )


def _two_valued(values: NDArray[np.integer]) -> bool:
    counts = np.bincount(values.ravel())
    if len(counts) < 2:
        return False
    second, first = np.argsort(counts)[-2:]
    apart = abs(int(first) - int(second)) > 0.1 * (len(counts) - 1)  # else one level with noise
    return bool(apart and counts[[first, second]].sum() >= _TWO_VALUED * values.size)


@dataclass(frozen=True)
class Examination:
    """What a look at a set of pictures found.

    Args:
        pictures: All pictures of the set.
        findings: Findings in the order of their weight, then of the pictures.
    """

    pictures: tuple[Measured, ...]
    findings: tuple[ImageFinding, ...]

    def of(self, weight: Weight) -> list[ImageFinding]:
        """Returns the findings of a weight."""
        return [one for one in self.findings if one.weight is weight]

    def without(self, paths: Iterable[Path]) -> tuple[Measured, ...]:
        """Returns all pictures except those at `paths`."""
        left_out = set(paths)
        return tuple(one for one in self.pictures if one.path not in left_out)


def appearance(pictures: Sequence[Measured]) -> Appearance:
    """Returns how pictures look, from at least one."""
    return appearance_of([one.look for one in pictures])


def different_parts(pictures: Sequence[Measured]) -> list[int]:
    """Returns the part that each picture shows; see `parts_of`. Equal files show the same one."""
    parts = parts_of([one.detail for one in pictures])
    first: dict[str, int] = {}
    return [first.setdefault(one.content, part) for one, part in zip(pictures, parts, strict=True)]


def examine(pictures: Sequence[Measured]) -> Examination:
    """Looks for pictures that show no good part, or no further part.

    Black, blown out and blurred are those that the station's gate would refuse with the limits
    that follow from this set.
    """
    if not pictures:
        return Examination((), ())
    limits = AppearanceLimits.choose(IntegrityConfig(), appearance(pictures))
    found: dict[tuple[Path, Weight], ImageFinding] = {}
    for one in chain(
        _constant(pictures),
        _masks(pictures),
        _wrong_light(pictures, limits),
        _companions(pictures),
        _blurred(pictures, limits),
        _copies(pictures),
        _shapes(pictures),
    ):
        if (one.path, Weight.SURE) not in found:
            found.setdefault((one.path, one.weight), one)
    order = list(Weight)
    findings = sorted(found.values(), key=lambda one: order.index(one.weight))
    return Examination(tuple(pictures), tuple(findings))


def refuse(found: Sequence[ImageFinding], total: int) -> None:
    """Refuses pictures that surely don't show a good part.

    Raises:
        DataError: There are some; lists them.
    """
    if found:
        raise DataError(
            f"{len(found)} of {total} pictures show no good part:\n{listed(found)}\n"
            "Move them to another folder: used as good ones, they would spoil the threshold."
        )


def act_on(found: Sequence[ImageFinding], total: int, doubtful: Doubtful) -> frozenset[Path]:
    """Refuses doubtful pictures, or warns of them by name.

    Returns:
        The pictures to leave out.

    Raises:
        DataError: There are some, and `doubtful` is `stop`.
    """
    if not found:
        return frozenset()
    head = f"{len(found)} of {total} good pictures are doubtful"
    if doubtful == "stop":
        raise DataError(
            f"{head}:\n{listed(found)}\nLook at them and remove those that are not of good parts, "
            "or go on without them: --doubtful drop, or with them: --doubtful keep."
        )
    done = (
        "They are left out. If they are of good parts, take them in with --doubtful keep."
        if doubtful == "drop"
        else "They are taken in, as --doubtful keep says."
    )
    _log.warning("%s:\n%s\n%s", head, listed(found), done)
    return frozenset(one.path for one in found) if doubtful == "drop" else frozenset()


def listed(found: Sequence[ImageFinding], most: int = 20) -> str:
    """Returns findings as lines for a message, each with its picture's name."""
    more = [f"  ... {len(found) - most} more"] if len(found) > most else []
    return "\n".join([*(f"  {printable(str(one))}" for one in found[:most]), *more])


def _constant(pictures: Sequence[Measured]) -> Iterable[ImageFinding]:
    for one in pictures:
        if one.deviation < _CONSTANT:
            yield ImageFinding(one.path, "constant", sentence("seen_one_value"), Weight.SURE)


def _wrong_light(pictures: Sequence[Measured], limits: AppearanceLimits) -> Iterable[ImageFinding]:
    usual = np.median([one.look.brightness for one in pictures])
    for one in pictures:
        mean = one.look.brightness
        if not limits.black <= mean <= limits.blown:
            cause = "black" if mean < limits.black else "blown out"
            seen = sentence("seen_light", mean=mean, usual=usual)
            yield ImageFinding(one.path, cause, seen, Weight.SURE)


def _masks(pictures: Sequence[Measured]) -> Iterable[ImageFinding]:
    """Finds two-valued pictures, where most are not, and those that are named masks of others."""
    stems = {one.path.stem for one in pictures}
    binary = [one for one in pictures if one.two_valued]
    odd = {one.path for one in binary} if len(binary) <= len(pictures) / 2 else set()
    for one in pictures:
        named = _COMPANION.fullmatch(one.path.stem)
        if named is not None and named[1] in stems:
            yield ImageFinding(one.path, "mask", f"named as that of {named[1]}", Weight.SURE)
        elif one.path in odd:
            yield ImageFinding(one.path, "mask", sentence("seen_two_levels"), Weight.SURE)


def _companions(pictures: Sequence[Measured]) -> Iterable[ImageFinding]:
    """Finds pictures that share folder and stem with another, whose ending is more common."""
    endings = Counter(one.path.suffix.lower() for one in pictures)
    named: dict[Path, list[Path]] = {}
    for one in pictures:
        named.setdefault(one.path.with_suffix(""), []).append(one.path)
    for paths in named.values():
        # Of two endings that are as common, a mask or an overlay is more often the PNG.
        paths.sort(key=lambda path: (-endings[path.suffix.lower()], path.suffix == ".png"))
        for path in paths[1:]:
            beside = f"it lies beside {paths[0].name}"
            yield ImageFinding(path, "companion", beside, Weight.DOUBTFUL)


def _blurred(pictures: Sequence[Measured], limits: AppearanceLimits) -> Iterable[ImageFinding]:
    usual = np.median([one.look.sharpness for one in pictures])
    for one in pictures:
        if one.look.sharpness < limits.sharpness:
            seen = sentence("seen_sharpness", sharpness=one.look.sharpness, usual=usual)
            yield ImageFinding(one.path, "blurred", seen, Weight.DOUBTFUL)


def _copies(pictures: Sequence[Measured]) -> Iterable[ImageFinding]:
    first: dict[str, Path] = {}
    for one in pictures:
        original = first.setdefault(one.content, one.path)
        if original != one.path:
            yield ImageFinding(one.path, "copy", f"byte for byte {original.name}", Weight.NOTE)


def _shapes(pictures: Sequence[Measured]) -> Iterable[ImageFinding]:
    """Finds pictures of another size, where nearly all have the same."""
    (usual, count), *_ = Counter(one.size for one in pictures).most_common(1)
    if count < _COMMON * len(pictures):
        return
    for one in pictures:
        if one.size != usual:
            seen = f"{one.size[0]} x {one.size[1]} pixels, usual here is {usual[0]} x {usual[1]}"
            same = abs(one.size[0] * usual[1] / (one.size[1] * usual[0]) - 1.0) < 0.01
            yield ImageFinding(
                one.path, "another size" if same else "another aspect", seen, Weight.NOTE
            )
