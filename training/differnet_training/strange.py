"""Finds good pictures unlike all others: defects hidden among them, or rare good parts.

A quick pass before the fit judges each picture by the Gaussians of the other folds. A few wrong
pictures hardly disturb it: how far a score lies from the others is measured by quantiles that a
few defects don't reach.

Brings the heads' scores to one scale and joins them, as `HeadedModel.join` does.

Looks at the good pictures before anything is learned: refuses, leaves out and warns by name.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from differnet_runtime.command import progress
from differnet_runtime.errors import DataError
from differnet_runtime.inspection.examination import (
    Doubtful,
    ImageFinding,
    Measured,
    Weight,
    act_on,
    appearance,
    different_parts,
    examine,
    listed,
    refuse,
)
from differnet_runtime.model_file.contract import PictureSizes
from differnet_runtime.model_file.metadata import Appearance, Head
from differnet_runtime.sentences import sentence

from .datasets import ImageFile
from .features import FeatureReader
from .head_fitting import FOLDS, FoldPart, Gaussians, HeadData, fold_of, head_data, scores
from .heads import LEAST


class Scale(NamedTuple):
    """A head's `typical` and `spread`; see `metadata.Head`."""

    typical: float
    spread: float


def scale_of(unseen: NDArray[np.float64], handicap: float) -> Scale:
    """Returns a head's scale, computed from scores of good pictures that it had not seen.

    Args:
        unseen: `(N,)`, those scores.
        handicap: See `recipes.HeadRecipe`.

    Raises:
        DataError: The scores do not differ at all.
    """
    logs = np.log(positive(unseen))
    spread = float(logs.std(ddof=1))
    if spread < 1e-9:
        raise DataError(
            "the good pictures give the same score, as if all were the same picture. Take "
            "pictures of different parts."
        )
    return Scale(float(np.exp(logs.mean() + handicap * spread)), spread)


def joined_scores(
    unseen: Sequence[NDArray[np.float64]], scales: Sequence[Scale]
) -> NDArray[np.float64]:
    """Returns the joined scores `(N,)`, computed as in `HeadedModel.join`."""
    z = np.stack(
        [
            np.log(positive(scores) / scale.typical) / scale.spread
            for scores, scale in zip(unseen, scales, strict=True)
        ]
    )
    top = z.max(axis=0)
    joined = top + np.log(np.exp(z - top).mean(axis=0))
    unit = min(scale.spread for scale in scales)
    scores: NDArray[np.float64] = np.exp(unit * joined)
    return scores


def positive(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Raises scores to above 0, as `HeadFlow.standardized` does, so that they have logarithms."""
    positive = np.where(scores > 1.0, scores, np.exp(np.minimum(scores, 1.0) - 1.0))
    return np.maximum(positive, LEAST)


_NOTED = 5
"""Notes that are listed; all are in the training record."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Examined:
    """The good pictures after a look at them.

    Args:
        pictures: Those to learn from.
        appearance: How they look.
        sizes: Their sizes.
        part_by_content: By a file's SHA-256: that of the first file that shows the same part.
        content: Each file's SHA-256, by its path.
        findings: What was odd.
        left_out: Pictures that are not learned from.
    """

    pictures: tuple[ImageFile, ...]
    appearance: Appearance
    sizes: PictureSizes
    part_by_content: dict[str, str]
    content: dict[Path, str]
    findings: tuple[ImageFinding, ...] = ()
    left_out: frozenset[Path] = field(default_factory=frozenset)

    def parts(self, contents: Sequence[str]) -> list[str]:
        """Returns the name of the part that each picture shows, by its file's SHA-256."""
        return [self.part_by_content[content] for content in contents]

    def with_strange(
        self, found: Sequence[ImageFinding], left_out: Sequence[ImageFile]
    ) -> Examined:
        """Returns the same with what a look at the features found."""
        out = {one.path for one in left_out}
        return replace(
            self,
            pictures=tuple(one for one in self.pictures if one.path not in out),
            findings=(*self.findings, *found),
            left_out=self.left_out | out,
        )

    def record(self) -> dict[str, Any]:
        """Returns what the training record keeps."""
        return {
            "pictures": len(self.pictures),
            "different_parts": len(set(self.part_by_content.values())),
            "findings": [
                {
                    "path": str(one.path),
                    "cause": one.cause,
                    "detail": one.detail,
                    "left_out": one.path in self.left_out,
                    "sha256": self.content[one.path],
                }
                for one in self.findings
            ],
        }


def examine_good(
    reader: FeatureReader,
    pictures: Sequence[ImageFile],
    doubtful: Doubtful,
    *,
    grouped: bool = False,
) -> Examined:
    """Reads all good pictures and looks at them.

    Args:
        reader: Reads them.
        pictures: Said to be of good parts.
        doubtful: What to do with pictures that may not be of a good part.
        grouped: Whether the user says which pictures show the same part.

    Raises:
        DataError: Pictures can't be read, are surely not of a good part, or are doubtful and
            `doubtful` is `stop`; lists each with its cause.
    """
    kept, measured = reader.check(pictures)
    found = examine(measured)
    refuse(found.of(Weight.SURE), len(measured))
    left_out = act_on(found.of(Weight.DOUBTFUL), len(measured), doubtful)
    if notes := found.of(Weight.NOTE):
        _log.warning(
            "%d of %d pictures need attention:\n%s",
            len(notes),
            len(measured),
            listed(notes, _NOTED),
        )
    rest = found.without(left_out)
    if not rest:
        raise DataError("every good picture is doubtful; look at them, or take --doubtful keep")
    parts = _parts(rest)
    if not grouped:
        _say_how_many(len(rest), len(set(parts.values())))
    pictures = tuple(one for one in kept if one.path not in left_out)
    content = {one.path: one.content for one in measured}
    sizes = PictureSizes.of(one.size for one in rest)
    return Examined(pictures, appearance(rest), sizes, parts, content, found.findings, left_out)


def _parts(pictures: Sequence[Measured]) -> dict[str, str]:
    first: dict[int, str] = {}
    numbers = different_parts(pictures)
    return {
        one.content: first.setdefault(number, one.content)
        for one, number in zip(pictures, numbers, strict=True)
    }


def _say_how_many(pictures: int, parts: int) -> None:
    if parts < pictures:
        _log.warning(
            "%d pictures of %d different parts: near-identical pictures count as one part, which "
            "folds never divide. More different parts, not more pictures of the same, make a "
            "better model",
            pictures,
            parts,
        )


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


def without_strange(
    heads: Sequence[Head], part: FoldPart, seed: int, doubtful: Doubtful
) -> tuple[FoldPart, FoldPart, tuple[ImageFinding, ...]]:
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
        ImageFinding(
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


def _say(found: Sequence[ImageFinding], total: int) -> None:
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


class JudgedPictures(NamedTuple):
    """Pictures, their scores `(N,)`, and heatmaps `(N, rows, columns)`."""

    part: FoldPart
    scores: NDArray[np.float64]
    heatmaps: Callable[[NDArray[np.intp]], NDArray[np.float32]]


def ranking(
    kept: JudgedPictures,
    left_out: JudgedPictures,
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
    kept: JudgedPictures,
    of: JudgedPictures,
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
