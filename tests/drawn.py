"""Parts drawn by code: a ring on brushed metal, whole or scratched."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def draw_part(seed: int, *, defect: bool = False, size: int = 64) -> np.ndarray:
    """Draws a ring on brushed metal, `(size, size, 3) uint8`; a defect is a dark scratch."""
    random = np.random.RandomState(seed)
    brushed = 120 + 12 * random.randn(size, 1) + 4 * random.randn(size, size)
    picture = np.clip(np.repeat(brushed[:, :, None], 3, axis=2), 0, 255).astype(np.uint8)
    centre = (size // 2 + random.randint(-1, 2), size // 2 + random.randint(-1, 2))
    cv2.circle(picture, centre, size // 3, (200, 205, 210), max(2, size // 16))
    if defect:
        start = tuple(int(v) for v in random.randint(size // 6, size - size // 6, 2))
        cv2.line(picture, start, (size - start[1], size - start[0]), (20, 20, 20), 3)
        cv2.circle(picture, start, size // 10, (10, 10, 10), -1)
    return picture


def write_parts(folder: Path, count: int, *, first: int = 0, defect: bool = False) -> list[Path]:
    """Writes drawn parts as PNG files; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for seed in range(first, first + count):
        path = folder / f"part{seed:04d}.png"
        cv2.imwrite(str(path), draw_part(seed, defect=defect))
        paths.append(path)
    return paths
