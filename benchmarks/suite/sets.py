"""The sets of pictures below some folders, how each is divided, and how its pictures are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from differnet_runtime.errors import DataError
from differnet_training.datasets import DataSet, ImageFile, Label, open_data
from differnet_training.datasets.elpv import elpv_pictures

from .halves import Halves, by_kind, divided

DEPTH = 3
"""So many folders deep sets are looked for."""

ELPV = ("mono", "poly", "both")
ROWS = {"piped_paper": "PIPED papers"}
"""Sets in a folder of that name are one row of the tables: their mean."""

Region = tuple[int, int, int, int]
REGIONS: dict[str, tuple[Region, str]] = {
    "aws_circuitboard_mini": (
        (150, 180, 740, 320),
        "the board fills a quarter of the frame; in all 34 training pictures it lies within "
        "x 189 to 862 and y 199 to 491, its shadow included",
    ),
}
"""x, y, width and height of what a camera would be aimed at, and why."""


@dataclass(frozen=True)
class PictureSet:
    """One set.

    Args:
        name: The name of its folder; `elpv_mono` and so on for ELPV.
        source: What `open_data` takes.
        row: The row of the tables that it belongs to; the papers share one.
        region: Cut out of every picture, for every method.
        train: Names of the good pictures to learn from; None leaves the split as the set has it.
    """

    name: str
    source: str
    row: str
    region: Region | None = None
    train: frozenset[str] | None = None

    @property
    def drawn_by_seed(self) -> bool:
        """Whether the seed decides which good pictures are judged."""
        return self._elpv is not None or (self.train is None and _is_mtd(Path(self.source)))

    @property
    def _elpv(self) -> str | None:
        kind = self.source.partition(":")
        return kind[2] if kind[0] == "elpv" else None

    def opened(self, seed: int) -> DataSet:
        """Returns what is learned from, and good and defective pictures to judge by."""
        data = open_data(self.source, seed)
        test = tuple(one for one in data.test if one.label is not Label.UNCERTAIN)
        if self.train is None:
            return replace(data, test=test)
        good = [one for one in (*data.good, *test) if one.label is Label.GOOD]
        if missing := self.train - {one.path.name for one in good}:
            raise DataError(f"{self.name}: no good pictures named {sorted(missing)[:5]}")
        learned = tuple(one for one in good if one.path.name in self.train)
        held = tuple(one for one in good if one.path.name not in self.train)
        others = tuple(one for one in test if one.label is not Label.GOOD)
        return replace(data, good=learned, test=(*held, *others))

    def halves(self) -> Halves:
        """Divides what may be judged; a picture is in the same half whatever the seed.

        Where the seed draws the judged ones, all good pictures are ranked; of ELPV, each cell type
        for itself, so that `both` has the halves of `mono` and `poly`.
        """
        if self._elpv is not None:
            types = ("mono", "poly") if self._elpv == "both" else (self._elpv,)
            return divided(g for kind in types for g in by_kind(_flat(elpv_pictures(kind))))
        data = self.opened(0)
        return divided(by_kind((*(data.good if self.drawn_by_seed else ()), *data.test)))


def _flat(parts: tuple[tuple[ImageFile, ...], ...]) -> list[ImageFile]:
    return [one for part in parts for one in part if one.label is not Label.UNCERTAIN]


def _is_mtd(folder: Path) -> bool:
    return (folder / "MT_Free").is_dir()


def find_sets(
    folders: Sequence[Path], regions: dict[str, Region] | None = None
) -> list[PictureSet]:
    """Returns the sets below the folders, by name, then ELPV's three.

    Args:
        folders: Searched `DEPTH` folders deep.
        regions: By the name of a set, in place of `REGIONS`.
    """
    chosen = {name: region for name, (region, _) in REGIONS.items()} | (regions or {})
    found = {
        folder.name: PictureSet(
            folder.name,
            str(folder),
            ROWS.get(folder.parent.name, folder.name),
            chosen.get(folder.name),
            _names(folder.with_name(f"{folder.name}_train_filenames.txt")),
        )
        for top in folders
        for folder in _below(top, DEPTH)
    }
    if unknown := set(regions or {}) - set(found):
        raise DataError(f"--region names sets that were not found: {', '.join(sorted(unknown))}")
    elpv = [PictureSet(f"elpv_{kind}", f"elpv:{kind}", f"ELPV {kind}") for kind in ELPV]
    return [*(found[name] for name in sorted(found)), *elpv]


def _below(folder: Path, depth: int) -> list[Path]:
    if (folder / "train" / "good").is_dir() or _is_mtd(folder):
        return [folder]
    if depth == 0 or not folder.is_dir():
        return []
    inside = sorted(one for one in folder.iterdir() if one.is_dir())
    return [found for one in inside for found in _below(one, depth - 1)]


def _names(path: Path) -> frozenset[str] | None:
    if not path.is_file():
        return None
    lines = path.read_text(encoding="utf-8").splitlines()
    return frozenset(line.strip() for line in lines if line.strip())


def parse_region(text: str) -> tuple[str, Region]:
    """Reads `SET=x,y,width,height`."""
    name, _, numbers = text.partition("=")
    parts = tuple(int(number) for number in numbers.split(","))
    if not name or len(parts) != 4:
        raise ValueError(f"expected SET=x,y,width,height; received {text!r}")
    return name, (parts[0], parts[1], parts[2], parts[3])
