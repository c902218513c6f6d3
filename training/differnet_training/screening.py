"""Screens the normal images before training: refuses, leaves out or names the doubtful ones.

First each image is checked on its own. Then a quick pass over the features finds those unlike all
others, defects hidden among them or rare normal parts: the Gaussians of the other folds score each
image, and quantiles that a few defects don't reach tell how far a score lies from the rest.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from differnet_runtime.command import progress
from differnet_runtime.errors import DataError
from differnet_runtime.inspection.examination import (
    Doubtful,
    ImageFinding,
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
from .head_fitting import FOLDS, FoldPart, Gaussians, fold_of, head_data, scores
from .heads import HeadedModel, Scale, joined_scores, positive

_NOTED = 5
"""Most notes listed in the log; all are in the training record."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Examined:
    """The normal images after screening.

    Args:
        images: The images to learn from.
        appearance: Their brightness, sharpness and colour.
        sizes: Their sizes in pixels.
        part_by_content: Maps a file's SHA-256 to that of the first file that shows the same part.
        content: Each file's SHA-256, by its path.
        findings: What was found odd.
        left_out: Images that are not learned from.
    """

    images: tuple[ImageFile, ...]
    appearance: Appearance
    sizes: PictureSizes
    part_by_content: dict[str, str]
    content: dict[Path, str]
    findings: tuple[ImageFinding, ...] = ()
    left_out: frozenset[Path] = field(default_factory=frozenset)

    def parts(self, contents: Sequence[str]) -> list[str]:
        """Returns the name of the part that each image shows, given the files' SHA-256."""
        return [self.part_by_content[content] for content in contents]

    def with_strange(
        self, found: Sequence[ImageFinding], left_out: Sequence[ImageFile]
    ) -> Examined:
        """Returns a copy with what was found in the features."""
        out = {one.path for one in left_out}
        return replace(
            self,
            images=tuple(one for one in self.images if one.path not in out),
            findings=(*self.findings, *found),
            left_out=self.left_out | out,
        )

    def record(self) -> dict[str, Any]:
        """Returns the entry of the training record."""
        return {
            "pictures": len(self.images),
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
    reader: FeatureReader, images: Sequence[ImageFile], doubtful: Doubtful, *, grouped: bool
) -> Examined:
    """Reads all normal images and checks each.

    Args:
        reader: Reads the images as the model sees them.
        images: Images said to show good parts.
        doubtful: What to do with images that may not be normal.
        grouped: Whether the user says which images show the same part.

    Raises:
        DataError: Images can't be read, are surely not normal, or are doubtful and `doubtful` is
            `stop`; lists each with its cause.
    """
    kept, measured = reader.check(images)
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
    first: dict[int, str] = {}
    parts = {
        one.content: first.setdefault(number, one.content)
        for one, number in zip(rest, different_parts(rest), strict=True)
    }
    if not grouped and len(first) < len(rest):
        _log.warning(
            "%d pictures of %d different parts: near-identical pictures count as one part, which "
            "folds never divide. More different parts, not more pictures of the same, make a "
            "better model",
            len(rest),
            len(first),
        )
    return Examined(
        images=tuple(one for one in kept if one.path not in left_out),
        appearance=appearance(rest),
        sizes=PictureSizes.of(one.size for one in rest),
        part_by_content=parts,
        content={one.path: one.content for one in measured},
        findings=found.findings,
        left_out=left_out,
    )


def check_varied(values: NDArray[np.float32], least: int) -> None:
    """Refuses images of which too few differ in their pixels, though their files do.

    Args:
        values: `(N, ...) float32` features; those of equal pixels are equal bit for bit.
        least: Number of images that must differ.

    Raises:
        DataError: Fewer differ.
    """
    different = len({hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in values})
    if different < least:
        raise DataError(
            f"of the {len(values)} good pictures only {different} differ; the others equal one of "
            f"them pixel for pixel. At least {least} different ones are needed: take pictures of "
            "different parts."
        )


CUT, ROOM = 3.5, 30.0
"""A score is strange from `CUT` + `ROOM` / (number of parts) spreads above the median on: the
fewer images, the less is known of the spread."""
AGAIN, CLOSER = 0.02, 1.0
"""If a greater share than `AGAIN` is strange, the rest is judged once more without them, with a
limit lower by `CLOSER` spreads: wrong images of one kind hide each other."""
FAR = 9.0
"""Images so many spreads above the median are doubtful. Nearer ones are only named: in clean
folders they are rare normal parts, whose kind a model without them rejects."""
MOST = 0.1
"""Were more than this share of the images strange, they would be a kind of part of their own."""
LISTED, SHOWN = 0.15, 24
"""Share of the images that the record lists, and how many of these have a heatmap."""


def without_strange(
    heads: Sequence[Head], part: FoldPart, seed: int, doubtful: Doubtful
) -> tuple[FoldPart, FoldPart, tuple[ImageFinding, ...]]:
    """Finds images unlike all others; if `doubtful` is `drop`, leaves out those far from the rest.

    Returns:
        The images to learn from, those that are left out, and what was found.

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
    found = tuple(
        ImageFinding(
            part.images[row].path,
            "strange",
            sentence("seen_strange", above=above[row], most=limits[row]),
            Weight.DOUBTFUL if above[row] > FAR else Weight.NOTE,
        )
        for row in np.argsort(-above)
        if strange[row]
    )
    if notes := [one for one in found if one.weight is Weight.NOTE]:
        _log.warning(
            "%d of %d good pictures are unlike all others. They are learned from; remove those "
            "that are not of good parts:\n%s",
            len(notes),
            len(strange),
            listed(notes),
        )
    out = act_on([one for one in found if one.weight is Weight.DOUBTFUL], len(strange), doubtful)
    kept, left_out = part.divided(np.array([one.path in out for one in part.images]))
    return kept, left_out, found


def strangeness(
    heads: Sequence[Head], values: NDArray[np.float32], groups: Sequence[str], seed: int
) -> NDArray[np.float64]:
    """Returns how many spreads each image's score lies above the median, `(N,)`.

    The scores are those of Gaussians that have seen no image of the same fold, as logarithms; the
    spread is that of `_middle`.

    Args:
        heads: Shapes of the heads.
        values: `(N, D) float32`: all heads' features.
        groups: Name of each image's part; folds never divide a part.
        seed: Seed of the folds.

    Raises:
        DataError: There are too few different parts.
    """
    fold = fold_of(groups, seed)
    steps = iter(progress(range(len(heads) * FOLDS), "looking for strange pictures", unit="fit"))
    unseen = []
    for head, data in head_data(heads, values, fold):
        gaussians = Gaussians(head, data, 0)
        unseen.append(np.empty(len(values)))
        for k in range(FOLDS):
            held = np.flatnonzero(fold == k)
            unseen[-1][held] = scores(gaussians.flow(k), data.values, held)
            next(steps, None)
    next(steps, None)  # ends the line
    joined = joined_scores(unseen, [_middle(one) for one in unseen])
    typical, spread = _middle(joined)
    return np.asarray(np.log(joined / typical) / spread)


def _middle(unseen: NDArray[np.float64]) -> Scale:
    """Returns the median of scores `(N,)` and the spread of their logarithms.

    The spread estimates the standard deviation of normal images from two quantiles: the mean of
    (median - 16 % quantile) and (75 % quantile - median) / 0.6745.
    """
    low, median, high = np.quantile(np.log(positive(unseen)), (0.16, 0.5, 0.75))
    spread = (median - low + (high - median) / 0.6745) / 2.0
    return Scale(float(np.exp(median)), max(float(spread), 1e-9))


def ranking(
    model: HeadedModel,
    kept: FoldPart,
    unseen: NDArray[np.float64],
    left_out: FoldPart,
    threshold: Callable[[Sequence[float], Sequence[str]], float | None] | None,
) -> list[dict[str, Any]]:
    """Returns the record's entries on the strangest normal images, the strangest first.

    Args:
        model: The model that was fitted on all.
        kept: What is learned from.
        unseen: `(N,)`, the out-of-fold scores of `kept`.
        left_out: What is not learned from; the finished model scores it.
        threshold: Maps scores and groups to a threshold; None if other images set it.

    Returns:
        For each image its path, its score and whether it is left out; the `threshold` without the
        image, or with it if it is left out; and for the first `SHOWN` a heatmap.
    """
    out = model.judge_features(left_out.values).scores if left_out.images else np.empty(0)
    rows = [(float(score), kept, k) for k, score in enumerate(unseen)]
    rows += [(float(score), left_out, k) for k, score in enumerate(out)]
    rows.sort(key=lambda row: -row[0])
    found: list[dict[str, Any]] = []
    for score, of, k in rows[: max(round(LISTED * len(rows)), SHOWN)]:
        scores, groups = unseen.tolist(), list(kept.groups)
        if of is kept:
            del scores[k], groups[k]
        else:
            scores.append(score)
            groups.append(of.groups[k])
        entry: dict[str, Any] = {
            "path": str(of.images[k].path),
            "score": score,
            "left_out": of is left_out,
            "threshold": threshold and threshold(scores, groups),
        }
        if len(found) < SHOWN:
            heatmaps = model.judge_features(of.values[[k]]).heatmaps
            assert heatmaps is not None
            entry["heatmap"] = [[float(f"{value:.4g}") for value in row] for row in heatmaps[0]]
        found.append(entry)
    return found
