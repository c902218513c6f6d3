"""Defects drawn on real cells, with exact masks, so that localisation can be measured.

    python -m benchmarks.synthetic FOLDER          MVTec AD's layout, 256 x 256 pixels, from a seed

The textures are good monocrystalline cells of ELPV, of one half of the data (see
`accuracy.halves`): to learn from, to be judged good, and to be damaged are different cells. Each
kind of damage has a strength drawn from a range, from hardly there to plain:

    crack      a jagged dark line of one to three pixels
    inactive   a polygon whose brightness sinks to a part of it
    stain      a soft blot, darker or lighter
    patch      a rectangle of another cell (CutPaste: Li et al., CVPR 2021)
    blur       a soft-edged disc in which the texture is smoothed away

The mask marks the pixels that changed by more than `VISIBLE` grey values.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from differnet_runtime.images import read_image, write_image
from differnet_training.limit_search import mixed

from .accuracy import halves

# ruff: noqa: ARG001 - every kind of damage takes the same arguments

SIZE = 256
VISIBLE = 4
LEAST_PIXELS = 20
TRAIN, GOOD = 130, 50

Cell = NDArray[np.uint8]
Share = NDArray[np.float32]
Damage = Callable[[Cell, Cell, np.random.RandomState], Cell]


def make_set(folder: Path, *, which: int = 1, seed: int = 0) -> Path:
    """Writes a data set; the same seed gives the same bytes.

    Args:
        folder: Where `train/good`, `test/good`, `test/KIND` and `ground_truth/KIND` go.
        which: Half of ELPV: 0 to choose by, 1 to report.
        seed: Of the choice of cells and of the damage.

    Returns:
        `folder`.
    """
    random = np.random.RandomState(seed)
    pictures = halves("mono")[which].good
    order = random.permutation(len(pictures))
    cells = [_cell(pictures[k].path) for k in order]
    train, good, rest = cells[:TRAIN], cells[TRAIN : TRAIN + GOOD], cells[TRAIN + GOOD :]
    for name, part in (("train/good", train), ("test/good", good)):
        for index, cell in enumerate(part):
            write_image(folder / name / f"{index:03d}.png", cell)
    for index, cell in enumerate(rest):
        kind = tuple(KINDS)[index % len(KINDS)]
        damaged, mask = damage(kind, cell, rest[index - 1], random)
        write_image(folder / "test" / kind / f"{index:03d}.png", damaged)
        write_image(folder / "ground_truth" / kind / f"{index:03d}_mask.png", mask)
    return folder


def damage(
    kind: str, cell: Cell, other: Cell, random: np.random.RandomState
) -> tuple[Cell, NDArray[np.uint8]]:
    """Damages a cell until enough of it is seen.

    Args:
        kind: One of `KINDS`.
        cell: `(SIZE, SIZE) uint8`; is not changed.
        other: Another cell.
        random: Draws place, shape and strength.

    Returns:
        The damaged cell, and its mask: 255 where more than `VISIBLE` grey values changed.
    """
    while True:
        damaged = KINDS[kind](cell, other, random)
        changed = cv2.absdiff(damaged, cell) > VISIBLE
        if changed.sum() >= LEAST_PIXELS:
            return damaged, np.where(changed, 255, 0).astype(np.uint8)


def _cell(path: Path) -> Cell:
    image = read_image(path)
    grey = image if image.ndim == 2 else image[:, :, 0]
    return np.asarray(cv2.resize(grey, (SIZE, SIZE), interpolation=cv2.INTER_AREA), np.uint8)


def _place(random: np.random.RandomState) -> NDArray[np.float64]:
    return random.uniform(0.15 * SIZE, 0.85 * SIZE, 2)


def _crack(cell: Cell, other: Cell, random: np.random.RandomState) -> Cell:
    points = [_place(random)]
    heading = random.uniform(0, 2 * np.pi)
    for _ in range(random.randint(4, 14)):
        heading += random.normal(0, 0.5)
        step = random.uniform(5, 14) * np.array([np.cos(heading), np.sin(heading)])
        points.append(points[-1] + step)
    share = np.zeros((SIZE, SIZE), np.uint8)
    line = np.round(points).astype(np.int32).reshape(-1, 1, 2)
    cv2.polylines(share, [line], False, 255, int(random.randint(1, 4)), cv2.LINE_AA)
    return mixed(cell, cell * 0.2, random.uniform(0.4, 1.0) * share.astype(np.float32) / 255)


def _inactive(cell: Cell, other: Cell, random: np.random.RandomState) -> Cell:
    radius, corners = random.uniform(10, 45), random.randint(4, 8)
    angles = np.sort(random.uniform(0, 2 * np.pi, corners))
    reach = radius * random.uniform(0.6, 1.0, corners)
    outline = _place(random) + np.stack([reach * np.cos(angles), reach * np.sin(angles)], axis=1)
    share = np.zeros((SIZE, SIZE), np.uint8)
    cv2.fillPoly(share, [np.round(outline).astype(np.int32).reshape(-1, 1, 2)], 255)
    return mixed(cell, cell * random.uniform(0.3, 0.8), share.astype(np.float32) / 255)


def _disc(random: np.random.RandomState, least: float, greatest: float, soft: float) -> Share:
    share = np.zeros((SIZE, SIZE), np.float32)
    radii = np.round(random.uniform(least, greatest, 2)).astype(int)
    x, y = np.round(_place(random)).astype(int)
    axes = (int(radii[0]), int(radii[1]))
    cv2.ellipse(share, (int(x), int(y)), axes, random.uniform(0, 180), 0, 360, 1.0, -1)
    return np.asarray(cv2.GaussianBlur(share, (0, 0), soft), np.float32)


def _stain(cell: Cell, other: Cell, random: np.random.RandomState) -> Cell:
    shift = random.uniform(15, 60) * random.choice([-1.0, 1.0])
    return mixed(cell, cell + shift, _disc(random, 6, 30, 4.0))


def _patch(cell: Cell, other: Cell, random: np.random.RandomState) -> Cell:
    height, width = random.randint(16, 64, 2)
    top, left, from_top, from_left = random.randint(0, SIZE - 64, 4)
    damaged = cell.copy()
    piece = other[from_top : from_top + height, from_left : from_left + width]
    damaged[top : top + height, left : left + width] = piece
    return damaged


def _blur(cell: Cell, other: Cell, random: np.random.RandomState) -> Cell:
    smooth = cv2.GaussianBlur(cell, (0, 0), random.uniform(3, 8)).astype(np.float64)
    return mixed(cell, smooth, _disc(random, 12, 40, 2.0))


KINDS: dict[str, Damage] = {
    "crack": _crack,
    "inactive": _inactive,
    "stain": _stain,
    "patch": _patch,
    "blur": _blur,
}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--half", type=int, choices=(0, 1), default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(make_set(args.folder, which=args.half, seed=args.seed))
