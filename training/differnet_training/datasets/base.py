"""What a data set is here: pictures of good parts to learn from, and labelled ones to judge by."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import chain
from pathlib import Path

import numpy as np

from differnet_runtime.calibration import images_needed
from differnet_runtime.errors import DataError, ImageReadError
from differnet_runtime.images import list_images, read_bytes

FEWEST_TRAINING_IMAGES = 8
FEWEST_STOPPING_IMAGES = 4
TEST_SHARE = 0.4
"""Of the good pictures of a published data set that is not divided yet, left to judge by."""
FOLDER_SHARE = 0.2
"""The same of a user's folder, where every picture to learn from counts more."""


class Label(str, Enum):
    """What is known of a part; `uncertain` ones are scored and reported, but count for nothing."""

    GOOD = "good"
    DEFECT = "defect"
    UNCERTAIN = "uncertain"


@dataclass(frozen=True)
class Picture:
    """One picture file and what is known of it.

    Args:
        path: The file.
        label: Good, defect or uncertain.
        kind: The class of defect (its folder's name), or `good`.
        mask: Ground truth of the defect's pixels, where the data set has it.
        part: Name of the part that it shows, from its folder; None if the folder names none.
    """

    path: Path
    label: Label = Label.GOOD
    kind: str = "good"
    mask: Path | None = None
    part: str | None = None


@dataclass(frozen=True)
class DataSet:
    """Good pictures to learn from, and test pictures that nothing is chosen by.

    Args:
        name: Shown in reports.
        good: The pool of good pictures: training, early stopping and calibration share it.
        test: Labelled pictures; may be empty.
        note: What a reader of the results must know (licence, traps).
        undivided: Pictures that trained a model may be among `test`; evaluation leaves those out.
    """

    name: str
    good: tuple[Picture, ...]
    test: tuple[Picture, ...] = ()
    note: str = ""
    undivided: bool = False


@dataclass(frozen=True)
class Parts:
    """Three disjoint parts of the good pool."""

    train: tuple[Picture, ...]
    stopping: tuple[Picture, ...]
    calibration: tuple[Picture, ...]


def split_good(
    good: Sequence[Picture],
    seed: int,
    false_reject_rate: float,
    groups: Sequence[str] | None = None,
) -> Parts:
    """Splits good pictures by seed: 70 % train, 10 % stop training early, 20 % calibrate.

    Where 20 % are too few to promise the false-reject rate, calibration takes what it needs.

    Args:
        good: The pictures.
        seed: Seed of the shuffled order.
        false_reject_rate: The rate that the calibration pictures must be able to promise.
        groups: Name of each picture's group; a group is never divided and counts as one. None
            makes each picture its own group.

    Raises:
        DataError: There are too few for the three parts; says how many each needs.
    """
    members: dict[str, list[Picture]] = {}
    names = map(str, range(len(good))) if groups is None else groups
    for picture, name in zip(good, names, strict=True):
        members.setdefault(name, []).append(picture)
    count = len(members)
    calibration = max(images_needed(false_reject_rate), round(0.2 * count))
    stopping = max(FEWEST_STOPPING_IMAGES, round(0.1 * count))
    train = count - calibration - stopping
    if train < FEWEST_TRAINING_IMAGES:
        needed = images_needed(false_reject_rate)
        different = "" if count == len(good) else f" of {count} different parts"
        raise DataError(
            f"too few good pictures: found {len(good)}{different}, expected at least "
            f"{FEWEST_TRAINING_IMAGES + FEWEST_STOPPING_IMAGES + needed} "
            f"({FEWEST_TRAINING_IMAGES} to train, {FEWEST_STOPPING_IMAGES} to stop training early, "
            f"{needed} to promise a false-reject rate of {false_reject_rate:g}). Take more "
            "pictures (`differnet capture`), or allow a higher --false-reject-rate."
        )
    listed = [*members.values()]
    shuffled = [listed[position] for position in np.random.RandomState(seed).permutation(count)]
    return Parts(
        train=tuple(chain(*shuffled[:train])),
        stopping=tuple(chain(*shuffled[train : train + stopping])),
        calibration=tuple(chain(*shuffled[train + stopping :])),
    )


def divided(
    name: str, good: Sequence[Picture], others: Sequence[Picture], seed: int, note: str = ""
) -> DataSet:
    """Leaves `TEST_SHARE` of the good pictures, drawn by seed, to judge by, with all others."""
    order = np.random.RandomState(seed).permutation(len(good))
    shuffled = [good[position] for position in order]
    held_out = round(TEST_SHARE * len(good))
    return DataSet(name, tuple(shuffled[held_out:]), (*shuffled[:held_out], *others), note)


def left_to_judge(
    good: Sequence[Picture], part_names: Sequence[str | None], seed: int
) -> list[Picture]:
    """Returns `FOLDER_SHARE` of the good pictures, which are not to be learned from.

    Parts come in the order of a hash of their name, or of their picture's bytes, so equal files
    stay together.

    Args:
        good: The pictures.
        part_names: What part each shows; None for a part with one picture.
        seed: Goes into the hash.
    """
    parts: dict[str, list[Picture]] = {}
    for picture, name in zip(good, part_names, strict=True):
        key = name or _digest(picture.path) or str(picture.path)
        parts.setdefault(key, []).append(picture)

    def order(key: str) -> bytes:
        return hashlib.sha256(f"{seed} {key}".encode(errors="surrogateescape")).digest()

    left: list[Picture] = []
    for key in sorted(parts, key=order):
        if len(left) >= FOLDER_SHARE * len(good):
            break
        left += parts[key]
    return left


def pictures_in(folder: Path, label: Label = Label.GOOD, kind: str = "good") -> tuple[Picture, ...]:
    """Returns the pictures directly in `folder`, by name."""
    return tuple(Picture(path, label, kind) for path in list_images(folder))


def check_no_overlap(data: DataSet) -> None:
    """Refuses test pictures that are also good pictures to learn from, byte for byte.

    Files that can't be read are passed over; reading them for training reports them.

    Raises:
        DataError: Lists the pairs.
    """
    if not data.test:
        return
    known: dict[str, Path] = {}
    for picture in data.good:
        if digest := _digest(picture.path):
            known[digest] = picture.path
    pairs = [
        f"  {picture.path}  =  {known[digest]}"
        for picture in data.test
        if (digest := _digest(picture.path)) in known
    ]
    if pairs:
        shown = "\n".join(pairs[:20]) + (
            "" if len(pairs) <= 20 else f"\n  ... {len(pairs) - 20} more"
        )
        raise DataError(
            f"{len(pairs)} test pictures are also training pictures, which makes every figure look "
            f"better than it is. Remove them from one side:\n{shown}"
        )


def _digest(path: Path) -> str | None:
    try:
        return hashlib.sha256(read_bytes(path)).hexdigest()
    except ImageReadError:
        return None
