"""Looks at pictures of good parts before anything is learned from them.

Each picture is measured while it is read; then the set is judged as a whole, since what is odd
depends on the others: a dark scene is not black, and pictures of 0 and 255 alone are masks only
where the others are not. Pictures that show no good part are refused, doubtful ones are refused,
left out or kept, as the user says.

Pictures that show the same part, not only parts of the same kind, are found by `detail_of`, which
makes a vector of what a picture shows, without its exposure and its shading: pictures of one part
lie close together as distances in the set go. (A perceptual hash was tried and left out: different
castings have equal ones.)
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
from .preprocess import grey

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


_SIDE, _SHADING = 64, 4.0
"""Side of the picture that is compared, and the sigma above which structure counts as shading."""
NEAR = 0.1
"""Share of the set's median distance within which two pictures are near-identical."""
_APART = 2.0
"""All other pictures must be this many times as far away as the farthest two of the part: without
that, parts that each differ a little from the next would form one endless chain."""
_EQUAL = 5e-4
"""Distance within which two pictures are near-identical in every set, even of one part alone."""
_ROWS = 1024
"""Number of pictures that are compared with all others at once."""


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


def detail_of(prepared: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Returns what a picture shows as `(4096,) float32` of mean 0 and mean square 1.

    Args:
        prepared: `(height, width, 3 | 4) uint8`, as `preprocess` gives it.

    Returns:
        The grey picture at 64 x 64 pixels without its slow changes; zeros where nothing is left.
    """
    small = cv2.resize(
        grey(prepared).astype(np.float32), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA
    )
    detail = small.astype(np.float32)
    detail -= cv2.GaussianBlur(detail, (0, 0), _SHADING)
    detail -= detail.mean()
    deviation = float(np.sqrt(np.mean(detail * detail)))
    if deviation < 1e-3:
        return np.zeros(_SIDE * _SIDE, np.float32)
    found: NDArray[np.float32] = (detail / deviation).ravel()
    return found


def parts_of(details: Sequence[NDArray[np.float32]]) -> list[int]:
    """Returns the part that each picture shows, numbered from 0 in the order of appearance.

    The distance of two pictures is 1 minus the correlation of their details. Those closer than
    `NEAR` of the median distance are linked; what is linked shows one part if it lies well apart
    from all other pictures.

    Args:
        details: One `(4096,) float32` for each picture, from `detail_of`.
    """
    if not details:
        return []
    rows = np.stack(details)
    near = max(NEAR * _median_distance(rows), _EQUAL)
    part, equal = _linked(rows, near), _linked(rows, _EQUAL)
    for number in np.unique(part):
        inside = part == number
        if not _lies_apart(rows, inside):
            part[inside] = len(rows) + equal[inside]
    numbers: dict[int, int] = {}
    return [numbers.setdefault(int(one), len(numbers)) for one in part]


def _linked(rows: NDArray[np.float32], near: float) -> NDArray[np.intp]:
    """Numbers pictures so that those within a distance, and all linked by them, have one number."""
    part = np.arange(len(rows))
    for begin in range(0, len(rows), _ROWS):
        close = distances(rows[begin : begin + _ROWS], rows) <= near
        for one, alike in enumerate(close, begin):
            joined = np.unique(part[:one][alike[:one]])
            if joined.size:
                part[np.isin(part, joined)] = part[one] = joined[0]
    return part


def _lies_apart(rows: NDArray[np.float32], inside: NDArray[np.bool_]) -> bool:
    """Says whether all other pictures are far from a part's, as its own distances go."""
    farthest, nearest = _EQUAL, np.inf
    chosen = rows[inside]
    for begin in range(0, len(chosen), _ROWS):
        found = distances(chosen[begin : begin + _ROWS], rows)
        farthest = max(farthest, float(found[:, inside].max()))
        nearest = min(nearest, float(found[:, ~inside].min(initial=np.inf)))
    return nearest >= _APART * farthest


def _median_distance(rows: NDArray[np.float32]) -> float:
    """Returns the median distance between two pictures, of at most `_ROWS` of them."""
    some = rows[np.linspace(0, len(rows) - 1, min(len(rows), _ROWS)).round().astype(int)]
    between = distances(some, some)[np.triu_indices(len(some), 1)]
    return float(np.median(between)) if between.size else 0.0


def distances(some: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the distances `(N, M)` between details `(N, 4096)` and `(M, 4096)`."""
    found: NDArray[np.float32] = 1.0 - some @ others.T / some.shape[1]
    return found
