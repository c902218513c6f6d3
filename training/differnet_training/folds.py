"""Divides good pictures into folds, so that each is judged once by a model without it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from differnet_runtime.errors import DataError

from .datasets import Picture

FOLDS = 5


@dataclass(frozen=True)
class Part:
    """Pictures with their features and their groups.

    Args:
        pictures: N pictures.
        content: Their files' SHA-256.
        values: `(N, D) float32`, perhaps in a file that is mapped into memory.
        groups: Pictures of one part, which folds never divide.
    """

    pictures: tuple[Picture, ...]
    content: tuple[str, ...]
    values: NDArray[np.float32]
    groups: tuple[str, ...]

    def taken(self, chosen: NDArray[np.bool_]) -> Part:
        """Returns the chosen pictures; features are copied, unless all are chosen."""
        rows = np.flatnonzero(chosen)
        values = self.values if chosen.all() else self.values[rows]
        return self._of(rows, values)

    def divided(self, out: NDArray[np.bool_]) -> tuple[Part, Part]:
        """Returns all others, then the few that go out.

        The others' features move together where they lie, so that memory holds no second copy
        of them; this part must not be used any more.
        """
        gone, rows = self.taken(out), np.flatnonzero(~out)
        if len(gone.pictures):
            for place, row in enumerate(rows):
                self.values[place] = self.values[row]
        return self._of(rows, self.values[: len(rows)]), gone

    def _of(self, rows: NDArray[np.intp], values: NDArray[np.float32]) -> Part:
        return Part(
            tuple(self.pictures[row] for row in rows),
            tuple(self.content[row] for row in rows),
            values,
            tuple(self.groups[row] for row in rows),
        )


def groups_of(
    pictures: Sequence[Picture], contents: Sequence[str], pattern: str | None
) -> list[str]:
    """Returns each picture's group: pictures of one part, which folds never divide.

    Args:
        pictures: Good pictures.
        contents: Names the part that each shows as far as the pixels tell; equal names form one
            group.
        pattern: See `part_names`. A picture that it does not match is a group of its own.

    Raises:
        DataError: The pattern is not a regular expression, or matches no picture.
    """
    names = part_names(pictures, pattern)
    return [name or content for name, content in zip(names, contents, strict=True)]


def part_names(pictures: Sequence[Picture], pattern: str | None) -> list[str | None]:
    """Returns the name of the part that each picture shows, from its path alone.

    Args:
        pictures: Good pictures.
        pattern: A regular expression for the picture's path; its first group, or the
            whole match, names the part. Without a pattern, the picture's folder names it, if the
            data set has a folder for each part.

    Returns:
        The names; None for pictures without one.

    Raises:
        DataError: The pattern is not a regular expression, or matches no picture.
    """
    if pattern is None:
        return [picture.part for picture in pictures]
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise DataError(f"--groups {pattern!r} is not a regular expression: {error}") from error
    found = [expression.search(picture.path.as_posix()) for picture in pictures]
    if not any(found):
        raise DataError(
            f"--groups {pattern!r} matches none of the {len(pictures)} pictures, of which the "
            f"first is {pictures[0].path}"
        )
    return [None if match is None else match.group(1 if match.re.groups else 0) for match in found]


def of_parts(scores: Sequence[float], groups: Sequence[str]) -> list[float]:
    """Returns each group's greatest score: pictures of one part are not independent."""
    greatest: dict[str, float] = {}
    for score, group in zip(scores, groups, strict=True):
        greatest[group] = max(score, greatest.get(group, score))
    return list(greatest.values())


def fold_of(groups: Sequence[str], seed: int, folds: int = FOLDS) -> NDArray[np.intp]:
    """Assigns groups to folds, in random order but the largest first; returns folds `(N,)`.

    Raises:
        DataError: There are fewer than two groups per fold.
    """
    names, sizes = np.unique(groups, return_counts=True)
    if len(names) < 2 * folds:
        raise DataError(
            f"too few good pictures: found {len(names)} different ones, expected at least "
            f"{2 * folds} to train on some and judge the others; equal files, and pictures of one "
            "part, count as one. Take more (`differnet capture`)."
        )
    order = np.random.RandomState(seed).permutation(len(names))
    order = order[np.argsort(-sizes[order], kind="stable")]
    filled = np.zeros(folds, int)
    chosen = {}
    for position in order:
        fold = int(np.argmin(filled))
        chosen[names[position]] = fold
        filled[fold] += sizes[position]
    return np.array([chosen[name] for name in groups])
