"""Finds good pictures unlike all others: defects hidden among them, or rare good parts.

A quick pass before the fit judges each picture by the Gaussians of the other folds. A few wrong
pictures hardly disturb it: how far a score lies from the others is measured by quantiles that a
few defects don't reach.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from differnet_runtime.command import progress
from differnet_runtime.integrity.doubtful import Doubtful, act_on
from differnet_runtime.integrity.examination import Finding, Weight, listed
from differnet_runtime.metadata import Head
from differnet_runtime.sentences import sentence

from .folds import FOLDS, Part, fold_of
from .head_fitting import Gaussians, HeadData, head_data, scores
from .joining import Scale, joined_scores, positive

CUT, ROOM = 3.5, 30.0
"""Strange lies so many spreads above the median, and `ROOM` over the number of parts more: the
fewer pictures, the less is known of the spread."""
AGAIN, CLOSER = 0.02, 1.0
"""Where a greater share is strange, the rest is judged once more without them, by a limit so many
spreads lower: wrong pictures of a kind hide each other, and where there are some there are more."""
FAR = 9.0
"""Pictures so many spreads above the median are doubtful. Nearer ones are only told by name: in
clean folders they are rare good parts, whose kind a model without them rejects."""
MOST = 0.1
"""Were more than this share of the pictures strange, they would be a kind of part of their own."""
LISTED, SHOWN = 0.15, 24
"""Share of the pictures that the record lists, and how many of these are shown with a heatmap."""

_log = logging.getLogger(__name__)


def without_strange(
    heads: Sequence[Head], part: Part, seed: int, doubtful: Doubtful
) -> tuple[Part, Part, tuple[Finding, ...]]:
    """Looks for pictures unlike all others; `drop` leaves out those that lie far out.

    Returns:
        The pictures to learn from, those that are left out, and what was found.

    Raises:
        DataError: Some lie far out and `doubtful` is `stop`, or there are too few pictures.
    """
    limit = CUT + ROOM / len(set(part.groups))
    above = strangeness(heads, part.values, part.groups, seed)
    limits = np.full(len(above), limit)
    strange = above > limit
    rest = np.flatnonzero(~strange)
    groups = [part.groups[row] for row in rest]
    if AGAIN < strange.mean() <= MOST and len(set(groups)) >= 2 * FOLDS:
        again = strangeness(heads, part.values[rest], groups, seed)
        more = rest[again > limit - CLOSER]
        if len(more) + strange.sum() <= MOST * len(strange):
            strange[more], above[rest], limits[rest] = True, again, limit - CLOSER
    if strange.mean() > MOST:
        _log.warning(
            "%d of %d good pictures look like none of the rest, as if they were of another kind. "
            "They are kept for training. Check whether they belong here; a separate model for each "
            "kind of part finds more defects",
            strange.sum(),
            len(strange),
        )
        strange[:] = False
    order = [row for row in np.argsort(-above) if strange[row]]
    found = tuple(
        Finding(
            part.pictures[row].path,
            "strange",
            sentence("seen_strange", above=above[row], most=limits[row]),
            Weight.DOUBTFUL if above[row] > FAR else Weight.NOTE,
        )
        for row in order
    )
    _say(found, len(strange))
    out = act_on([one for one in found if one.weight is Weight.DOUBTFUL], len(strange), doubtful)
    kept, left_out = part.divided(np.array([one.path in out for one in part.pictures]))
    return kept, left_out, found


def _say(found: Sequence[Finding], total: int) -> None:
    notes = [one for one in found if one.weight is Weight.NOTE]
    if notes:
        _log.warning(
            "%d of %d good pictures are unlike all others. They are learned from; remove those "
            "that are not of good parts:\n%s",
            len(notes),
            total,
            listed(notes),
        )


def strangeness(
    heads: Sequence[Head], values: NDArray[np.float32], groups: Sequence[str], seed: int
) -> NDArray[np.float64]:
    """Returns how many spreads each picture's score lies above the median, `(N,)`.

    The score is that of Gaussians that have seen no picture of the same fold. The spread is the
    mean of those of both halves, on the logarithms.

    Args:
        heads: Their shapes.
        values: `(N, D) float32`: all heads' features.
        groups: Pictures of one part, which folds never divide.
        seed: Of the folds.

    Raises:
        DataError: There are too few different parts.
    """
    fold = fold_of(groups, seed)
    steps = iter(progress(range(len(heads) * FOLDS), "looking for strange pictures", unit="fit"))
    unseen = [
        _unseen(head, data, lambda: next(steps, None))
        for head, data in head_data(heads, values, fold)
    ]
    next(steps, None)  # ends the line
    joined = joined_scores(unseen, [Scale(*_middle(one)) for one in unseen])
    typical, spread = _middle(joined)
    above: NDArray[np.float64] = np.log(joined / typical) / spread
    return above


def _unseen(head: Head, data: HeadData, step: Callable[[], object]) -> NDArray[np.float64]:
    gaussians, unseen = Gaussians(head, data, 0), np.empty(len(data.values))
    for fold in range(FOLDS):
        held = np.flatnonzero(data.fold == fold)
        unseen[held] = scores(gaussians.flow(fold), data.values, held)
        step()
    return unseen


def _middle(unseen: NDArray[np.float64]) -> tuple[float, float]:
    """Returns the median of scores and the spread of their logarithms.

    The spread is a normal distribution's standard deviation: the mean of the distance of the 16 %
    quantile from the median and of that of the 75 % quantile, over what it would be.
    """
    logs = np.log(positive(unseen))
    low, median, high = np.quantile(logs, (0.16, 0.5, 0.75))
    spread = (median - low + (high - median) / 0.6745) / 2.0
    return float(np.exp(median)), max(float(spread), 1e-9)


class Judged(NamedTuple):
    """Pictures, their scores `(N,)`, and heatmaps `(N, rows, columns)`."""

    part: Part
    scores: NDArray[np.float64]
    heatmaps: Callable[[NDArray[np.intp]], NDArray[np.float32]]


def ranking(
    kept: Judged,
    left_out: Judged,
    threshold: Callable[[Sequence[float], Sequence[str]], float | None] | None,
) -> list[dict[str, Any]]:
    """Returns the strangest good pictures for the record, the strangest first.

    Args:
        kept: What is learned from, with out-of-fold scores.
        left_out: What is not, with the scores of the finished model.
        threshold: The threshold that scores and groups give; None where other pictures set it.

    Returns:
        Of each: path, score, whether it is left out; `threshold`, as it would be without the
        picture, or with it where it is left out; and for the first `SHOWN` a heatmap.
    """
    total = len(kept.scores) + len(left_out.scores)
    rows = [(float(score), kept, k) for k, score in enumerate(kept.scores)]
    rows += [(float(score), left_out, k) for k, score in enumerate(left_out.scores)]
    rows.sort(key=lambda row: -row[0])
    rows = rows[: max(round(LISTED * total), SHOWN)]
    found = []
    for place, (score, of, k) in enumerate(rows):
        entry: dict[str, Any] = {
            "path": str(of.part.pictures[k].path),
            "score": score,
            "left_out": of is left_out,
            "threshold": threshold and _changed(kept, of, k, threshold),
        }
        if place < SHOWN:
            heatmap = of.heatmaps(np.array([k]))[0]
            entry["heatmap"] = [[float(f"{value:.4g}") for value in row] for row in heatmap]
        found.append(entry)
    return found


def _changed(
    kept: Judged,
    of: Judged,
    k: int,
    threshold: Callable[[Sequence[float], Sequence[str]], float | None],
) -> float | None:
    scores, groups = list(kept.scores), list(kept.part.groups)
    if of is kept:
        del scores[k], groups[k]
    else:
        scores.append(of.scores[k])
        groups.append(of.part.groups[k])
    return threshold(scores, groups)
