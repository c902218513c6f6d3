"""Finds the masks of pictures: beside them, or in a folder of masks, by the usual names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from differnet_runtime.errors import ImageReadError
from differnet_runtime.images import list_images, read_image

from .base import Picture

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


def with_masks(pictures: Sequence[Picture], places: Sequence[Path]) -> tuple[Picture, ...]:
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
