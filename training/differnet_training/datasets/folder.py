"""Folders of pictures: good parts alone, or one subfolder a class.

The layout of MVTec AD: train/good, test/good, test/DEFECT, ground_truth/DEFECT.

Bergmann et al., MVTec AD, CVPR 2019, https://www.mvtec.com/company/research/datasets/mvtec-ad

The layout of VisA: Data/Images/Normal, Data/Images/Anomaly, Data/Masks/Anomaly.

Zou et al., SPot-the-Difference, ECCV 2022, https://github.com/amazon-science/spot-diff

The layout of the magnetic tile data set: MT_Free/Imgs, MT_KIND/Imgs, pictures beside masks.

Huang et al., Surface defect saliency of magnetic tile, 2020; a picture is NAME.jpg, its mask
NAME.png. https://github.com/abin24/Magnetic-tile-defect-datasets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from differnet_runtime.errors import DataError
from differnet_runtime.files import SUFFIXES
from differnet_runtime.images import list_images

from .base import (
    DataSet,
    ImageFile,
    Label,
    divided,
    is_mask_folder,
    left_to_judge,
    mask_places,
    pictures_in,
    with_masks,
)

PartNames = Callable[[Sequence[ImageFile]], Sequence[str | None]]


@dataclass(frozen=True)
class ClassNames:
    """How the folders of a data set are called.

    Args:
        good: The folder of good parts.
        defects: Folders of defects; empty takes every other folder that holds pictures.
    """

    good: str = "good"
    defects: tuple[str, ...] = ()


def read_folder(folder: Path, names: ClassNames, seed: int, part_names: PartNames) -> DataSet:
    """Reads good pictures to learn from: those in the folder, or those in its `good`.

    With folders of defects beside it, a fifth of the pictures in `good`, chosen by a hash of seed
    and content, is left to judge by.

    Args:
        folder: Holds the pictures, or the folders.
        names: What the folders of good and of defective parts are called.
        seed: Decides which fifth of the good pictures is left for evaluation.
        part_names: Names the part that each picture shows, which is never divided.

    Raises:
        DataError: There are no good pictures, or some in both places; shows what was found.
    """
    direct, classes = pictures_in(folder), folder / names.good
    if not classes.is_dir():
        if not direct or names != ClassNames():
            raise _nothing_good(folder, names)
        return DataSet(folder.name, direct)
    if direct:
        raise DataError(
            f"{folder} holds pictures itself and in {names.good}/. Learn from one of them: "
            f"--data {classes}, or move the {len(direct)} others away."
        )
    labelled = read_classes(folder, names)
    good = tuple(picture for picture in labelled if picture.label is Label.GOOD)
    if not good:
        raise _nothing_good(folder, names)
    if len(good) == len(labelled):
        return DataSet(folder.name, good)
    held_out = set(left_to_judge(good, part_names(good), seed))
    return DataSet(
        folder.name,
        tuple(picture for picture in good if picture not in held_out),
        tuple(p for p in labelled if p.label is not Label.GOOD or p in held_out),
    )


def read_labelled(folder: Path, names: ClassNames) -> DataSet:
    """Reads all that can be judged: the classes, or the good pictures that lie in the folder.

    Raises:
        DataError: There is nothing to judge; shows what was found.
    """
    named_and_missing = names.good != ClassNames.good and not (folder / names.good).is_dir()
    if not named_and_missing and ((folder / names.good).is_dir() or names.defects):
        return DataSet(folder.name, (), read_classes(folder, names), undivided=True)
    if names == ClassNames() and (pictures := pictures_in(folder)):
        note = f"{folder.name} holds no folders of classes: its pictures are taken as good parts."
        return DataSet(folder.name, (), pictures, note, undivided=True)
    raise _nothing_good(folder, names)


def read_classes(folder: Path, names: ClassNames) -> tuple[ImageFile, ...]:
    """Reads the folder of good parts and those of defects, as labelled pictures with masks.

    Raises:
        DataError: A folder of defects was named and is missing; shows what was found.
    """
    if missing := [name for name in names.defects if not (folder / name).is_dir()]:
        raise DataError(
            f"there is no folder {folder / missing[0]}, which --defect names.\n"
            f"Found:\n{found(folder)}"
        )
    labelled = _good(folder / names.good)
    for kind in names.defects or _other_folders(folder, names):
        pictures = pictures_in(folder / kind, Label.DEFECT, kind)
        labelled += with_masks(pictures, mask_places(folder, kind))
    return tuple(labelled)


def _good(folder: Path) -> list[ImageFile]:
    """Lists the good pictures in a folder, or in its folders, of which each is for one part."""
    if not folder.is_dir():
        return []
    if direct := pictures_in(folder):
        return list(with_masks(direct, ()))
    return [
        replace(picture, part=part)
        for part in _subfolders(folder)
        for picture in with_masks(pictures_in(folder / part), ())
    ]


def _other_folders(folder: Path, names: ClassNames) -> list[str]:
    return [name for name in _subfolders(folder) if name != names.good]


def _subfolders(folder: Path) -> list[str]:
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.is_dir() and not path.name.startswith(".") and not is_mask_folder(path)
    )


def _nothing_good(folder: Path, names: ClassNames) -> DataError:
    held = [path for path in folder.iterdir() if path.is_dir() and list_images(path)]
    others = [path.name for path in sorted(held) if path.name != names.good]
    hint = (
        f"\nIf one of its folders holds the good parts, name it: --good {others[0]}"
        + (f" --defect {' '.join(others[1:4])}" if others[1:] else "")
        if others
        else ""
    )
    return DataError(
        f"no pictures lie directly in {folder}, or in {names.good}/ in it.{hint}\n"
        f"{expected_layouts()}\nFound:\n{found(folder)}"
    )


def expected_layouts() -> str:
    """Says which layouts are read."""
    return (
        "Expected one of:\n"
        f"  FOLDER/*.png                       good parts only ({', '.join(sorted(SUFFIXES))})\n"
        "  FOLDER/good/*.png, FOLDER/DEFECT/*.png    good parts beside defects (--good, --defect)\n"
        "  FOLDER/good/PART/*.png             the same, with a folder for each good part\n"
        "  FOLDER/train/good/*.png            MVTec AD: good parts to learn from\n"
        "  FOLDER/test/good/*.png, FOLDER/test/DEFECT/*.png    and labelled ones to judge by\n"
        "  FOLDER/Data/Images/Normal, Data/Images/Anomaly      VisA, one category\n"
        "  FOLDER/MT_Free/Imgs, MT_KIND/Imgs                   magnetic tiles (MTD)"
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


def _tiles(folder: Path, label: Label) -> tuple[ImageFile, ...]:
    kind = "good" if label is Label.GOOD else folder.name.removeprefix("MT_").lower()
    pictures = []
    for path in sorted((folder / "Imgs").glob("*.jpg")):
        mask = path.with_suffix(".png")
        has_mask = label is Label.DEFECT and mask.is_file()
        pictures.append(ImageFile(path, label, kind, mask if has_mask else None))
    return tuple(pictures)
