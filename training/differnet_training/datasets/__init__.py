"""Data sets: folders of good parts, the MVTec AD layout, and ELPV from the package index."""

from __future__ import annotations

from pathlib import Path

from differnet_runtime.errors import DataError

from .base import DataSet, Label, Parts, Picture, check_no_overlap, split_good
from .elpv import read_elpv
from .folder import expected_layouts, read_classes, read_folder
from .mvtec import is_mvtec, read_mvtec

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
        source: A folder of good pictures, a folder in MVTec AD's layout, or `elpv:mono`,
            `elpv:poly`, `elpv:both`.
        seed: Of ELPV's split.

    Raises:
        DataError: It does not exist, or its layout is none of these.
    """
    if source.startswith("elpv"):
        return read_elpv(source.partition(":")[2] or "mono", seed)
    folder = _existing(source)
    return read_mvtec(folder) if is_mvtec(folder) else read_folder(folder)


def open_test(source: str, seed: int = 0) -> DataSet:
    """Opens labelled pictures, for evaluation; `good` is empty where the source has test data only.

    Raises:
        DataError: It does not exist, or holds no labelled pictures.
    """
    if source.startswith("elpv"):
        return read_elpv(source.partition(":")[2] or "mono", seed)
    folder = _existing(source)
    data = (
        read_mvtec(folder) if is_mvtec(folder) else DataSet(folder.name, (), read_classes(folder))
    )
    if not data.test:
        raise DataError(f"{folder} holds no labelled pictures to judge by.\n{expected_layouts()}")
    return data


def _existing(source: str) -> Path:
    folder = Path(source)
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}.\n{expected_layouts()}")
    return folder
