"""Searches for the smallest painted defects that a model finds on normal images.

Each limit is found by bisection over `sizes`, on the same places of the same images. A size counts
as found if at least `SHARE` of the painted images score above the threshold. The seed decides what
is painted:

    dark spot, bright spot    a disc; its size is its diameter
    scratch                   a straight line, a tenth as wide as it is long, at least one pixel
    missing piece             an irregular outline filled with one grey level, without texture
    stain                     a blot that fades towards its edge; measured at half its contrast
    blur                      a disc in which the texture is smoothed away

Scratches, missing pieces and stains are darker than bright surroundings and brighter than dark
ones.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from differnet_runtime.command import progress
from differnet_runtime.images import read_image
from differnet_runtime.inspection.preprocess import fitted, preprocess
from differnet_runtime.model_file.contract import InputContract
from differnet_runtime.model_file.detection_limits import (
    DEFECT_KINDS,
    DefectKind,
    DetectionLimit,
    DetectionLimits,
    JudgedBy,
)

from .datasets import ImageFile
from .features import FeatureReader
from .model import Model

BLUR_SIGMA = 4.0
"""Standard deviation of a blur, in pixels of the input."""

_SURROUNDINGS = 2.0
"""Standard deviation in pixels of the Gaussian mean that gives the brightness of a place."""

_CORNERS = 9
_INNERMOST = 0.7
"""A missing piece's outline lies between this share of its radius and all of it."""

Pixels = NDArray[np.uint8]
Share = NDArray[np.float32]

SHARE = 0.9
CONTRASTS = (20, 40, 80)
"""Contrasts painted, in grey levels of 255."""

PAINTED = 20
PAINTED_ON_LARGE_INPUTS = 10
LARGE = 4 * 256 * 256
"""Inputs with more pixels, in all views together, are painted on fewer images, to save time."""

SMALLEST = 2
LARGEST_SHARE = 0.5
"""The largest size painted, as a share of the input's shorter side."""

SENSIBLE_AREA = 0.01
"""The largest size that counts for `usable` is that of a disc covering this share of the input."""

SHARP_KINDS = ("dark_spot", "bright_spot", "scratch", "missing_piece")
"""Kinds that count for `usable`; soft edges are conspicuous even if all normal images differ."""

MARGIN = 0.1
"""Least distance of a defect's centre from the image's border, as a share of height and width."""

BATCH = 10

_log = logging.getLogger(__name__)

Scorer = Callable[[Sequence[Pixels]], NDArray[np.float32]]
"""Scores inputs `(height, width, 3) uint8`; returns `(N,) float32`."""


def measure_limits(
    model: Model,
    reader: FeatureReader,
    images: Sequence[ImageFile],
    threshold: float,
    *,
    seed: int,
    judged_by: JudgedBy = "saved",
) -> DetectionLimits | None:
    """Paints defects on normal images and searches for the smallest that the model finds.

    Args:
        model: A model that has not seen the images.
        reader: Extracts the model's features.
        images: Readable normal images; as many as needed are drawn.
        threshold: Scores above it are defects.
        seed: Seed of the images drawn, the places and the outlines.
        judged_by: `saved` if `model` is the one that is saved, `fold` if it lacks a fold.

    Returns:
        The limits; None if the model rejects all of these images as they are.
    """
    contract, angles = reader.contract, model.views.angles

    def scorer(inputs: Sequence[Pixels]) -> NDArray[np.float32]:
        return model.judge_features(reader.extract_views(inputs, angles)).scores

    large = len(angles) * contract.height * contract.width > LARGE
    count = PAINTED_ON_LARGE_INPUTS if large else PAINTED
    canvases = _canvases(images, contract, scorer, threshold, count, seed)
    if not canvases:
        _log.warning("the model rejects every picture to paint on: no detection limits are known")
        return None
    search = _Search(canvases, scorer, threshold, sizes(contract), count, seed)
    scale = float(np.median([canvas.scale for canvas in canvases]))
    sensible = int(math.sqrt(SENSIBLE_AREA * contract.height * contract.width * 4 / math.pi))
    limits = search.all(scale)
    return DetectionLimits(
        threshold=threshold,
        share=SHARE,
        judged_by=judged_by,
        pictures=len(canvases),
        picture_scale=scale,
        largest=search.sizes[-1],
        sensible=sensible,
        limits=limits,
        usable=any(
            limit.size is not None and limit.size <= sensible
            for limit in limits
            if limit.kind in SHARP_KINDS
        ),
    )


def sizes(contract: InputContract) -> tuple[int, ...]:
    """Returns the sizes painted in pixels of the input, in steps of about a factor of 1.4."""
    largest = LARGEST_SHARE * min(contract.height, contract.width)
    steps = int(2 * math.log2(largest / SMALLEST))
    return tuple(sorted({round(SMALLEST * 2 ** (k / 2)) for k in range(steps + 1)}))


@dataclass(frozen=True)
class Canvas:
    """A normal image to paint on.

    Args:
        image: The model's input, `(height, width, 3) uint8`.
        inside: Rows and columns in which a defect's centre may lie.
        scale: Pixels of the camera for each pixel of the input, in one direction.
    """

    image: Pixels
    inside: tuple[slice, slice]
    scale: float


def read_canvas(file: ImageFile, contract: InputContract) -> Canvas:
    """Reads an image to paint on.

    Raises:
        ImageReadError: It can't be read.
        FrameError: Its type, channels or size do not fit.
    """
    image, region = read_image(file.path), contract.region
    height, width = (region.height, region.width) if region else image.shape[:2]
    shown = fitted(contract, height, width)
    inside = (
        _centred(contract.height, min(1.0, height / shown[0]) * (1 - 2 * MARGIN)),
        _centred(contract.width, min(1.0, width / shown[1]) * (1 - 2 * MARGIN)),
    )
    scale = math.sqrt(shown[0] * shown[1] / (contract.height * contract.width))
    return Canvas(preprocess(image, contract), inside, scale)


def _centred(length: int, share: float) -> slice:
    margin = round(length * (1 - share) / 2)
    return slice(margin, length - margin)


def _canvases(
    images: Sequence[ImageFile],
    contract: InputContract,
    scorer: Scorer,
    threshold: float,
    count: int,
    seed: int,
) -> list[Canvas]:
    """Returns up to `count` images that the model judges good, drawn by the seed."""
    order = np.random.RandomState(seed).permutation(len(images))
    kept: list[Canvas] = []
    for begin in range(0, len(order), BATCH):
        batch = [read_canvas(images[k], contract) for k in order[begin : begin + BATCH]]
        scores = scorer([canvas.image for canvas in batch])
        kept += [one for one, score in zip(batch, scores, strict=True) if score <= threshold]
        if len(kept) >= count:
            break
    return kept[:count]


@dataclass(frozen=True)
class _Search:
    canvases: Sequence[Canvas]
    scorer: Scorer
    threshold: float
    sizes: tuple[int, ...]
    count: int
    seed: int

    def all(self, scale: float) -> tuple[DetectionLimit, ...]:
        """Returns the limits of every kind and contrast.

        Args:
            scale: Pixels of the camera for each pixel of the input.
        """
        wanted: list[tuple[DefectKind, int | None]] = []
        for kind in DEFECT_KINDS:
            wanted += [(kind, None)] if kind == "blur" else [(kind, one) for one in CONTRASTS]
        limits: list[DetectionLimit] = []
        bounds: dict[DefectKind, int] = {}
        for kind, contrast in progress(wanted, "painting defects", unit="limit"):
            placed = self._placed(kind, contrast or 0)
            size = None
            if placed:
                most = bounds.get(kind, len(self.sizes))
                bounds[kind] = self._bisect(kind, contrast or 0, placed, most)
                size = next(iter(self.sizes[bounds[kind] :]), None)
            limits.append(
                DetectionLimit(
                    kind=kind,
                    contrast=contrast,
                    size=size,
                    picture_size=None if size is None else max(1, round(size * scale)),
                    painted=len(placed),
                )
            )
        return tuple(limits)

    def _placed(self, kind: DefectKind, contrast: int) -> list[tuple[Canvas, DefectPlace]]:
        """Returns images and places; none if fewer than half of the images have a place."""
        placed = []
        for k in range(self.count):
            canvas = self.canvases[k % len(self.canvases)]
            random = np.random.RandomState([self.seed, k])
            if place := find_place(canvas.image, kind, contrast, canvas.inside, random):
                placed.append((canvas, place))
        return placed if 2 * len(placed) >= self.count else []

    def _bisect(
        self, kind: DefectKind, contrast: int, placed: list[tuple[Canvas, DefectPlace]], most: int
    ) -> int:
        """Returns the position of the smallest size found; `most` if no smaller one is.

        Args:
            kind: The kind of defect.
            contrast: Contrast in grey levels.
            placed: Images and the places to paint.
            most: Position of a size that is found at a lower contrast, or one past the largest.
        """
        low = 0
        while low < most:
            middle = (low + most) // 2
            if self._found(kind, self.sizes[middle], contrast, placed):
                most = middle
            else:
                low = middle + 1
        return most

    def _found(
        self, kind: DefectKind, size: int, contrast: int, placed: list[tuple[Canvas, DefectPlace]]
    ) -> bool:
        """Whether at least `SHARE` are found; stops as soon as that is out of reach."""
        allowed = len(placed) - math.ceil(SHARE * len(placed) - 1e-9)
        missed = 0
        for begin in range(0, len(placed), BATCH):
            images = [
                paint(canvas.image, kind, size, contrast, place)
                for canvas, place in placed[begin : begin + BATCH]
            ]
            missed += int((self.scorer(images) <= self.threshold).sum())
            if missed > allowed:
                return False
        return True


@dataclass(frozen=True)
class DefectPlace:
    """Place, orientation and outline of a painted defect.

    Args:
        x: Column of its centre in pixels.
        y: Row of its centre in pixels.
        angle: Its orientation in radians.
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
) -> DefectPlace | None:
    """Draws a place that is bright or dark enough for a defect of a contrast.

    Args:
        image: `(H, W, 3) uint8`.
        kind: Only spots need a bright or a dark place; the others are painted anywhere.
        contrast: Contrast in grey levels.
        inside: Rows and columns in which the centre may lie.
        random: Random numbers; as many are drawn whatever the image.

    Returns:
        The place; None if the whole image is too dark or too bright.
    """
    mean = image.mean(axis=2, dtype=np.float32)
    grey = cv2.GaussianBlur(mean, (0, 0), _SURROUNDINGS)[inside]
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
    return DefectPlace(inside[1].start + column, inside[0].start + row, angle, outline)


def paint(
    image: Pixels, kind: DefectKind, size: float, contrast: int, place: DefectPlace
) -> Pixels:
    """Returns a copy of an image with a defect.

    Args:
        image: `(H, W, 3) uint8`.
        kind: The kind of defect.
        size: Diameter, or a scratch's length, in pixels.
        contrast: Difference from the surroundings in grey levels of 255, the same in every
            channel; not used for `blur`.
        place: Place, orientation and outline.
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
    """Blends an 8-bit image with `target`; `share` is each pixel's weight of the target, 0 to 1."""
    moved = image * (1.0 - share) + target * share
    return np.clip(np.round(moved), 0, 255).astype(np.uint8)


def _target(area: Pixels, kind: DefectKind, contrast: int, share: Share) -> NDArray[np.floating]:
    """Returns the values of pixels that the defect covers fully."""
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


def _share(kind: DefectKind, size: float, place: DefectPlace, dx: Share, dy: Share) -> Share:
    """Returns how much of each pixel the defect covers, 0 to 1; edges are anti-aliased."""
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
    """Returns how much of a pixel lies inside an edge, given its centre's depth in pixels."""
    return np.asarray(np.clip(depth + 0.5, 0.0, 1.0), np.float32)
