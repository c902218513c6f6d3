"""Data sets: folders of good parts, MVTec AD's, VisA's and MTD's layouts, and packaged ELPV."""

from __future__ import annotations

from pathlib import Path

from differnet_runtime.errors import DataError

from .base import DataSet, Label, Parts, Picture, check_no_overlap, split_good
from .elpv import read_elpv
from .folder import expected_layouts, read_classes, read_folder
from .mtd import is_mtd, read_mtd
from .mvtec import is_mvtec, read_mvtec
from .visa import is_visa, read_visa

__all__ = [
    "DataSet",
    "Label",
    "Parts",
    "Picture",
    "check_no_overlap",
    "open_data",
    "open_test",
    "split_good",
]


def open_data(source: str, seed: int = 0) -> DataSet:
    """Opens what training reads.

    Args:
        source: A folder of good pictures, a folder in the layout of MVTec AD, VisA
            (one category) or MTD, or `elpv:mono`,
            `elpv:poly`, `elpv:both`.
        seed: Of the split, where the data set has none of its own (ELPV, VisA, MTD).

    Raises:
        DataError: It does not exist, or its layout is none of these.
    """
    if source.startswith("elpv"):
        return read_elpv(source.partition(":")[2] or "mono", seed)
    folder = _existing(source)
    return _divided(folder, seed) or read_folder(folder)


def open_test(source: str, seed: int = 0) -> DataSet:
    """Opens labelled pictures, for evaluation; `good` is empty where the source has test data only.

    Raises:
        DataError: It does not exist, or holds no labelled pictures.
    """
    if source.startswith("elpv"):
        return read_elpv(source.partition(":")[2] or "mono", seed)
    folder = _existing(source)
    data = _divided(folder, seed) or DataSet(folder.name, (), read_classes(folder))
    if not data.test:
        raise DataError(f"{folder} holds no labelled pictures to judge by.\n{expected_layouts()}")
    return data


def _divided(folder: Path, seed: int) -> DataSet | None:
    """Reads a layout that holds pictures to learn from and others to judge by, or returns None."""
    if is_visa(folder):
        return read_visa(folder, seed)
    if is_mtd(folder):
        return read_mtd(folder, seed)
    return read_mvtec(folder) if is_mvtec(folder) else None


def _existing(source: str) -> Path:
    folder = Path(source)
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}.\n{expected_layouts()}")
    return folder
