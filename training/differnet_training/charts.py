"""Draws the report's charts as SVG text."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from differnet_runtime.model_file.detection_limits import DEFECT_WORDS, DetectionLimits

from .metrics import roc
from .results import Report

# Okabe and Ito's colours, which differ for colour-blind readers too.
GOOD, DEFECT, UNCERTAIN, INK = "#0072B2", "#D55E00", "#999999", "#444444"
_LABEL_COLOURS = {"good": GOOD, "defect": DEFECT, "uncertain": UNCERTAIN}
_NAMES = {"flow": "flow", "gaussian": "Gaussian", "nearest_neighbour": "nearest neighbour"}
_METHOD_COLOURS = {"flow": "#009E73", "gaussian": "#E69F00", "nearest_neighbour": "#56B4E9"}
_CONTRAST_COLOURS = ("#D55E00", "#0072B2", "#009E73")


def draw(report: Report) -> dict[str, str]:
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
    axes.legend(frameon=False)
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
    axes.legend(frameon=False)
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
    axes.legend(frameon=False)
    return _svg(canvas)


def detection_limits(limits: DetectionLimits) -> str:
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
