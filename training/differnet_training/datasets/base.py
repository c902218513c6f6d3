"""A data set: normal images to learn from, labelled images to judge by, and their masks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import chain
from pathlib import Path

import numpy as np

from differnet_runtime.errors import DataError, ImageReadError
from differnet_runtime.images import digest, list_images, read_image
from differnet_runtime.inspection.calibration import images_needed

FEWEST_TRAINING_IMAGES = 8
FEWEST_VAL_IMAGES = 4
TEST_SHARE = 0.4
"""Share of the normal images of an undivided published data set that is kept for testing."""
FOLDER_SHARE = 0.2
"""The same for a user's folder, where every training image counts more."""


class Label(str, Enum):
    """The ground truth of an image; `uncertain` ones are scored and listed, but in no figure."""

    GOOD = "good"
    DEFECT = "defect"
    UNCERTAIN = "uncertain"


@dataclass(frozen=True)
class ImageFile:
    """An image file and what is known of it.

    Args:
        path: Path of the file.
        label: Good, defect or uncertain.
        kind: Class of defect (its folder's name), or `good`.
        mask: File that marks the defect's pixels, if the data set has one.
        part: Name of the part that it shows, from its folder; None if the folder names none.

    Example:
        >>> ImageFile(Path("test/crack/001.png"), Label.DEFECT, "crack").kind
        'crack'
    """

    path: Path
    label: Label = Label.GOOD
    kind: str = "good"
    mask: Path | None = None
    part: str | None = None


@dataclass(frozen=True)
class DataSet:
    """Normal images to learn from, and test images that nothing is chosen by.

    Args:
        name: Title of the reports on it.
        good: Normal images for training, validation and calibration.
        test: Labelled images; may be empty.
        note: What a reader of the results must know (licence, pitfalls).
        undivided: `test` may contain training images of a model; evaluation leaves those out.

    Example:
        >>> good = [ImageFile(path) for path in sorted(Path("good").glob("*.png"))]
        >>> data = DataSet("washers", tuple(good))
    """

    name: str
    good: tuple[ImageFile, ...]
    test: tuple[ImageFile, ...] = ()
    note: str = ""
    undivided: bool = False


@dataclass(frozen=True)
class Splits:
    """The normal images, divided for one flow.

    Args:
        train: Images that the flow is trained on.
        val: Images whose likelihood ends training early.
        calibration: Images that set the threshold.
    """

    train: tuple[ImageFile, ...]
    val: tuple[ImageFile, ...]
    calibration: tuple[ImageFile, ...]


def split_good(
    good: Sequence[ImageFile],
    seed: int,
    false_reject_rate: float,
    groups: Sequence[str] | None = None,
) -> Splits:
    """Splits normal images by seed: 70 % train, 10 % val, 20 % calibration.

    If 20 % are too few to promise the false-reject rate, calibration takes what it needs.

    Args:
        good: Normal images in any order.
        seed: Seed of the shuffled order.
        false_reject_rate: The rate that the calibration images must be able to promise.
        groups: Name of each image's group; a group is never divided and counts as one. None makes
            each image its own group.

    Raises:
        DataError: There are too few for the three splits; says how many each needs.
    """
    members: dict[str, list[ImageFile]] = {}
    names = map(str, range(len(good))) if groups is None else groups
    for image, name in zip(good, names, strict=True):
        members.setdefault(name, []).append(image)
    count, needed = len(members), images_needed(false_reject_rate)
    calibration = max(needed, round(0.2 * count))
    val = max(FEWEST_VAL_IMAGES, round(0.1 * count))
    train = count - calibration - val
    if train < FEWEST_TRAINING_IMAGES:
        different = "" if count == len(good) else f" of {count} different parts"
        raise DataError(
            f"too few good pictures: found {len(good)}{different}, expected at least "
            f"{FEWEST_TRAINING_IMAGES + FEWEST_VAL_IMAGES + needed} "
            f"({FEWEST_TRAINING_IMAGES} to train, {FEWEST_VAL_IMAGES} to stop training early, "
            f"{needed} to promise a false-reject rate of {false_reject_rate:g}). Take more "
            "pictures (`differnet capture`), or allow a higher --false-reject-rate."
        )
    listed = [*members.values()]
    shuffled = [listed[position] for position in np.random.RandomState(seed).permutation(count)]
    return Splits(
        train=tuple(chain(*shuffled[:train])),
        val=tuple(chain(*shuffled[train : train + val])),
        calibration=tuple(chain(*shuffled[train + val :])),
    )


def divided(
    name: str, good: Sequence[ImageFile], others: Sequence[ImageFile], seed: int, note: str = ""
) -> DataSet:
    """Keeps `TEST_SHARE` of the normal images, drawn by seed, for testing with all others."""
    order = np.random.RandomState(seed).permutation(len(good))
    shuffled = [good[position] for position in order]
    held_out = round(TEST_SHARE * len(good))
    return DataSet(name, tuple(shuffled[held_out:]), (*shuffled[:held_out], *others), note)


def left_to_judge(
    good: Sequence[ImageFile], part_names: Sequence[str | None], seed: int
) -> list[ImageFile]:
    """Returns `FOLDER_SHARE` of the normal images, which are kept for testing.

    Parts are sorted by a hash of their name, or of the image's bytes, so equal files stay
    together.

    Args:
        good: Normal images in any order.
        part_names: Name of the part that each shows; None for a part with one image.
        seed: Seed that changes the hash.
    """
    parts: dict[str, list[ImageFile]] = {}
    for image, name in zip(good, part_names, strict=True):
        parts.setdefault(name or digest(image.path) or str(image.path), []).append(image)

    def order(key: str) -> bytes:
        return hashlib.sha256(f"{seed} {key}".encode(errors="surrogateescape")).digest()

    left: list[ImageFile] = []
    for key in sorted(parts, key=order):
        if len(left) >= FOLDER_SHARE * len(good):
            break
        left += parts[key]
    return left


def images_in(folder: Path, label: Label = Label.GOOD, kind: str = "good") -> tuple[ImageFile, ...]:
    """Returns the images directly in a folder, sorted by name."""
    return tuple(ImageFile(path, label, kind) for path in list_images(folder))


def check_no_overlap(data: DataSet) -> None:
    """Refuses test images that are also training images, byte for byte.

    Files that can't be read are skipped here; reading them for training names them.

    Raises:
        DataError: Lists the pairs.
    """
    if not data.test:
        return
    known = {key: image.path for image in data.good if (key := digest(image.path))}
    pairs = [
        f"  {image.path}  =  {known[key]}"
        for image in data.test
        if (key := digest(image.path)) in known
    ]
    if pairs:
        more = f"\n  ... {len(pairs) - 20} more" if len(pairs) > 20 else ""
        raise DataError(
            f"{len(pairs)} test pictures are also training pictures, which makes every figure look "
            "better than it is. Remove them from one side:\n" + "\n".join(pairs[:20]) + more
        )


FOLDERS = frozenset({"ground_truth", "groundtruth", "gt", "masks", "mask"})
"""Names of folders of masks in lower case, which are no class of defects."""

_ENDINGS = ("_mask", "-mask", "_gt")
_TOKEN = "GT"  # noqa: S105 - PIPED's word in the name of a mask, in place of one of the picture's
_NEAR, _TWO_VALUED = 8, 0.99
"""A mask has this share of its pixels within `_NEAR` grey values of its least or its greatest: JPEG
blurs the edges."""


def is_mask_folder(folder: Path) -> bool:
    """Whether a folder is named like one of masks (`ground_truth`, `masks`, `crack_mask`)."""
    name = folder.name.lower()
    return name in FOLDERS or name.endswith(("_mask", "_masks"))


def with_masks(images: Sequence[ImageFile], places: Sequence[Path]) -> tuple[ImageFile, ...]:
    """Returns the images with their masks, without the files that are masks of others.

    A mask has the name of its image (with another suffix, or in another folder), the same with
    `_mask` added, or `GT` in place of a part of the name (`A_D_01.png` and `A_GT_01_mask.png`).

    Args:
        images: Images of one folder.
        places: Folders of masks; missing ones are skipped.
    """
    beside = _beside([image.path for image in images])
    masks = set(beside.values())
    found = _by_stem(path for place in places if place.is_dir() for path in list_images(place))
    images = [image for image in images if image.path not in masks]
    if found:
        beside = {image.path: _named(image.path, found) for image in images} | beside
    return tuple(replace(image, mask=beside.get(image.path)) for image in images)


def mask_places(folder: Path, kind: str) -> list[Path]:
    """Returns the folders in which the masks of a class may be.

    Args:
        folder: The folder that holds the classes.
        kind: Name of the class.
    """
    tops = [folder, *([folder.parent] if folder.name.lower() == "test" else [])]
    roots = [one for top in tops for one in _folders(top) if one.name.lower() in FOLDERS]
    inside = [one for one in _folders(folder / kind) if one.name.lower() in FOLDERS]
    endings = [folder / f"{kind}{ending}" for ending in ("_mask", "_masks")]
    return [root / kind for root in roots] + roots + inside + endings


def _folders(folder: Path) -> list[Path]:
    return sorted(one for one in folder.iterdir() if one.is_dir()) if folder.is_dir() else []


def _beside(paths: Sequence[Path]) -> dict[Path, Path | None]:
    """Maps images to masks in the same folder."""
    by_stem, pairs = _by_stem(paths), dict[Path, Path | None]()
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


def _by_stem(paths: Iterable[Path]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in paths:
        found.setdefault(path.stem, []).append(path)
    return found


def _named(image: Path, masks: dict[str, list[Path]]) -> Path | None:
    """Returns the mask whose name fits an image."""
    words = image.stem.split("_")
    swapped = ["_".join([*words[:k], _TOKEN, *words[k + 1 :]]) for k in range(len(words))]
    for stem in (image.stem, *swapped):
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
    return bool(((image <= low + _NEAR) | (image >= high - _NEAR)).mean() >= _TWO_VALUED)
