"""The layout of VisA: Data/Images/Normal, Data/Images/Anomaly, Data/Masks/Anomaly.

Zou et al., SPot-the-Difference, ECCV 2022, https://github.com/amazon-science/spot-diff
"""

from __future__ import annotations

from pathlib import Path

from differnet_runtime.errors import DataError

from .base import DataSet, Label, divided, pictures_in
from .folder import expected_layouts, found
from .masks import with_masks


def is_visa(folder: Path) -> bool:
    """Whether the folder is a category of VisA."""
    return (folder / "Data" / "Images").is_dir()


def read_visa(folder: Path, seed: int) -> DataSet:
    """Reads one category; a share of its normal pictures, drawn by seed, is left to judge by.

    Raises:
        DataError: There are no normal pictures; shows what was found.
    """
    images, masks = folder / "Data" / "Images", folder / "Data" / "Masks" / "Anomaly"
    normal, anomaly = images / "Normal", images / "Anomaly"
    good = pictures_in(normal) if normal.is_dir() else ()
    if not good:
        raise DataError(
            f"{folder} looks like VisA, but Data/Images/Normal holds no pictures.\n"
            f"{expected_layouts()}\nFound:\n{found(images)}"
        )
    defects = pictures_in(anomaly, Label.DEFECT, "anomaly") if anomaly.is_dir() else ()
    return divided(folder.name, good, with_masks(defects, [masks]), seed)
