"""Draws an inspection on its picture: heatmap, border in the verdict's colour, and caption.

The colours of a heatmap have the scale that is fixed in the model, so pictures compare.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..model_file.contract import InputContract
from ..model_file.metadata import ModelMetadata, Windows
from ..records import Image, Inspection, Verdict
from .preprocess import fitted

Map = NDArray[np.float32]
Picture = NDArray[np.uint8]

_STRONGEST = 0.7
"""Opacity of the strongest colour; the picture stays visible below it."""

Colour = tuple[int, int, int]

_COLOURS: dict[Verdict, Colour] = {
    Verdict.GOOD: (74, 150, 22),
    Verdict.DEFECT: (38, 38, 205),
    Verdict.NO_DECISION: (0, 140, 232),
}
"""BGR; dark enough that white text on it can be read."""

_WHITE: Colour = (255, 255, 255)
_FONT = cv2.FONT_HERSHEY_DUPLEX
_CAPITALS = 21
"""Height of the font's capital letters at scale 1, in pixels."""

_LEAST_WIDTH, _GREATEST_ENLARGED = 320, 2048
_REASON_LENGTH = 110


def annotate(
    image: Image, inspection: Inspection, metadata: ModelMetadata | None = None
) -> Picture:
    """Draws verdict, score, threshold, good-percentile, what decided, and the heatmap.

    The caption lies below the picture and covers nothing of it. A picture too small for text
    is enlarged by a whole number.

    Args:
        image: `(H, W)`, `(H, W, 1)`, `(H, W, 3)` or `(H, W, 4)`; uint8 or uint16.
        inspection: The picture's verdict, score and heatmap.
        metadata: Metadata of the model, with the heatmap's scale; None draws no heatmap.

    Returns:
        `(H', W', 3)` uint8 BGR, larger than the picture by border and caption.
    """
    plain, score = eight_bit_colour(image), inspection.score
    drawn = with_heatmap(plain, score.heatmap if score is not None else None, metadata)
    picture = _enlarged(plain if drawn is None else drawn)
    colour = _COLOURS[inspection.decision.verdict]
    edge = max(3, round(min(picture.shape[:2]) / 80))
    framed = cv2.copyMakeBorder(picture, edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=colour)
    return np.vstack([framed, _caption(inspection, framed.shape[1], framed.shape[0], colour)])


def resized(heatmap: Map, height: int, width: int) -> Map:
    """Brings `(rows, columns) float32` scores to `(height, width)`, linear between the centres."""
    grown = cv2.resize(heatmap, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(grown, np.float32)


def on_frame(heatmap: Map, height: int, width: int, contract: InputContract) -> Map:
    """Lays window scores where the model saw them: region and fit of the input undone.

    Args:
        heatmap: `(rows, columns) float32`.
        height: Height of the camera's frame in pixels.
        width: Width of the camera's frame in pixels.
        contract: Says how the frame became the graph's input.

    Returns:
        `(height, width) float32`; NaN where the model saw nothing.
    """
    region = contract.region
    top, left, tall, wide = (
        (region.y, region.x, region.height, region.width) if region else (0, 0, height, width)
    )
    area = fitted(contract, tall, wide)
    shift_y, shift_x = (tall - area[0]) // 2, (wide - area[1]) // 2
    grown = resized(heatmap, *area)
    seen = np.full((height, width), np.nan, np.float32)
    y, x = max(0, shift_y), max(0, shift_x)  # a letterbox's border lies outside the region
    part = grown[y - shift_y : y - shift_y + tall, x - shift_x : x - shift_x + wide]
    part = part[: tall - y, : wide - x]
    seen[top + y : top + y + part.shape[0], left + x : left + x + part.shape[1]] = part
    return seen


def with_heatmap(
    picture: Picture, heatmap: Map | None, metadata: ModelMetadata | None
) -> Picture | None:
    """Draws a heatmap over the camera's frame; None where there is no heatmap or no scale.

    Args:
        picture: The whole frame, `(H, W, 3) uint8` BGR.
        heatmap: `(rows, columns) float32`.
        metadata: Metadata of the model that judged: its input and the scale of its colours.

    Returns:
        `(H, W, 3) uint8` BGR.
    """
    if heatmap is None or metadata is None or metadata.windows is None:
        return None
    height, width = picture.shape[:2]
    return blended(picture, on_frame(heatmap, height, width, metadata.input), metadata.windows)


def blended(picture: Picture, heat: Map, windows: Windows) -> Picture:
    """Draws scores over a picture; below the scale it stays as it is.

    Args:
        picture: `(H, W, 3) uint8` BGR.
        heat: `(H, W) float32`; NaN draws nothing.
        windows: Holds the scale, which a calibrated model has.

    Returns:
        `(H, W, 3) uint8` BGR.
    """
    colours, strength = tint(heat, windows)
    share = strength[:, :, None]
    mixed: Picture = (picture * (1 - share) + colours * share).astype(np.uint8)
    return mixed


def tint(heat: Map, windows: Windows) -> tuple[Picture, Map]:
    """Returns the colours of scores, and how strongly they cover the picture.

    Args:
        heat: `(H, W) float32`; NaN has no colour.
        windows: Holds the scale; one without a scale colours nothing.

    Returns:
        `(H, W, 3) uint8` BGR, and `(H, W) float32` from 0 to 1.
    """
    share = np.zeros(heat.shape, np.float32)
    if windows.low is not None and windows.high is not None:
        span = max(windows.high - windows.low, 1e-12)
        share = np.clip(np.nan_to_num((heat - windows.low) / span, posinf=1.0), 0.0, 1.0)
    colours = cv2.applyColorMap((share * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    return np.asarray(colours, np.uint8), np.asarray(_STRONGEST * share, np.float32)


def jpeg(picture: Picture, quality: int, factor: float = 1.0) -> bytes:
    """Returns a picture as a JPEG file.

    Args:
        picture: `(H, W, 3) uint8`, BGR.
        quality: Quality of the JPEG, 1 to 100.
        factor: Multiplies both sides; 1 or more keeps the size.

    Raises:
        cv2.error: OpenCV can't encode it.
    """
    if factor < 1.0:
        height, width = (max(1, round(side * factor)) for side in picture.shape[:2])
        small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        picture = np.asarray(small, np.uint8)
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def eight_bit_colour(image: Image) -> Picture:
    """Brings any frame to 8 bits by the smallest usual depth that holds its greatest value.

    Returns:
        `(H, W, 3)` uint8 BGR.
    """
    if image.dtype == np.uint16:
        greatest = int(image.max(initial=0))
        bits = next(depth for depth in (8, 10, 12, 14, 16) if greatest < 1 << depth)
        image = (image * (255.0 / ((1 << bits) - 1)) + 0.5).astype(np.uint8)
    channels = 1 if image.ndim == 2 else image.shape[2]
    if channels == 1:
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)  # type: ignore[assignment]
    return np.ascontiguousarray(image[:, :, :3], dtype=np.uint8)


def _enlarged(picture: Picture) -> Picture:
    """Repeats pixels until text fits, and pads at the sides what would grow too tall."""
    height, width = picture.shape[:2]
    factor = max(1, min(-(-_LEAST_WIDTH // width), _GREATEST_ENLARGED // height))
    picture = np.repeat(np.repeat(picture, factor, axis=0), factor, axis=1)
    lacking = max(0, _LEAST_WIDTH - picture.shape[1])
    left = lacking // 2
    return np.pad(picture, ((0, 0), (left, lacking - left), (0, 0)))


def _caption(inspection: Inspection, width: int, height: int, colour: Colour) -> Picture:
    bar_height = int(np.clip(height * 0.12, width * 0.11, width * 0.16))
    bar = np.full((bar_height, width, 3), colour, np.uint8)
    margin, split = width // 40, int(width * 0.36)
    title = inspection.decision.verdict.value.replace("_", " ")
    _write(bar, title, (margin, bar_height // 2), split - 2 * margin, bar_height * 0.3)
    lines = _details(inspection)
    for number, line in enumerate(lines):
        middle = round(bar_height * (0.5 + 0.34 * (number - (len(lines) - 1) / 2)))
        _write(bar, line, (split, middle), width - split - margin, bar_height * 0.19)
    return bar


def _details(inspection: Inspection) -> list[str]:
    if inspection.decision.reason is not None:
        return _wrapped(inspection.decision.reason)
    score = inspection.score
    if score is None or score.threshold is None:
        return ["no score"]
    lines = [f"score {score.value:.4g}   threshold {score.threshold:.4g}"]
    if inspection.note is not None:
        return [*lines, *_wrapped(inspection.note)]
    percentile = score.good_percentile
    known = None if percentile is None else f"good-percentile {percentile:.1f} %"
    second = "   ".join(filter(None, (known, inspection.decided_by)))
    return [*lines, second] if second else lines


def _wrapped(text: str) -> list[str]:
    text = text if len(text) <= _REASON_LENGTH else text[: _REASON_LENGTH - 3] + "..."
    if len(text) <= 40:
        return [text]
    space = text.find(" ", len(text) // 2)
    return [text] if space < 0 else [text[:space], text[space + 1 :]]


def _write(bar: Picture, text: str, left_middle: tuple[int, int], room: int, height: float) -> None:
    """Writes one line with capitals of that height, or smaller where the room is too narrow."""
    text = text.encode("ascii", "replace").decode()  # OpenCV 4's fonts have no more
    scale = height / _CAPITALS
    thickness = max(1, round(scale * 1.3))
    (wide, _), _ = cv2.getTextSize(text, _FONT, scale, thickness)
    scale *= min(1.0, room / max(wide, 1))
    x, middle = left_middle
    baseline = (x, round(middle + _CAPITALS * scale / 2))
    cv2.putText(bar, text, baseline, _FONT, scale, _WHITE, thickness, cv2.LINE_AA)
