"""Data sets: folders of good parts, MVTec AD's, VisA's and MTD's layouts, and packaged ELPV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from differnet_runtime.errors import DataError

from .base import DataSet, ImageFile, Label, Splits, check_no_overlap, split_good
from .elpv import read_elpv
from .folder import (
    ClassNames,
    PartNames,
    expected_layouts,
    is_mtd,
    is_mvtec,
    is_visa,
    read_folder,
    read_labelled,
    read_mtd,
    read_mvtec,
    read_visa,
)

__all__ = [
    "ClassNames",
    "DataSet",
    "ImageFile",
    "Label",
    "Splits",
    "check_no_overlap",
    "open_data",
    "open_test",
    "split_good",
]


def _by_folder(pictures: Sequence[ImageFile]) -> Sequence[str | None]:
    return [picture.part for picture in pictures]


def open_data(
    source: str,
    seed: int = 0,
    names: ClassNames = ClassNames(),  # noqa: B008 - it is frozen
    part_names: PartNames = _by_folder,
) -> DataSet:
    """Opens what training reads.

    Args:
        source: A folder of good pictures, alone or in `good/` beside folders of defects, a folder
            in the layout of MVTec AD, VisA (one category) or MTD, or `elpv:mono`, `elpv:poly`,
            `elpv:both`.
        seed: Of the split, where the data set has none of its own.
        names: Of the folders of good and of defective parts.
        part_names: Names the part that each picture shows, in a folder that is to be divided.

    Raises:
        DataError: It does not exist, or its layout is none of these.
    """
    if (data := _published(source, seed, names)) is not None:
        return data
    folder = Path(source)
    if is_mvtec(folder):
        return read_mvtec(folder, names)
    return read_folder(folder, names, seed, part_names)


def open_test(
    source: str,
    seed: int = 0,
    names: ClassNames = ClassNames(),  # noqa: B008
) -> DataSet:
    """Opens labelled pictures, for evaluation; `good` is empty where the source has test data only.

    Raises:
        DataError: It does not exist, or holds nothing to judge.
    """
    data = _published(source, seed, names)
    if data is None:
        folder = Path(source)
        if is_mvtec(folder):
            data = read_mvtec(folder, names, to_learn=False)
        else:
            data = read_labelled(folder, names)
    if not data.test:
        raise DataError(f"{source} holds no labelled pictures to judge by.\n{expected_layouts()}")
    return data


def _published(source: str, seed: int, names: ClassNames) -> DataSet | None:
    """Reads a published data set that has folders of its own; None for all others."""
    folder = Path(source)
    elpv = source.startswith("elpv") and not folder.is_dir()
    if not elpv and not folder.is_dir():
        raise DataError(f"there is no folder {folder}.\n{expected_layouts()}")
    if not (elpv or is_visa(folder) or is_mtd(folder)):
        return None
    if names != ClassNames():
        raise DataError(
            f"{source} is a published data set whose folders are known: leave out --good and "
            "--defect."
        )
    if elpv:
        return read_elpv(source.partition(":")[2] or "mono", seed)
    return read_visa(folder, seed) if is_visa(folder) else read_mtd(folder, seed)
