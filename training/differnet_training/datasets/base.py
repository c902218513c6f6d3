"""What a data set is here: pictures of good parts to learn from, and labelled ones to judge by.

Finds the masks of pictures: beside them, or in a folder of masks, by the usual names.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import chain
from pathlib import Path

import numpy as np

from differnet_runtime.errors import DataError, ImageReadError
from differnet_runtime.images import list_images, read_bytes, read_image
from differnet_runtime.inspection.calibration import images_needed

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
class ImageFile:
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
    good: tuple[ImageFile, ...]
    test: tuple[ImageFile, ...] = ()
    note: str = ""
    undivided: bool = False


@dataclass(frozen=True)
class Splits:
    """Three disjoint parts of the good pool."""

    train: tuple[ImageFile, ...]
    stopping: tuple[ImageFile, ...]
    calibration: tuple[ImageFile, ...]


def split_good(
    good: Sequence[ImageFile],
    seed: int,
    false_reject_rate: float,
    groups: Sequence[str] | None = None,
) -> Splits:
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
    members: dict[str, list[ImageFile]] = {}
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
    return Splits(
        train=tuple(chain(*shuffled[:train])),
        stopping=tuple(chain(*shuffled[train : train + stopping])),
        calibration=tuple(chain(*shuffled[train + stopping :])),
    )


def divided(
    name: str, good: Sequence[ImageFile], others: Sequence[ImageFile], seed: int, note: str = ""
) -> DataSet:
    """Leaves `TEST_SHARE` of the good pictures, drawn by seed, to judge by, with all others."""
    order = np.random.RandomState(seed).permutation(len(good))
    shuffled = [good[position] for position in order]
    held_out = round(TEST_SHARE * len(good))
    return DataSet(name, tuple(shuffled[held_out:]), (*shuffled[:held_out], *others), note)


def left_to_judge(
    good: Sequence[ImageFile], part_names: Sequence[str | None], seed: int
) -> list[ImageFile]:
    """Returns `FOLDER_SHARE` of the good pictures, which are not to be learned from.

    Parts come in the order of a hash of their name, or of their picture's bytes, so equal files
    stay together.

    Args:
        good: The pictures.
        part_names: What part each shows; None for a part with one picture.
        seed: Goes into the hash.
    """
    parts: dict[str, list[ImageFile]] = {}
    for picture, name in zip(good, part_names, strict=True):
        key = name or _digest(picture.path) or str(picture.path)
        parts.setdefault(key, []).append(picture)

    def order(key: str) -> bytes:
        return hashlib.sha256(f"{seed} {key}".encode(errors="surrogateescape")).digest()

    left: list[ImageFile] = []
    for key in sorted(parts, key=order):
        if len(left) >= FOLDER_SHARE * len(good):
            break
        left += parts[key]
    return left


def pictures_in(
    folder: Path, label: Label = Label.GOOD, kind: str = "good"
) -> tuple[ImageFile, ...]:
    """Returns the pictures directly in `folder`, by name."""
    return tuple(ImageFile(path, label, kind) for path in list_images(folder))


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


FOLDERS = frozenset({"ground_truth", "groundtruth", "gt", "masks", "mask"})
"""Names of folders that hold masks, in small letters; they are no class of defects."""

_ENDINGS = ("_mask", "-mask", "_gt")
_TOKEN = "GT"  # noqa: S105 - PIPED's word in the name of a mask, in place of one of the picture's
_NEAR, _TWO_VALUED = 8, 0.99
"""A mask's pixels lie within so many grey values of its least or its greatest, nearly all of them:
JPEG blurs the edges."""


def is_mask_folder(folder: Path) -> bool:
    """Whether a folder is named like one of masks (`ground_truth`, `masks`, `crack_mask`)."""
    name = folder.name.lower()
    return name in FOLDERS or name.endswith(("_mask", "_masks"))


def with_masks(pictures: Sequence[ImageFile], places: Sequence[Path]) -> tuple[ImageFile, ...]:
    """Returns the pictures with their masks, and without those that are masks of others.

    A mask is named as its picture (with another ending, or in another folder), with `_mask` added,
    or with `GT` in place of a part of the name (`A_D_01.png` and `A_GT_01_mask.png`).

    Args:
        pictures: Of one folder.
        places: Folders of masks; those that are missing are passed over.
    """
    beside = _beside([picture.path for picture in pictures])
    masks = set(beside.values())
    found = _by_stem(path for place in places if place.is_dir() for path in list_images(place))
    return tuple(
        replace(picture, mask=beside.get(picture.path) or _named(picture.path, found))
        for picture in pictures
        if picture.path not in masks
    )


def mask_places(folder: Path, kind: str) -> list[Path]:
    """Returns where the masks of a class may lie, given the folder that holds the classes."""
    tops = [folder, *([folder.parent] if folder.name.lower() == "test" else [])]
    roots = [one for top in tops for one in _folders(top) if one.name.lower() in FOLDERS]
    inside = [one for one in _folders(folder / kind) if one.name.lower() in FOLDERS]
    endings = [folder / f"{kind}{ending}" for ending in ("_mask", "_masks")]
    return [root / kind for root in roots] + roots + inside + endings


def _folders(folder: Path) -> list[Path]:
    return sorted(one for one in folder.iterdir() if one.is_dir()) if folder.is_dir() else []


def _beside(paths: Sequence[Path]) -> dict[Path, Path]:
    """Pairs pictures with the masks in the same folder."""
    by_stem = _by_stem(paths)
    pairs = {}
    for stem, same in by_stem.items():
        for ending in _ENDINGS:
            for mask in by_stem.get(stem + ending, ()):
                pairs.update(dict.fromkeys(same, mask))
        if len(same) == 2:
            masks = [path for path in same if _is_two_valued(path)]
            if len(masks) == 1:
                (picture,) = set(same) - set(masks)
                pairs[picture] = masks[0]
    return pairs


def _by_stem(paths: Sequence[Path] | Iterator[Path]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        found[path.stem].append(path)
    return dict(found)


def _named(picture: Path, masks: dict[str, list[Path]]) -> Path | None:
    """Returns the mask with one of the names that fit a picture."""
    words = picture.stem.split("_")
    swapped = ["_".join([*words[:k], _TOKEN, *words[k + 1 :]]) for k in range(len(words))]
    for stem in (picture.stem, *swapped):
        for ending in ("", *_ENDINGS):
            if found := masks.get(stem + ending):
                return found[0]
    return None


def _is_two_valued(path: Path) -> bool:
    try:
        image = read_image(path).astype(np.int32)
    except ImageReadError:
        return False
    low, high = image.min(), image.max()
    near = (image <= low + _NEAR) | (image >= high - _NEAR)
    return bool(near.mean() >= _TWO_VALUED)
