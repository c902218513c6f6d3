"""Folders of pictures: good parts alone, or one subfolder a class."""

from __future__ import annotations

from pathlib import Path

from differnet_runtime.errors import DataError
from differnet_runtime.images import SUFFIXES

from .base import DataSet, Label, Picture, pictures_in


def read_folder(folder: Path) -> DataSet:
    """Reads a folder of good pictures.

    Raises:
        DataError: No pictures lie directly in it; shows what was found.
    """
    good = pictures_in(folder)
    if not good:
        raise DataError(
            f"no pictures lie directly in {folder}.\n{expected_layouts()}\nFound:\n{found(folder)}"
        )
    return DataSet(name=folder.name, good=good)


def read_classes(folder: Path) -> tuple[Picture, ...]:
    """Reads `good/` and one subfolder a defect class, as labelled pictures.

    Raises:
        DataError: There is no `good/`, or nothing in it.
    """
    good = folder / "good"
    if not good.is_dir() or not (pictures := pictures_in(good)):
        raise DataError(
            f"{folder} has no pictures in good/.\n{expected_layouts()}\nFound:\n{found(folder)}"
        )
    labelled = list(pictures)
    for defect in sorted(path for path in folder.iterdir() if path.is_dir() and path != good):
        labelled += pictures_in(defect, Label.DEFECT, defect.name)
    return tuple(labelled)


def expected_layouts() -> str:
    """Says which layouts are read."""
    return (
        "Expected one of:\n"
        f"  FOLDER/*.png                       good parts only ({', '.join(sorted(SUFFIXES))})\n"
        "  FOLDER/train/good/*.png            MVTec AD: good parts to learn from\n"
        "  FOLDER/test/good/*.png, FOLDER/test/DEFECT/*.png    and labelled ones to judge by\n"
        "  FOLDER/Data/Images/Normal, Data/Images/Anomaly      VisA, one category\n"
        "  FOLDER/MT_Free/Imgs, MT_KIND/Imgs                   magnetic tiles (MTD)\n"
        "  FOLDER/good/*.png, FOLDER/DEFECT/*.png              labelled pictures, for eval only"
    )


def found(folder: Path) -> str:
    """Says what lies in a folder, for messages about a wrong layout."""
    if not folder.is_dir():
        return f"  {folder} is not a folder"
    entries = sorted(folder.iterdir())
    lines = [
        f"  {entry.name}/  ({sum(1 for _ in entry.iterdir())} entries)"
        if entry.is_dir()
        else f"  {entry.name}"
        for entry in entries[:12]
    ]
    if len(entries) > 12:
        lines.append(f"  ... {len(entries) - 12} more")
    return "\n".join(lines) or "  nothing"
