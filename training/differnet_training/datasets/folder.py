"""Reads folders of images: normal images alone, one folder a class, and three published layouts.

    MVTec AD   train/good, test/good, test/DEFECT, ground_truth/DEFECT
    VisA       Data/Images/Normal, Data/Images/Anomaly, Data/Masks/Anomaly
    MTD        MT_Free/Imgs, MT_KIND/Imgs, each NAME.jpg with its mask NAME.png

References:
    Bergmann et al., MVTec AD, CVPR 2019, https://www.mvtec.com/company/research/datasets/mvtec-ad
    Zou et al., SPot-the-Difference (VisA), ECCV 2022, https://github.com/amazon-science/spot-diff
    Huang et al., Surface defect saliency of magnetic tile, 2020,
    https://github.com/abin24/Magnetic-tile-defect-datasets.
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
    images_in,
    is_mask_folder,
    left_to_judge,
    mask_places,
    with_masks,
)

PartNames = Callable[[Sequence[ImageFile]], Sequence[str | None]]


EXPECTED_LAYOUTS = (
    "Expected one of:\n"
    f"  FOLDER/*.png                       good parts only ({', '.join(sorted(SUFFIXES))})\n"
    "  FOLDER/good/*.png, FOLDER/DEFECT/*.png    good parts beside defects (--good, --defect)\n"
    "  FOLDER/good/PART/*.png             the same, with a folder for each good part\n"
    "  FOLDER/train/good/*.png            MVTec AD: good parts to learn from\n"
    "  FOLDER/test/good/*.png, FOLDER/test/DEFECT/*.png    and labelled ones to judge by\n"
    "  FOLDER/Data/Images/Normal, Data/Images/Anomaly      VisA, one category\n"
    "  FOLDER/MT_Free/Imgs, MT_KIND/Imgs                   magnetic tiles (MTD)"
)
"""The layouts that are read, for messages."""


MTD_FREE = "MT_Free"
"""The folder of tiles without defects, by which the layout of MTD is recognised."""


@dataclass(frozen=True)
class ClassNames:
    """Names of the folders of a data set.

    Args:
        good: Folder of good parts.
        defects: Folders of defects; empty takes every other folder that holds images.

    Example:
        >>> ClassNames("ok", ("scratch", "dent")).good
        'ok'
    """

    good: str = "good"
    defects: tuple[str, ...] = ()


def read_folder(folder: Path, names: ClassNames, seed: int, part_names: PartNames) -> DataSet:
    """Reads normal images to learn from: those in the folder, or those in its `good`.

    If there are folders of defects, a fifth of the images in `good`, chosen by a hash of seed and
    content, is kept for testing.

    Args:
        folder: Holds the images, or the folders of classes.
        names: Names of the folders of good and of defective parts.
        seed: Decides which fifth of the normal images is kept for testing.
        part_names: Names the part that each image shows, which is never divided.

    Raises:
        DataError: There are no normal images, or some in both places; shows what was found.
    """
    direct, classes = images_in(folder), folder / names.good
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
    good = tuple(image for image in labelled if image.label is Label.GOOD)
    if not good:
        raise _nothing_good(folder, names)
    if len(good) == len(labelled):
        return DataSet(folder.name, good)
    held_out = set(left_to_judge(good, part_names(good), seed))
    return DataSet(
        folder.name,
        tuple(image for image in good if image not in held_out),
        tuple(image for image in labelled if image.label is not Label.GOOD or image in held_out),
    )


def read_labelled(folder: Path, names: ClassNames) -> DataSet:
    """Reads all that can be judged: the folders of classes, or the normal images in the folder.

    Raises:
        DataError: There is nothing to judge; shows what was found.
    """
    has_good = (folder / names.good).is_dir()
    if has_good or (names.defects and names.good == ClassNames.good):
        return DataSet(folder.name, (), read_classes(folder, names), undivided=True)
    if names == ClassNames() and (images := images_in(folder)):
        note = f"{folder.name} holds no folders of classes: its pictures are taken as good parts."
        return DataSet(folder.name, (), images, note, undivided=True)
    raise _nothing_good(folder, names)


def read_classes(folder: Path, names: ClassNames) -> tuple[ImageFile, ...]:
    """Reads the folders of good parts and of defects as labelled images with masks.

    Raises:
        DataError: A folder of defects was named and is missing; shows what was found.
    """
    if missing := [name for name in names.defects if not (folder / name).is_dir()]:
        raise DataError(
            f"there is no folder {folder / missing[0]}, which --defect names.\n"
            f"Found:\n{found(folder)}"
        )
    labelled = _good(folder / names.good)
    for kind in names.defects or [one for one in _subfolders(folder) if one != names.good]:
        images = images_in(folder / kind, Label.DEFECT, kind)
        labelled += with_masks(images, mask_places(folder, kind))
    return tuple(labelled)


def _good(folder: Path) -> list[ImageFile]:
    """Lists the normal images in a folder, or in its folders, of which each is for one part."""
    if not folder.is_dir():
        return []
    if direct := images_in(folder):
        return list(with_masks(direct, ()))
    return [
        replace(image, part=part)
        for part in _subfolders(folder)
        for image in with_masks(images_in(folder / part), ())
    ]


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
        f"{EXPECTED_LAYOUTS}\nFound:\n{found(folder)}"
    )


def found(folder: Path) -> str:
    """Lists what is in a folder, for messages about a wrong layout."""
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


def read_mvtec(folder: Path, names: ClassNames, *, to_learn: bool = True) -> DataSet:
    """Reads one category of MVTec AD; `test`, its `good` and `ground_truth` may be missing.

    Args:
        folder: Folder of the category.
        names: Names of the folders of good and of defective parts in `train` and `test`.
        to_learn: Whether images to learn from are required.

    Raises:
        DataError: There are no images to learn from; shows what was found.
    """
    good_folder, test_folder = folder / "train" / names.good, folder / "test"
    good = images_in(good_folder) if good_folder.is_dir() else ()
    if to_learn and not good:
        raise DataError(
            f"{folder} looks like MVTec AD, but train/{names.good} holds no pictures. If the good "
            f"parts are in another folder of train, name it: --good NAME.\n"
            f"{EXPECTED_LAYOUTS}\nFound:\n{found(folder / 'train')}"
        )
    test = read_classes(test_folder, names) if test_folder.is_dir() else ()
    return DataSet(folder.name, good, test)


def read_visa(folder: Path, seed: int) -> DataSet:
    """Reads one category of VisA; a share of its normal images, drawn by seed, is for testing.

    Raises:
        DataError: There are no normal images; shows what was found.
    """
    images, masks = folder / "Data" / "Images", folder / "Data" / "Masks" / "Anomaly"
    normal, anomaly = images / "Normal", images / "Anomaly"
    good = images_in(normal) if normal.is_dir() else ()
    if not good:
        raise DataError(
            f"{folder} looks like VisA, but Data/Images/Normal holds no pictures.\n"
            f"{EXPECTED_LAYOUTS}\nFound:\n{found(images)}"
        )
    defects = images_in(anomaly, Label.DEFECT, "anomaly") if anomaly.is_dir() else ()
    return divided(folder.name, good, with_masks(defects, [masks]), seed)


def read_mtd(folder: Path, seed: int) -> DataSet:
    """Reads MTD's tiles; a share of those without defects, drawn by seed, is for testing.

    Raises:
        DataError: There are no tiles without defects; shows what was found.
    """
    good = _tiles(folder / MTD_FREE, Label.GOOD)
    if not good:
        raise DataError(
            f"{folder} looks like the magnetic tile data set, but {MTD_FREE}/Imgs holds no *.jpg.\n"
            f"{EXPECTED_LAYOUTS}\nFound:\n{found(folder / MTD_FREE)}"
        )
    kinds = sorted(path for path in folder.glob("MT_*") if path.name != MTD_FREE)
    defects = tuple(tile for kind in kinds for tile in _tiles(kind, Label.DEFECT))
    return divided(folder.name, good, defects, seed)


def _tiles(folder: Path, label: Label) -> tuple[ImageFile, ...]:
    kind = "good" if label is Label.GOOD else folder.name.removeprefix("MT_").lower()
    paths = sorted((folder / "Imgs").glob("*.jpg"))
    masks = [path.with_suffix(".png") for path in paths]
    return tuple(
        ImageFile(path, label, kind, mask if label is Label.DEFECT and mask.is_file() else None)
        for path, mask in zip(paths, masks, strict=True)
    )
