"""The layout of the magnetic tile data set: MT_Free/Imgs, MT_KIND/Imgs, pictures beside masks.

Huang et al., Surface defect saliency of magnetic tile, 2020; a picture is NAME.jpg, its mask
NAME.png. https://github.com/abin24/Magnetic-tile-defect-datasets.
"""

from __future__ import annotations

from pathlib import Path

from differnet_runtime.errors import DataError

from .base import DataSet, Label, Picture, divided
from .folder import expected_layouts, found

FREE = "MT_Free"


def is_mtd(folder: Path) -> bool:
    """Whether the folder is laid out like the magnetic tile data set."""
    return (folder / FREE).is_dir()


def read_mtd(folder: Path, seed: int) -> DataSet:
    """Reads the tiles; a share of those without defects, drawn by seed, is left to judge by.

    Raises:
        DataError: There are no tiles without defects; shows what was found.
    """
    good = _tiles(folder / FREE, Label.GOOD)
    if not good:
        raise DataError(
            f"{folder} looks like the magnetic tile data set, but {FREE}/Imgs holds no *.jpg.\n"
            f"{expected_layouts()}\nFound:\n{found(folder / FREE)}"
        )
    kinds = sorted(path for path in folder.glob("MT_*") if path.name != FREE)
    defects = tuple(tile for kind in kinds for tile in _tiles(kind, Label.DEFECT))
    return divided(folder.name, good, defects, seed)


def _tiles(folder: Path, label: Label) -> tuple[Picture, ...]:
    kind = "good" if label is Label.GOOD else folder.name.removeprefix("MT_").lower()
    pictures = []
    for path in sorted((folder / "Imgs").glob("*.jpg")):
        mask = path.with_suffix(".png")
        has_mask = label is Label.DEFECT and mask.is_file()
        pictures.append(Picture(path, label, kind, mask if has_mask else None))
    return tuple(pictures)
