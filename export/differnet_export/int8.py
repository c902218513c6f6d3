"""A graph in INT8 as good pictures need it, and what that did to their scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from differnet_runtime.errors import ExportError
from differnet_runtime.metadata import Int8, ModelMetadata

from . import frames
from .comparison import INT8_LIMIT, relative_difference
from .quantisation import inside, measured, multiplications, quantised
from .scoring import Frame, scores

LEFT = (0, 1, 2, 3, 4, 6, 8, 12)
"""How many of the first convolutions, depthwise ones not counted, are tried in float."""

MOST_SPREAD = 0.03
"""Good pictures' relative errors scatter by no more: that changes the order of scores."""

MOST_SHIFT = 0.05
"""All their scores together rise or fall by no more: the threshold follows, but a model that knows
these pictures by heart may shift more on them than on new ones."""

PICTURES = 64
"""At most so many good pictures give ranges, and as many others are compared."""

FEWEST = 4
"""At least so many of each."""

Scores = NDArray[np.float32]
T = TypeVar("T")


@dataclass(frozen=True)
class Quantised:
    """A graph in INT8 as good pictures need it.

    Args:
        graph: Its extractor's convolutions are in INT8, all else is FP32.
        convolutions: Number of the extractor's convolutions in INT8.
        left: How many of the first ones stayed in float, depthwise ones not counted.
        share: Share of the extractor's multiplications that are in INT8.
    """

    graph: ModelProto
    convolutions: int
    left: int
    share: float


def to_int8(graph: ModelProto, pictures: Sequence[Frame], others: Sequence[Frame]) -> Quantised:
    """Writes INT8 into a simplified FP32 graph.

    Args:
        graph: FP32, simplified.
        pictures: Good pictures that give ranges and the features' shift.
        others: Good pictures that tell how many convolutions have to stay in float; at most
            `PICTURES` of them are used.

    Raises:
        ExportError: The graph has no convolutions, or INT8 spoils its scores however many of the
            first convolutions stay in float.
    """
    material = measured(graph, pictures)
    count = len(material.layers)
    others = _spread_out(others)
    exact = scores(graph, others, "FP32 graph")
    if not count:
        raise ExportError(
            "the extractor has no convolution with constant weights that could be INT8. Export "
            "with --precision fp16."
        )
    for left in (left for left in LEFT if left < count):
        found = quantised(material, left)
        shift, spread = _change(exact, scores(found, others, f"INT8, {left} left in float"))
        if abs(shift) <= MOST_SHIFT and spread <= MOST_SPREAD:
            work = multiplications(graph, others[0])
            share = sum(work[name] for name in inside(material, left)) / sum(work.values())
            return Quantised(found, count - left, left, share)
    raise ExportError(
        f"INT8 shifts the scores of good pictures by {shift:+.1%} (limit {MOST_SHIFT:.0%}) and "
        f"scatters them by {spread:.1%} (limit {MOST_SPREAD:.0%}), even with {left} convolutions "
        "left in float; nothing was written. Export with --precision fp16."
    )


def _change(exact: Scores, other: Scores) -> tuple[float, float]:
    """Returns median and standard deviation of log(other / exact); infinite if any is."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(other.astype(np.float64) / exact)
    finite = bool(np.isfinite(logs).all())
    return (float(np.median(logs)), float(np.std(logs))) if finite else (np.inf, np.inf)


def pictures_of(folder: Path, metadata: ModelMetadata) -> tuple[Sequence[Path], Sequence[Path]]:
    """Returns good pictures that give ranges, and others that are compared.

    The others are those that calibrated; with folds, where all pictures trained and calibrated,
    half of them.

    Args:
        folder: The trained model's folder.
        metadata: That model's metadata; says how its pictures were shared out.

    Raises:
        ExportError: They are not where they were, or have changed, or are too few.
    """
    given: Sequence[Path] = frames.recorded(folder, "train")
    others = given
    if metadata.calibration is not None and metadata.calibration.method == "split":
        others = frames.recorded(folder, "calibration")
    else:
        given, others = _spread_out(given[1::2]), _spread_out(others[::2])
    given = _spread_out(given)
    if len(given) < FEWEST or len(others) < FEWEST:
        raise ExportError(
            "--precision int8 needs the good pictures that trained the model, and they are not "
            f"where {folder} says, have changed, or are too few (found {len(given)} to measure "
            f"ranges on and {len(others)} to compare, expected {FEWEST} of each at least). Put "
            "them back, or export with --precision fp16."
        )
    return given, others


def _spread_out(pictures: Sequence[T]) -> Sequence[T]:
    """Takes at most `PICTURES`, from all parts of the list."""
    return pictures[:: -(-len(pictures) // PICTURES) or 1]


def check_finite(made: Scores) -> None:
    """Refuses a graph that gives no finite score for some frame made by a formula.

    Raises:
        ExportError: It is so.
    """
    if not np.isfinite(made).all():
        raise ExportError(
            "INT8 gives scores that are not finite; nothing was written. Export with --precision "
            "fp16."
        )


def effect(
    found: Quantised, exact: Scores, scored: Scores, thresholds: tuple[float, float] | None
) -> Int8:
    """Measures what INT8 did to the scores of good pictures.

    Args:
        found: The graph.
        exact: Scores of the FP32 graph.
        scored: Those of the INT8 graph.
        thresholds: Thresholds of the two graphs; None without a calibration.

    Raises:
        ExportError: A score is not finite, or differs too much.
    """
    shift = shift_of(exact, scored)
    errors = relative_difference(np.float32(shift) * exact, scored)
    if not errors.max() <= INT8_LIMIT:
        raise ExportError(
            f"INT8 changes the score of a good picture by {errors.max():.2g} relative, apart "
            f"from the common shift (limit {INT8_LIMIT:g}); nothing was written. Export with "
            "--precision fp16."
        )
    flips = None
    if thresholds is not None:
        flips = int(((exact > thresholds[0]) != (scored > thresholds[1])).sum())
    return Int8(
        convolutions=found.convolutions,
        left_in_float=found.left,
        share=found.share,
        pictures=len(exact),
        shift=shift,
        median_relative_error=float(np.median(errors)),
        greatest_relative_error=float(errors.max()),
        flips=flips,
    )


def shift_of(exact: Scores, scored: Scores) -> float:
    """Returns the median of `scored` / `exact`."""
    return float(np.median(scored.astype(np.float64) / exact))
