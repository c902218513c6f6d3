"""Data sets: folders of images, the layouts of MVTec AD, VisA and MTD, and packaged ELPV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from differnet_runtime.errors import DataError

from .base import DataSet, ImageFile, Label, Splits, check_no_overlap, split_good
from .elpv import read_elpv
from .folder import (
    EXPECTED_LAYOUTS,
    MTD_FREE,
    ClassNames,
    PartNames,
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


def _by_folder(images: Sequence[ImageFile]) -> Sequence[str | None]:
    return [image.part for image in images]


def open_data(
    source: str,
    seed: int = 0,
    names: ClassNames = ClassNames(),  # noqa: B008 - it is frozen
    part_names: PartNames = _by_folder,
) -> DataSet:
    """Opens a data set for training.

    Args:
        source: A folder of normal images, alone or in `good/` beside folders of defects, a folder
            in the layout of MVTec AD, VisA (one category) or MTD, or `elpv:mono`, `elpv:poly`,
            `elpv:both`.
        seed: Seed of the split, if the data set has none of its own.
        names: Names of the folders of good and of defective parts.
        part_names: Names the part that each image shows, in a folder that is to be divided.

    Raises:
        DataError: It does not exist, or its layout is none of these.
    """
    if (data := _published(source, seed, names)) is not None:
        return data
    folder = Path(source)
    if _is_mvtec(folder):
        return read_mvtec(folder, names)
    return read_folder(folder, names, seed, part_names)


def open_test(
    source: str,
    seed: int = 0,
    names: ClassNames = ClassNames(),  # noqa: B008
) -> DataSet:
    """Opens labelled images for evaluation; `good` is empty if the source has test data only.

    Raises:
        DataError: It does not exist, or holds nothing to judge.
    """
    folder = Path(source)
    if (data := _published(source, seed, names)) is None:
        mvtec = _is_mvtec(folder)
        data = read_mvtec(folder, names, to_learn=False) if mvtec else read_labelled(folder, names)
    if not data.test:
        raise DataError(f"{source} holds no labelled pictures to judge by.\n{EXPECTED_LAYOUTS}")
    return data


def _is_mvtec(folder: Path) -> bool:
    return (folder / "train").is_dir() or (folder / "test").is_dir()


def _published(source: str, seed: int, names: ClassNames) -> DataSet | None:
    """Reads a published data set with its own folders; returns None for all others."""
    folder = Path(source)
    elpv = source.startswith("elpv") and not folder.is_dir()
    if not elpv and not folder.is_dir():
        raise DataError(f"there is no folder {folder}.\n{EXPECTED_LAYOUTS}")
    visa = (folder / "Data" / "Images").is_dir()
    if not (elpv or visa or (folder / MTD_FREE).is_dir()):
        return None
    if names != ClassNames():
        raise DataError(
            f"{source} is a published data set whose folders are known: leave out --good and "
            "--defect."
        )
    if elpv:
        return read_elpv(source.partition(":")[2] or "mono", seed)
    return read_visa(folder, seed) if visa else read_mtd(folder, seed)
