"""Advice in sentences on misses and false rejects."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np

from differnet_runtime.errors import DataError, ImageReadError
from differnet_runtime.images import read_image
from differnet_runtime.model_file.contract import InputContract
from differnet_runtime.model_file.metadata import ModelMetadata

from .geometry import seen_area
from .localization import read_mask
from .results import ImageResult, Report

FEW_PICTURES = 100
"""Models trained on fewer images get the advice to take more."""

_COARSE, _VERY_COARSE = 1.5, 3.0
"""Pixels of the camera for each pixel of the input, from which a larger input or tiles help."""

_TILE, _OVERLAP, _MOST_TILES = 256, 64, 16
_LOOKED_AT = 50
"""Most masks of missed defects that are measured."""


def missed(report: Report) -> list[ImageResult]:
    """Returns the defective parts that were judged good, the lowest score first."""
    found = [r for r in report.results if r.label == "defect" and r.verdict == "GOOD"]
    return sorted(found, key=lambda r: r.score or 0.0)


def advise(report: Report) -> tuple[str, ...]:
    """Returns sentences on how many defects were missed, and what may help."""
    if report.threshold is None:
        return ("The model has no threshold yet, so nothing is missed or rejected: set one with "
                "differnet calibrate, or try one with --threshold.",)  # fmt: skip
    advice = [_misses(report)]
    if report.miss is not None and report.miss.count:
        advice += [*_threshold(report), *_size(report), *_pictures(report.model)]
    return (*advice, *_false_rejects(report))


def _misses(report: Report) -> str:
    miss = report.miss
    if miss is None:
        return "No defective part was judged, so nothing is known about misses."
    if not miss.count:
        return (
            f"None of the {miss.of} defective parts was missed (95 % interval of the rate: 0 to "
            f"{miss.high:.1%})."
        )
    text = f"{miss.count} of {miss.of} defective parts were missed"
    counts = [(row.images - row.rejected.count, row) for row in report.kinds if row.rejected]
    worst = sorted((pair for pair in counts if pair[0]), key=lambda pair: -pair[0])[:3]
    if len(report.kinds) > 1:
        text += ": " + ", ".join(f"{n} of {row.images} of kind {row.kind!r}" for n, row in worst)
    return f"{text}."


def _threshold(report: Report) -> Iterator[str]:
    """Says what a lower threshold would change, with at most twice the false rejects."""
    now, miss = report.false_reject, report.miss
    if now is None or miss is None:
        return
    limit = max(2 * now.count, now.count + max(1, round(0.05 * now.of)))
    allowed = [point for point in report.operating_points if point.false_rejects <= limit]
    point = min(allowed, key=lambda point: (point.misses, point.false_rejects), default=None)
    if point is None:
        return
    rejects = f"{point.false_rejects} of {now.of} good parts rejected instead of {now.count}"
    if miss.count - point.misses < max(1, miss.count / 4):
        yield (
            f"A lower threshold alone would not help: with {rejects}, {point.misses} of {miss.of} "
            "defects would still be missed."
        )
        return
    rate = max(1, math.ceil(100 * point.false_rejects / now.of)) / 100
    defects = "1 defect" if point.misses == 1 else f"{point.misses} defects"
    yield (
        f"A lower threshold would help: {point.threshold:g} misses {defects} "
        f"instead of {miss.count}, with {rejects}. Ask for a higher rate when training or "
        f"calibrating, about --false-reject-rate {rate:g}."
    )


def _size(report: Report) -> Iterator[str]:
    """Says whether the missed defects are (or may be) too small for the input."""
    results, contract = missed(report), report.model.input
    area = _seen(results, contract)
    if area is None:
        return
    coarse = math.sqrt(area[0] * area[1] / (contract.height * contract.width))
    side, window = _typical_side(results, contract), _window(report.model)
    shown = f"{contract.width} x {contract.height}"
    if side is not None and side >= window:
        return
    if side is not None:
        yield (
            f"The missed defects are small: by their masks, half of them cover less than "
            f"{side:.0f} x {side:.0f} pixels of the model's input of {shown}; it judges windows of "
            f"{window:.0f} x {window:.0f}."
        )
    if coarse >= _COARSE:
        doubt = "" if side is not None else "If the missed defects are small, "
        remedy = f"train with {_larger(contract, area, coarse)}"
        if contract.region is None:
            remedy += ", or cut out what matters (--roi X,Y,WIDTH,HEIGHT)"
        sentence = doubt + remedy
        yield (
            f"One pixel of the model's input stands for {coarse:.1f} x {coarse:.1f} of the "
            f"camera's. {sentence[0].upper()}{sentence[1:]}."
        )
    elif side is not None:
        yield "The model sees nearly every pixel of the camera: smaller defects need a closer lens."


def _seen(results: Sequence[ImageResult], contract: InputContract) -> tuple[int, int] | None:
    """Returns the area that the model sees of the first readable image; see `seen_area`."""
    for result in results:
        with suppress(ImageReadError):
            return seen_area(contract, *read_image(Path(result.path)).shape[:2])
    return None


def _typical_side(results: Sequence[ImageResult], contract: InputContract) -> float | None:
    """Returns the square root of the median missed defect's area, in input pixels."""
    sides = []
    for result in [one for one in results if one.mask is not None][:_LOOKED_AT]:
        try:
            size = read_image(Path(result.path)).shape
            mask = read_mask(Path(result.mask or ""), size, contract)
        except (DataError, ImageReadError):
            continue
        _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
        sides.append(math.sqrt(stats[1:, cv2.CC_STAT_AREA].max()))
    return float(np.median(sides)) if sides else None


def _window(model: ModelMetadata) -> float:
    """Returns the side of the smallest window that the model scores, in input pixels."""
    rows = [head.rows for head in model.heads] or [model.windows.rows if model.windows else 1]
    return model.input.height / max(rows)


def _larger(contract: InputContract, area: tuple[int, int], coarse: float) -> str:
    """Names the option for an input with more of the camera's pixels."""
    if coarse < _VERY_COARSE and contract.tiles is None:
        height, width = (
            32 * (min(2 * side, most) // 32)
            for side, most in ((contract.height, area[0]), (contract.width, area[1]))
        )
        return f"a larger input (--size {height}x{width})"
    rows, columns = (
        min(_MOST_TILES, max(1, math.ceil((side / 2 - _OVERLAP) / (_TILE - _OVERLAP))))
        for side in area
    )
    return f"tiles (--tiles {rows}x{columns} shows half of the camera's resolution)"


def _pictures(model: ModelMetadata) -> Iterator[str]:
    if 0 < model.provenance.images < FEW_PICTURES:
        yield (
            f"The model learned from {model.provenance.images} good pictures. More, of different "
            "parts, show it what is usual, and let it be stricter at the same false-reject rate."
        )


def _false_rejects(report: Report) -> Iterator[str]:
    """Says if more good parts are rejected than the model's own threshold was set for."""
    calibration, rejected = report.model.calibration, report.false_reject
    if calibration is None or rejected is None or report.threshold != report.model_threshold:
        return
    if rejected.low > calibration.false_reject_rate:
        yield (
            f"{rejected.count} of {rejected.of} good parts were rejected, more than the "
            f"{calibration.false_reject_rate:.1%} that the threshold was set for: these pictures "
            "differ from those of training (light, position, supplier). Look at the false rejects; "
            "if the parts are good, calibrate or train with pictures like these."
        )
