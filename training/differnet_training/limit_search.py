"""Searches for the smallest painted defects that a model finds on good pictures.

Each figure is found by bisection over `sizes`, on the same places of the same pictures. A size
counts as found where at least `SHARE` of the painted pictures score above the threshold.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from differnet_runtime.command import progress
from differnet_runtime.detection_limits import (
    DEFECT_KINDS,
    DefectKind,
    DetectionLimit,
    DetectionLimits,
    JudgedBy,
)
from differnet_runtime.images import read_image
from differnet_runtime.metadata import InputContract
from differnet_runtime.preprocess import fitted, preprocess

from .datasets import Picture
from .features import FeatureReader
from .painting import Pixels, Place, find_place, paint
from .scoring import Model, judge_features

SHARE = 0.9
CONTRASTS = (20, 40, 80)
"""Grey levels of 255."""

PAINTED = 20
PAINTED_ON_LARGE_INPUTS = 10
LARGE = 4 * 256 * 256
"""Inputs with more pixels, all views together, are painted less often: each takes longer."""

SMALLEST = 2
LARGEST_SHARE = 0.5
"""The largest size painted, as a share of the input's shorter side."""

SENSIBLE_AREA = 0.01
"""The largest size that counts for `usable`: a disc that covers this share of the input."""

SHARP_KINDS = ("dark_spot", "bright_spot", "scratch", "missing_piece")
"""The kinds that count for `usable`. Soft edges are new even where every good picture differs."""

MARGIN = 0.1
"""The centre of a defect keeps this share of height and width from the picture's border."""

BATCH = 10

_log = logging.getLogger(__name__)

Scorer = Callable[[Sequence[Pixels]], NDArray[np.float32]]
"""Scores inputs `(height, width, 3) uint8`; returns `(N,) float32`."""


def measure_limits(
    model: Model,
    reader: FeatureReader,
    pictures: Sequence[Picture],
    threshold: float,
    *,
    seed: int,
    judged_by: JudgedBy = "saved",
) -> DetectionLimits | None:
    """Paints defects on good pictures and searches for the smallest that the model finds.

    Args:
        model: Judges; it has not seen the pictures.
        reader: Extracts the model's features.
        pictures: Good ones, which can be read; as many as needed are chosen by the seed.
        threshold: Scores above it are defects.
        seed: Of the pictures, the places and the outlines.
        judged_by: See `DetectionLimits`.

    Returns:
        The limits; None where the model rejects all of these pictures as they are.
    """
    contract, angles = reader.contract, model.views.angles

    def scorer(images: Sequence[Pixels]) -> NDArray[np.float32]:
        return judge_features(model, reader.extract_views(images, angles)).scores

    large = len(angles) * contract.height * contract.width > LARGE
    count = PAINTED_ON_LARGE_INPUTS if large else PAINTED
    canvases = _canvases(pictures, contract, scorer, threshold, count, seed)
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
    """Returns the sizes painted, in pixels of the input, each about 1.4 times the one before."""
    largest = LARGEST_SHARE * min(contract.height, contract.width)
    steps = int(2 * math.log2(largest / SMALLEST))
    return tuple(sorted({round(SMALLEST * 2 ** (k / 2)) for k in range(steps + 1)}))


@dataclass(frozen=True)
class Canvas:
    """A good picture to paint on.

    Args:
        image: As the model's input, `(height, width, 3) uint8`.
        inside: Rows and columns that a defect's centre may lie in.
        scale: Pixels of the camera's picture for each pixel of the input.
    """

    image: Pixels
    inside: tuple[slice, slice]
    scale: float


def read_canvas(picture: Picture, contract: InputContract) -> Canvas:
    """Reads a picture to paint on.

    Raises:
        ImageReadError: It can't be read.
        FrameError: Its type, channels or size do not fit.
    """
    picture_pixels = read_image(picture.path)
    region = contract.region
    height, width = (region.height, region.width) if region else picture_pixels.shape[:2]
    shown = fitted(contract, height, width)
    return Canvas(
        preprocess(picture_pixels, contract),
        (
            _centred(contract.height, min(1.0, height / shown[0]) * (1 - 2 * MARGIN)),
            _centred(contract.width, min(1.0, width / shown[1]) * (1 - 2 * MARGIN)),
        ),
        math.sqrt(shown[0] * shown[1] / (contract.height * contract.width)),
    )


def _centred(length: int, share: float) -> slice:
    margin = round(length * (1 - share) / 2)
    return slice(margin, length - margin)


def _canvases(
    pictures: Sequence[Picture],
    contract: InputContract,
    scorer: Scorer,
    threshold: float,
    count: int,
    seed: int,
) -> list[Canvas]:
    """Returns up to `count` pictures that the model calls good, drawn by the seed."""
    order = np.random.RandomState(seed).permutation(len(pictures))
    kept: list[Canvas] = []
    for begin in range(0, len(order), BATCH):
        batch = [read_canvas(pictures[k], contract) for k in order[begin : begin + BATCH]]
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
        """Returns the limits of every kind and contrast."""
        wanted: list[tuple[DefectKind, int | None]] = []
        for kind in DEFECT_KINDS:
            wanted += [(kind, None)] if kind == "blur" else [(kind, one) for one in CONTRASTS]
        limits: list[DetectionLimit] = []
        bounds: dict[DefectKind, int] = {}
        for kind, contrast in progress(wanted, "painting defects", unit="limit"):
            placed = self._placed(kind, contrast or 0)
            position = len(self.sizes)
            if placed:
                most = bounds.get(kind, len(self.sizes))
                position = bounds[kind] = self._bisect(kind, contrast or 0, placed, most)
            size = self.sizes[position] if position < len(self.sizes) else None
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

    def _placed(self, kind: DefectKind, contrast: int) -> list[tuple[Canvas, Place]]:
        """Returns pictures and places; none where fewer than half of the pictures have a place."""
        placed = []
        for k in range(self.count):
            canvas = self.canvases[k % len(self.canvases)]
            random = np.random.RandomState([self.seed, k])
            place = find_place(canvas.image, kind, contrast, canvas.inside, random)
            if place is not None:
                placed.append((canvas, place))
        return placed if 2 * len(placed) >= self.count else []

    def _bisect(
        self, kind: DefectKind, contrast: int, placed: list[tuple[Canvas, Place]], most: int
    ) -> int:
        """Returns the position of the smallest size found; `most` where no smaller one is.

        Args:
            kind: What is painted.
            contrast: In grey levels.
            placed: Pictures and places.
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
        self, kind: DefectKind, size: int, contrast: int, placed: list[tuple[Canvas, Place]]
    ) -> bool:
        """Whether the wanted share is found; stops early where it can't be reached any more."""
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
