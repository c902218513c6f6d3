"""The layout of MVTec AD: train/good, test/good, test/DEFECT, ground_truth/DEFECT.

Bergmann et al., MVTec AD, CVPR 2019, https://www.mvtec.com/company/research/datasets/mvtec-ad
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from differnet_runtime.errors import DataError

from .base import DataSet, Label, Picture, pictures_in
from .folder import expected_layouts, found, read_classes


def is_mvtec(folder: Path) -> bool:
    """Whether the folder is laid out like MVTec AD (a `train` or a `test` folder tells)."""
    return (folder / "train").is_dir() or (folder / "test").is_dir()


def read_mvtec(folder: Path) -> DataSet:
    """Reads one category.

    Raises:
        DataError: `train/good` is missing or empty, or `test` has no `good`; shows what was found.
    """
    good_folder = folder / "train" / "good"
    good = pictures_in(good_folder) if good_folder.is_dir() else ()
    if not good:
        raise DataError(
            f"{folder} looks like MVTec AD, but train/good holds no pictures.\n"
            f"{expected_layouts()}\nFound:\n{found(folder)}"
        )
    test_folder = folder / "test"
    test = read_classes(test_folder) if test_folder.is_dir() else ()
    return DataSet(
        name=folder.name, good=good, test=tuple(_with_mask(folder, picture) for picture in test)
    )


def _with_mask(folder: Path, picture: Picture) -> Picture:
    if picture.label is not Label.DEFECT:
        return picture
    mask = folder / "ground_truth" / picture.kind / f"{picture.path.stem}_mask.png"
    return replace(picture, mask=mask) if mask.is_file() else picture
