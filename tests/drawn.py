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


def draw_circuit(seed: int, size: int = 64) -> np.ndarray:
    """Draws bright traces and pads on a dark board, `(size, size, 3) uint8`: each seed another."""
    random = np.random.RandomState(seed)
    picture = np.full((size, size, 3), 25, np.uint8)
    for _ in range(24):
        points = [random.randint(0, size, 2)]
        for step in range(random.randint(2, 6)):
            points.append(points[-1].copy())
            points[-1][step % 2] += random.randint(-size // 3, size // 3)
        width = int(random.randint(1, 3)) * size // 64
        cv2.polylines(picture, [np.array(points, np.int32)], False, (225, 225, 225), width)
        pad = (int(points[0][0]), int(points[0][1]))
        cv2.circle(picture, pad, size // 24, (225, 225, 225), -1)
        cv2.circle(picture, pad, size // 64, (25, 25, 25), -1)
    return picture


def write_circuits(folder: Path, count: int, size: int = 64) -> list[Path]:
    """Writes drawn circuits as PNG files; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for seed in range(count):
        path = folder / f"circuit{seed:04d}.png"
        cv2.imwrite(str(path), draw_circuit(seed, size))
        paths.append(path)
    return paths


def write_noise(path: Path, *, frames: int = 25, brightest: int = 120) -> str:
    """Writes an MJPEG video of noise, 64 x 48 pixels at 25 frames per second; returns its path.

    Args:
        path: The file, `.avi`.
        frames: Number of frames, each different from the others.
        brightest: Upper limit of the grey values; the lower one is 60.
    """
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for seed in range(frames):
        noise = np.random.RandomState(seed).randint(60, brightest, (48, 64, 3))
        writer.write(noise.astype(np.uint8))
    writer.release()
    return str(path)
