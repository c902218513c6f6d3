"""The layout of MVTec AD: train/good, test/good, test/DEFECT, ground_truth/DEFECT.

Bergmann et al., MVTec AD, CVPR 2019, https://www.mvtec.com/company/research/datasets/mvtec-ad
"""

from __future__ import annotations

from pathlib import Path

from differnet_runtime.errors import DataError

from .base import DataSet, pictures_in
from .folder import ClassNames, expected_layouts, found, read_classes


def is_mvtec(folder: Path) -> bool:
    """Whether the folder is laid out like MVTec AD (a `train` or a `test` folder tells)."""
    return (folder / "train").is_dir() or (folder / "test").is_dir()


def read_mvtec(folder: Path, names: ClassNames, *, to_learn: bool = True) -> DataSet:
    """Reads one category; `test`, its `good` and `ground_truth` may be missing.

    Args:
        folder: Of the category.
        names: Of the folders of good and of defective parts in `train` and `test`.
        to_learn: Ask for pictures to learn from.

    Raises:
        DataError: There are no pictures to learn from; shows what was found.
    """
    good_folder, test_folder = folder / "train" / names.good, folder / "test"
    good = pictures_in(good_folder) if good_folder.is_dir() else ()
    if to_learn and not good:
        raise DataError(
            f"{folder} looks like MVTec AD, but train/{names.good} holds no pictures. If the good "
            f"parts are in another folder of train, name it: --good NAME.\n"
            f"{expected_layouts()}\nFound:\n{found(folder / 'train')}"
        )
    test = read_classes(test_folder, names) if test_folder.is_dir() else ()
    return DataSet(folder.name, good, test)
