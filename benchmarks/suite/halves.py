"""Half of the judged pictures to choose by, the other half to report."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from differnet_training.datasets import ImageFile

CHOOSE, REPORT, WHOLE = "choose", "report", "whole"
HALVES = (CHOOSE, REPORT, WHOLE)
Halves = dict[tuple[str, str], str]
"""From a picture's kind and file name to its half."""


def divided(groups: Iterable[Sequence[ImageFile]]) -> Halves:
    """Ranks each group by the SHA-256 of the files' names; even ranks are to choose by."""
    found: Halves = {}
    for group in groups:
        ordered = sorted(group, key=lambda picture: _digest(picture.path.name))
        for rank, picture in enumerate(ordered):
            found[picture.kind, picture.path.name] = REPORT if rank % 2 else CHOOSE
    return found


def by_kind(pictures: Iterable[ImageFile]) -> list[list[ImageFile]]:
    """Groups pictures by their kind, so that each kind is halved for itself."""
    groups: dict[str, list[ImageFile]] = {}
    for picture in pictures:
        groups.setdefault(picture.kind, []).append(picture)
    return [groups[kind] for kind in sorted(groups)]


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
