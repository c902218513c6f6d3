"""ELPV: 2,624 electroluminescence images of solar cells, from the package `elpv-dataset`.

Buerhop-Lutz et al., A Benchmark for Visual Identification of Defective Solar Cells, 2018;
Deitsch et al., Solar Energy 185, 2019. Licence of the data: CC BY-NC-SA 4.0 (no commercial use).
"""

from __future__ import annotations

import csv
from importlib.resources import files
from pathlib import Path

from differnet_runtime.errors import DataError
from differnet_runtime.installation import install_line
from differnet_runtime.text import instead

from .base import DataSet, ImageFile, Label, divided

KINDS = ("mono", "poly", "both")
NOTE = (
    "ELPV (CC BY-NC-SA 4.0, no commercial use). Good is defect probability 0, defect is 1; 0.33 "
    "and 0.67 are reported apart. Cells of one solar module can fall on both sides of the split."
)


def read_elpv(kind: str, seed: int) -> DataSet:
    """Splits ELPV at random: 60 % of the good cells to learn from, 40 % and all others to judge.

    The files are in the order of the solar modules, so the split must not go by position.

    Args:
        kind: `mono`, `poly` or `both`.
        seed: Seed of the split.

    Raises:
        DataError: Unknown kind, or the package is missing.
    """
    return divided(f"ELPV {kind}", *elpv_pictures(kind), seed, NOTE)


def elpv_pictures(kind: str) -> tuple[tuple[ImageFile, ...], tuple[ImageFile, ...]]:
    """Returns the good cells and all others, in the order of the files."""
    if kind not in KINDS:
        raise DataError(f"ELPV has no cells {kind!r}; {instead(kind, KINDS)}")
    try:
        root = Path(str(files("elpv_dataset"))) / "data"
    except ModuleNotFoundError as error:
        raise DataError(
            f"the ELPV pictures are missing. Install them with `{install_line('demo')}` "
            "(CC BY-NC-SA 4.0: no commercial use)."
        ) from error
    images = []
    with (root / "labels.csv").open(encoding="utf-8") as file:
        for name, probability, cell_type in csv.reader(file, delimiter=" ", skipinitialspace=True):
            if kind in ("both", cell_type.strip()):
                images.append(_labelled(root / name, float(probability)))
    good = tuple(image for image in images if image.label is Label.GOOD)
    return good, tuple(image for image in images if image.label is not Label.GOOD)


def _labelled(path: Path, probability: float) -> ImageFile:
    if probability == 0.0:
        return ImageFile(path)
    if probability == 1.0:
        return ImageFile(path, Label.DEFECT, "defect")
    return ImageFile(path, Label.UNCERTAIN, f"probability {probability:.2f}")
