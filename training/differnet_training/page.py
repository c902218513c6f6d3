"""Writes HTML pages that need no other file: sections from templates, thumbnails and SVG charts."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from numpy.typing import NDArray

from differnet_runtime.errors import DataError, DifferNetError
from differnet_runtime.files import write_bytes
from differnet_runtime.images import read_image
from differnet_runtime.inspection.drawing import resized, tint
from differnet_runtime.inspection.preprocess import preprocess
from differnet_runtime.model_file.contract import InputContract
from differnet_runtime.model_file.detection_limits import DEFECT_WORDS, DetectionLimits
from differnet_runtime.model_file.metadata import Windows

from .geometry import seen_area
from .localization import read_mask
from .results import Report, roc

# Okabe and Ito's colours, which differ for colour-blind readers too.
GOOD, DEFECT, UNCERTAIN, INK = "#0072B2", "#D55E00", "#999999", "#444444"
_LABEL_COLOURS = {"good": GOOD, "defect": DEFECT, "uncertain": UNCERTAIN}
_NAMES = {"flow": "flow", "gaussian": "Gaussian", "nearest_neighbour": "nearest neighbour"}
_METHOD_COLOURS = {"flow": "#009E73", "gaussian": "#E69F00", "nearest_neighbour": "#56B4E9"}
_CONTRAST_COLOURS = ("#D55E00", "#0072B2", "#009E73")

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
        heatmap: `(rows, columns)` values.
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
        size, small = _limited(height, width, side, THUMBNAIL)
        shown = contract.model_copy(update=size)
        seen = preprocess(image, shown)[:, :, :3]
    except DifferNetError:
        return Thumbnail(lines)
    outline = None
    if mask is not None:
        try:
            outline = _outline(read_mask(mask, image.shape, shown))
        except DataError:
            lines = (*lines, "its mask can't be used")
    jpeg = cv2.imencode(".jpeg", seen, [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
    return Thumbnail(
        caption=lines,
        picture=f"data:image/jpeg;base64,{base64.b64encode(jpeg.data).decode()}",
        heat=None if heatmap is None or windows is None else _heat(heatmap, windows, small),
        outline=outline,
        width=shown.width,
        height=shown.height,
    )


def _limited(height: int, width: int, *sides: int) -> list[dict[str, int]]:
    """Shrinks a size to one longest side after the other, keeping its aspect ratio."""
    sizes = []
    for side in sides:
        scale = min(1.0, side / max(height, width))
        height, width = max(1, round(scale * height)), max(1, round(scale * width))
        sizes.append({"height": height, "width": width})
    return sizes


def _heat(heatmap: Heatmap, windows: Windows, small: dict[str, int]) -> str:
    """Returns the colours with their strength as transparency; a heatmap is smooth, so small."""
    colours, strength = tint(resized(np.asarray(heatmap, np.float32), **small), windows)
    alpha = np.round(255 * strength).astype(np.uint8)
    png = cv2.imencode(".png", np.dstack([colours, alpha]), [cv2.IMWRITE_PNG_COMPRESSION, 9])[1]
    return f"data:image/png;base64,{base64.b64encode(png.data).decode()}"


def _outline(mask: NDArray[np.bool_]) -> str:
    contours, _ = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    return "".join(
        "M" + "L".join(f"{x + 0.5:g} {y + 0.5:g}" for x, y in contour[:, 0]) + "Z"
        for contour in contours
    )


def draw_charts(report: Report) -> dict[str, str]:
    """Returns the charts of a report by their titles; empty text for those without values."""
    return {
        "Scores": histogram(report),
        "ROC": roc_curves(report),
        "Does the flow earn its place?": comparison(report),
        "Training": training_curves(report),
    }


def histogram(report: Report) -> str:
    """Draws the scores of good and defective parts, with the threshold, on a logarithmic axis."""
    canvas, axes = _axes()
    groups = {
        label: np.array(
            [r.score for r in report.results if r.label == label and r.score is not None]
        )
        for label in _LABEL_COLOURS
    }
    everything = np.concatenate(list(groups.values()))
    if not len(everything):
        return ""
    logarithmic = everything.min() > 0
    low, high = everything.min(), np.quantile(everything, 0.995)
    if low == high:
        low, high = 0.9 * low, 1.1 * high + 1e-9
    bins = np.geomspace(low, high, 45) if logarithmic else np.linspace(low, high, 45)
    for name, values in groups.items():
        if len(values):
            outlined = name == "uncertain"
            axes.hist(
                np.clip(values, low, high),
                bins=list(bins),
                color=_LABEL_COLOURS[name],
                alpha=0.9 if outlined else 0.6,
                histtype="step" if outlined else "bar",
                linewidth=1.5,
                label=f"{name} ({len(values)})",
            )
    if logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    if report.threshold is not None:
        axes.axvline(report.threshold, color=INK, linestyle="--", linewidth=1.5, label="threshold")
    axes.set(xlabel="anomaly score", ylabel="pictures")
    axes.legend(frameon=False, loc="upper right")
    return _svg(canvas)


def roc_curves(report: Report) -> str:
    """Draws the ROC of the flow and the baselines, with the operating point.

    Empty without both good and defective parts.
    """
    if report.image_auroc is None:
        return ""
    canvas, axes = _axes()
    labels = np.array([result.label for result in report.results])
    figures = {"flow": report.image_auroc, **(report.baselines or {})}
    scores = [np.nan if result.score is None else result.score for result in report.results]
    methods = {"flow": np.array(scores)}
    methods |= {name: np.array(values) for name, values in report.baseline_scores.items()}
    for name, values in methods.items():
        false_rejects, detected = roc(values[labels == "good"], values[labels == "defect"])
        colour, width = _METHOD_COLOURS[name], 2.2 if name == "flow" else 1.4
        label = f"{_NAMES[name]} {figures[name].value:.3f}"
        axes.plot(false_rejects, detected, color=colour, linewidth=width, label=label)
    if report.false_reject is not None and report.miss is not None:
        axes.plot(
            report.false_reject.value, 1 - report.miss.value, "o", color=INK, label="threshold"
        )
    limits = (-0.01, 1.01)
    axes.set(xlabel="false-reject rate", ylabel="defects found", xlim=limits, ylim=limits)
    axes.legend(frameon=False, loc="lower right", title="image AUROC")
    return _svg(canvas)


def comparison(report: Report) -> str:
    """Draws each method's AUROC with its interval; empty where there is none."""
    if report.image_auroc is None:
        return ""
    canvas, axes = _axes(height=2.0)
    figures = {"flow": report.image_auroc, **(report.baselines or {})}
    for position, (name, figure) in enumerate(reversed(figures.items())):
        colour = _METHOD_COLOURS[name]
        axes.plot([figure.low, figure.high], [position] * 2, color=colour, linewidth=3)
        axes.plot(figure.value, position, "o", color=colour, markersize=8)
        axes.annotate(
            f"{figure.value:.3f}", (figure.value, position), (0, 9), textcoords="offset points",
            ha="center", color=INK, fontsize=9,
        )  # fmt: skip
    axes.set_yticks(range(len(figures)), [_NAMES[name] for name in reversed(figures)])
    axes.set(ylim=(-0.6, len(figures) - 0.4), xlabel="image AUROC with 95 % bootstrap interval")
    return _svg(canvas)


def training_curves(report: Report) -> str:
    """Draws the loss over the epochs, with the one that was chosen; empty without a record."""
    if heads := report.training.get("heads"):
        return _head_curves(heads)
    train = report.training.get("train_nll", [])
    if not train:
        return ""
    canvas, axes = _axes()
    axes.plot(range(1, len(train) + 1), train, color=GOOD, label="training pictures")
    if held_out := report.training.get("held_out_nll"):
        axes.plot(range(len(held_out)), held_out, color=DEFECT, label="held-out good pictures")
        axes.axvline(
            report.training["best_epochs"], color=INK, linestyle="--", linewidth=1.2, label="chosen"
        )
        spread = [*train, *held_out]
        axes.set_ylim(min(spread) - 0.02, float(np.quantile(spread, 0.95)) + 0.05)
    axes.set(xlabel="epoch", ylabel="negative log-likelihood per feature")
    axes.legend(frameon=False, loc="upper right")
    return _svg(canvas)


def _head_curves(heads: dict[str, Any]) -> str:
    """Draws how likely held-out good pictures became, for each head whose flow was trained."""
    trained = {name: head for name, head in heads.items() if head["held_out"]}
    if not trained:
        return ""
    canvas, axes = _axes()
    for (name, head), color in zip(trained.items(), (DEFECT, GOOD, INK), strict=False):
        losses = np.array(head["held_out"]) / 2
        axes.plot(range(len(losses)), losses, color=color, label=f"held-out pictures, {name} head")
        axes.axvline(head["epochs"], color=color, linestyle="--", linewidth=1.2, label="chosen")
    axes.set(xlabel="epoch (0: the Gaussian alone)", ylabel="negative log-likelihood per feature")
    axes.legend(frameon=False, loc="upper right")
    return _svg(canvas)


def limits_chart(limits: DetectionLimits) -> str:
    """Draws, for each kind of painted defect, the size from which on it is found."""
    canvas, axes = _axes(height=3.6)
    kinds = limits.kinds[::-1]
    contrasts = sorted({one.contrast for one in limits.limits if one.contrast is not None})
    beyond = 1.25 * limits.largest
    for row, contrast in enumerate([*contrasts, None]):
        colour = INK if contrast is None else _CONTRAST_COLOURS[row % len(_CONTRAST_COLOURS)]
        aside = 0.0 if contrast is None else 0.22 * ((len(contrasts) - 1) / 2 - row)
        chosen = [one for one in limits.limits if one.contrast == contrast and one.painted]
        name = "blurred" if contrast is None else f"contrast {contrast}"
        for found in (True, False):
            part = [one for one in chosen if (one.size is not None) == found]
            axes.scatter(
                [one.size or beyond for one in part],
                [kinds.index(one.kind) + aside for one in part],
                s=45,
                facecolors=colour if found else "none",
                edgecolors=colour,
                label=name if found else None,
                zorder=3,
            )
    axes.axvline(limits.largest, color=INK, linestyle=":", linewidth=1.2)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}\n({limits.in_picture(x)})")
    axes.set_yticks(range(len(kinds)), [DEFECT_WORDS[kind] for kind in kinds])
    axes.set(
        ylim=(-0.5, len(kinds) - 0.5),
        xlabel=f"pixels of the input (of the picture); hollow: not up to {limits.largest}",
    )
    canvas.legend(frameon=False, loc="outside upper right", ncols=4, handletextpad=0.1)
    return _svg(canvas)


def _axes(height: float = 3.2) -> tuple[Canvas, Axes]:
    canvas = Canvas(figsize=(5.6, height), layout="constrained")
    canvas.patch.set_alpha(0.0)
    axes = canvas.add_subplot()
    axes.patch.set_alpha(0.0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    return canvas, axes


def _svg(canvas: Canvas) -> str:
    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": "differnet", "svg.fonttype": "none"}):
        FigureCanvasSVG(canvas).print_svg(buffer, metadata={"Date": None})  # type: ignore[no-untyped-call]
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    return re.sub(r'<g id="[^"]*"', "<g", text)  # several charts share the page: ids would clash
