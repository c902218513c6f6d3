"""Pictures for a report's gallery: what the model saw, its heatmap and the true outline.

What the report says first: good pictures to look at, and what was odd about the set.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from differnet_runtime.errors import DataError, DifferNetError
from differnet_runtime.files import write_bytes
from differnet_runtime.images import read_image
from differnet_runtime.inspection.drawing import resized, tint
from differnet_runtime.inspection.preprocess import fitted, preprocess
from differnet_runtime.model_file.contract import InputContract
from differnet_runtime.model_file.metadata import ModelMetadata, Windows

from .charts import Section, render
from .metrics import read_mask
from .model import read_training

THUMBNAIL = 160
"""Longest side of a thumbnail, in pixels."""

Heatmap = Sequence[Sequence[float]] | NDArray[np.float32]


@dataclass(frozen=True)
class Thumbnail:
    """A picture in a gallery of the page (`thumbnails` in `templates/report/macros.html.j2`).

    Args:
        caption: Lines below the picture; the first names it.
        picture: What the model saw, as a data URI; None where it can't be read.
        heat: The heatmap's colours, to be laid over the picture, as a data URI.
        outline: The true outline of the defect, as an SVG path in the picture's pixels.
        width: Of the picture, in pixels.
        height: Likewise.
    """

    caption: tuple[str, ...]
    picture: str | None = None
    heat: str | None = None
    outline: str | None = None
    width: int = THUMBNAIL
    height: int = THUMBNAIL


def thumbnail(
    path: Path,
    contract: InputContract,
    caption: Sequence[str],
    *,
    heatmap: Heatmap | None = None,
    windows: Windows | None = None,
    mask: Path | None = None,
    side: int = THUMBNAIL,
) -> Thumbnail:
    """Reads a picture for the gallery.

    Args:
        path: The picture's file.
        contract: What the model sees of it.
        caption: Lines below it.
        heatmap: `(rows, columns)` window scores.
        windows: Holds the scale of the heatmap's colours.
        mask: Of the defect's pixels; the caption says so where it can't be used.
        side: Longest side, in pixels; no picture is enlarged.

    Returns:
        The picture; without an image where the file can't be read.
    """
    lines = tuple(caption)
    try:
        image = read_image(path)
        shown = _scaled(contract, image.shape[0], image.shape[1], side)
        seen = preprocess(image, shown)[:, :, :3]
    except DifferNetError:
        return Thumbnail(lines)
    outline = None
    if mask is not None:
        try:
            outline = _outline(mask, image.shape, shown)
        except DataError:
            lines = (*lines, "its mask can't be used")
    return Thumbnail(
        caption=lines,
        picture=_data_uri(".jpg", seen, cv2.IMWRITE_JPEG_QUALITY, 85),
        heat=_heat(heatmap, windows, shown),
        outline=outline,
        width=shown.width,
        height=shown.height,
    )


def _scaled(contract: InputContract, height: int, width: int, side: int) -> InputContract:
    """Returns the contract for the same pixels of the camera at another size."""
    region = contract.region
    area = fitted(contract, *((region.height, region.width) if region else (height, width)))
    scale = min(1.0, side / max(area))
    size = {"height": max(1, round(scale * area[0])), "width": max(1, round(scale * area[1]))}
    return contract.model_copy(update=size)


def _heat(heatmap: Heatmap | None, windows: Windows | None, shown: InputContract) -> str | None:
    """Returns the colours with their strength as transparency; a heatmap is smooth, so small."""
    if heatmap is None or windows is None:
        return None
    scale = min(1.0, THUMBNAIL / max(shown.height, shown.width))
    size = max(1, round(scale * shown.height)), max(1, round(scale * shown.width))
    colours, strength = tint(resized(np.asarray(heatmap, np.float32), *size), windows)
    alpha = np.round(255 * strength).astype(np.uint8)
    return _data_uri(".png", np.dstack([colours, alpha]), cv2.IMWRITE_PNG_COMPRESSION, 9)


def _outline(mask: Path, size: tuple[int, ...], shown: InputContract) -> str:
    seen = read_mask(mask, size, shown).astype(np.uint8)
    contours, _ = cv2.findContours(seen, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return "".join(
        "M" + "L".join(f"{x + 0.5:g} {y + 0.5:g}" for x, y in contour[:, 0]) + "Z"
        for contour in contours
    )


def _data_uri(ending: str, image: NDArray[np.uint8], option: int, value: int) -> str:
    encoded = cv2.imencode(ending, image, [option, value])[1].tobytes()
    kind = "jpeg" if ending == ".jpg" else "png"
    return f"data:image/{kind};base64,{base64.b64encode(encoded).decode()}"


LOOK_HTML = "look.html"
_MOST = 24
_SIDE = 640
"""Longest side of a picture in the section, in pixels."""


def look_section(look: Mapping[str, Any], model: ModelMetadata) -> list[Section]:
    """Returns the section on the good pictures; none for a model that was trained without a look.

    Args:
        look: From the training record; empty for models that were trained without it.
        model: Says what is seen of a picture, and the threshold.
    """
    if not look:
        return []
    findings = look["findings"]
    values = {
        "pictures": look["pictures"],
        "parts": look["different_parts"],
        "left_out": sum(one["left_out"] for one in findings),
        "threshold": model.calibration and model.calibration.threshold,
        "strangest": [_strange(one, model) for one in look.get("strangest", [])[:_MOST]],
        "findings": [_finding(one, model) for one in findings[:_MOST]],
        "found": len(findings),
    }
    return [Section("look", values)]


def write_look_page(folder: Path, model: ModelMetadata) -> Path:
    """Writes the section as a page of its own, beside the model that was trained.

    Raises:
        OutputError: It can't be written.
    """
    sections = look_section(read_training(folder).get("look", {}), model)
    path = folder / LOOK_HTML
    write_bytes(path, render(model.name, sections).encode(errors="replace"))
    return path


def _strange(one: Mapping[str, Any], model: ModelMetadata) -> Thumbnail:
    out = ", left out" if one["left_out"] else ""
    lines = [f"score {one['score']:.3g}{out}"]
    if one["threshold"] is not None:
        lines.append(f"threshold {'with' if out else 'without'} it {one['threshold']:.4g}")
    return _seen(one, model, lines)


def _finding(one: Mapping[str, Any], model: ModelMetadata) -> Thumbnail:
    out = ", left out" if one["left_out"] else ""
    return _seen(one, model, [f"{one['cause']}{out}: {one['detail']}"])


def _seen(one: Mapping[str, Any], model: ModelMetadata, lines: list[str]) -> Thumbnail:
    path = Path(one["path"])
    heat = one.get("heatmap")
    return thumbnail(
        path,
        model.input,
        [path.name, *lines],
        heatmap=heat,
        windows=model.windows,
        side=_SIDE,
    )
