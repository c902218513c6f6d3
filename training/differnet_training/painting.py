"""Paints defects of known size and contrast on pictures, always the same ones from a seed.

    dark spot, bright spot    a disc; its size is its diameter
    scratch                   a straight line, a tenth as wide as it is long, at least one pixel
    missing piece             an irregular outline filled with one grey level, without texture
    stain                     a blot that fades towards its edge; measured at half its contrast
    blur                      a disc in which the texture is smoothed away

Scratches, missing pieces and stains are darker than their surroundings where these are bright, and
brighter where they are dark.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from differnet_runtime.detection_limits import DefectKind

BLUR_SIGMA = 4.0
"""Standard deviation of the Gaussian that blurs, in pixels of the input."""

_SURROUNDINGS = 2.0
"""Standard deviation, in pixels, of the mean that tells how bright a place is."""

_CORNERS = 9
_INNERMOST = 0.7
"""A missing piece's outline lies between this share of its radius and all of it."""

Pixels = NDArray[np.uint8]
Share = NDArray[np.float32]


@dataclass(frozen=True)
class Place:
    """Where a defect is painted, and its orientation and outline.

    Args:
        x: Column of its centre, in pixels.
        y: Row of its centre, in pixels.
        angle: Its orientation, in radians.
        outline: `(corners,)`, the radii of a missing piece as shares of half its size.
    """

    x: float
    y: float
    angle: float
    outline: NDArray[np.float64]


def find_place(
    image: Pixels,
    kind: DefectKind,
    contrast: int,
    inside: tuple[slice, slice],
    random: np.random.RandomState,
) -> Place | None:
    """Draws a place that is bright or dark enough for a defect of this contrast.

    Args:
        image: `(H, W, 3) uint8`.
        kind: Only spots need a bright or a dark place; the others are painted anywhere.
        contrast: In grey levels.
        inside: Rows and columns that the centre may lie in.
        random: Draws it; as many numbers are drawn whatever the picture.

    Returns:
        The place, or None where the whole picture is too dark or too bright.
    """
    grey = _grey(image)[inside]
    if kind == "dark_spot":
        possible = np.flatnonzero(grey >= contrast)
    elif kind == "bright_spot":
        possible = np.flatnonzero(grey <= 255 - contrast)
    else:
        possible = np.arange(grey.size)
    chosen, angle = random.uniform(), random.uniform(0.0, np.pi)
    outline = random.uniform(_INNERMOST, 1.0, _CORNERS)
    if not len(possible):
        return None
    row, column = divmod(int(possible[int(chosen * len(possible))]), grey.shape[1])
    return Place(inside[1].start + column, inside[0].start + row, angle, outline)


def paint(image: Pixels, kind: DefectKind, size: float, contrast: int, place: Place) -> Pixels:
    """Returns a copy of a picture with a defect.

    Args:
        image: `(H, W, 3) uint8`.
        kind: What is painted.
        size: Diameter, or a scratch's length, in pixels.
        contrast: Difference from the surroundings in grey levels of 255, the same in every channel;
            has no meaning for `blur`.
        place: Where.
    """
    height, width = image.shape[:2]
    reach = int(np.ceil(size if kind == "stain" else size / 2)) + 2
    rows = slice(max(0, int(place.y) - reach), min(height, int(place.y) + reach + 1))
    columns = slice(max(0, int(place.x) - reach), min(width, int(place.x) + reach + 1))
    dy = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] - np.float32(place.y)
    dx = np.arange(columns.start, columns.stop, dtype=np.float32)[None, :] - np.float32(place.x)
    share = _share(kind, size, place, dx, dy)[:, :, None]
    painted = image.copy()
    area = image[rows, columns]
    painted[rows, columns] = mixed(area, _target(area, kind, contrast, share), share)
    return painted


def mixed(image: Pixels, target: NDArray[np.floating], share: NDArray[np.floating]) -> Pixels:
    """Moves each pixel of an 8-bit picture towards `target` by its share, 0 to 1."""
    moved = image * (1.0 - share) + target * share
    return np.clip(np.round(moved), 0, 255).astype(np.uint8)


def _target(area: Pixels, kind: DefectKind, contrast: int, share: Share) -> NDArray[np.floating]:
    """Returns what the pixels are where the defect covers them fully."""
    if kind == "blur":
        return np.asarray(cv2.GaussianBlur(area, (0, 0), BLUR_SIGMA), np.float32)
    if kind == "dark_spot":
        return area.astype(np.float32) - contrast
    if kind == "bright_spot":
        return area.astype(np.float32) + contrast
    mean = (area * share).sum(axis=(0, 1)) / share.sum()
    shift = -contrast if mean.mean() >= 127.5 else contrast
    if kind == "missing_piece":
        return np.broadcast_to(mean + shift, area.shape)
    return area.astype(np.float32) + shift


def _share(kind: DefectKind, size: float, place: Place, dx: Share, dy: Share) -> Share:
    """Returns how far each pixel belongs to the defect, 0 to 1; edges are anti-aliased."""
    if kind == "scratch":
        along = dx * np.cos(place.angle) + dy * np.sin(place.angle)
        across = dy * np.cos(place.angle) - dx * np.sin(place.angle)
        width = max(1.0, size / 10)
        return _covered(size / 2 - np.abs(along)) * _covered(width / 2 - np.abs(across))
    distance = np.hypot(dx, dy)
    if kind == "stain":
        return (0.5 + 0.5 * np.cos(np.pi * np.minimum(distance / size, 1.0))).astype(np.float32)
    if kind == "missing_piece":
        turns = (np.arctan2(dy, dx) + place.angle) / (2 * np.pi) % 1.0
        corners = np.linspace(0.0, 1.0, len(place.outline) + 1)
        radii = np.interp(turns, corners, [*place.outline, place.outline[0]])
        return _covered(size / 2 * radii - distance)
    return _covered(size / 2 - distance)


def _covered(depth: NDArray[np.floating]) -> Share:
    """Returns how much of a pixel lies inside an edge that is `depth` pixels from its centre."""
    return np.asarray(np.clip(depth + 0.5, 0.0, 1.0), np.float32)


def _grey(image: Pixels) -> NDArray[np.float32]:
    mean = image.mean(axis=2, dtype=np.float32)
    return np.asarray(cv2.GaussianBlur(mean, (0, 0), _SURROUNDINGS), np.float32)
