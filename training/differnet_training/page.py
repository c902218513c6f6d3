"""Writes HTML pages that need no other file: sections from templates, and images inside them."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from numpy.typing import NDArray

from differnet_runtime.errors import DataError, DifferNetError
from differnet_runtime.files import write_bytes
from differnet_runtime.images import read_image
from differnet_runtime.inspection.drawing import resized, tint
from differnet_runtime.inspection.preprocess import preprocess
from differnet_runtime.model_file.contract import InputContract
from differnet_runtime.model_file.metadata import Windows

from .geometry import seen_area
from .metrics import read_mask

THUMBNAIL = 160
"""Longest side of a thumbnail, in pixels."""

Section = tuple[str, Mapping[str, object]]
"""A template, `templates/report/NAME.html.j2`, and the values that it shows."""

Heatmap = Sequence[Sequence[float]] | NDArray[np.float32]


def write_page(path: Path, title: str, sections: Sequence[Section]) -> None:
    """Writes a page.

    Args:
        path: Path of the HTML file.
        title: Heading and title of the browser's tab.
        sections: Sections from top to bottom.

    Raises:
        OutputError: The file can't be written.
    """
    environment = Environment(
        loader=PackageLoader("differnet_training"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    rendered = [
        Markup(environment.get_template(f"report/{name}.html.j2").render(**values))  # noqa: S704 - the templates escape what they show
        for name, values in sections
    ]
    style = Markup(environment.get_template("report/style.css").render())  # noqa: S704 - our own file
    text = environment.get_template("report.html.j2").render(
        title=title, style=style, sections=rendered
    )
    write_bytes(path, text.encode(errors="replace"))


@dataclass(frozen=True)
class Thumbnail:
    """An image in a gallery of the page (`thumbnails` in `templates/report/macros.html.j2`).

    Args:
        caption: Lines below the image; the first names it.
        picture: What the model saw, as a data URI; None if the file can't be read.
        heat: The heatmap's colours, laid over the image, as a data URI.
        outline: The true outline of the defect, as an SVG path in the image's pixels.
        width: Width in pixels.
        height: Height in pixels.
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
    """Reads an image for the gallery.

    Args:
        path: Path of the image file.
        contract: How the image becomes the model's input.
        caption: Lines below the image.
        heatmap: `(rows, columns)` window scores.
        windows: Holds the scale of the heatmap's colours.
        mask: File that marks the defect's pixels; the caption says so if it can't be used.
        side: Longest side in pixels; no image is enlarged.

    Returns:
        The thumbnail; without an image if the file can't be read.
    """
    lines = tuple(caption)
    try:
        image = read_image(path)
        height, width = seen_area(contract, *image.shape[:2])
        shown = contract.model_copy(update=_limited(height, width, side))
        seen = preprocess(image, shown)[:, :, :3]
    except DifferNetError:
        return Thumbnail(lines)
    outline = None
    if mask is not None:
        try:
            outline = _outline(read_mask(mask, image.shape, shown))
        except DataError:
            lines = (*lines, "its mask can't be used")
    return Thumbnail(
        caption=lines,
        picture=_data_uri("jpeg", seen, cv2.IMWRITE_JPEG_QUALITY, 85),
        heat=None if heatmap is None or windows is None else _heat(heatmap, windows, shown),
        outline=outline,
        width=shown.width,
        height=shown.height,
    )


def _limited(height: int, width: int, side: int) -> dict[str, int]:
    """Shrinks a size to a longest side, keeping its aspect ratio."""
    scale = min(1.0, side / max(height, width))
    return {"height": max(1, round(scale * height)), "width": max(1, round(scale * width))}


def _heat(heatmap: Heatmap, windows: Windows, shown: InputContract) -> str:
    """Returns the colours with their strength as transparency; a heatmap is smooth, so small."""
    size = _limited(shown.height, shown.width, THUMBNAIL)
    colours, strength = tint(resized(np.asarray(heatmap, np.float32), **size), windows)
    alpha = np.round(255 * strength).astype(np.uint8)
    return _data_uri("png", np.dstack([colours, alpha]), cv2.IMWRITE_PNG_COMPRESSION, 9)


def _outline(mask: NDArray[np.bool_]) -> str:
    contours, _ = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    return "".join(
        "M" + "L".join(f"{x + 0.5:g} {y + 0.5:g}" for x, y in contour[:, 0]) + "Z"
        for contour in contours
    )


def _data_uri(kind: str, image: NDArray[np.uint8], option: int, value: int) -> str:
    encoded = cv2.imencode(f".{kind}", image, [option, value])[1].tobytes()
    return f"data:image/{kind};base64,{base64.b64encode(encoded).decode()}"
