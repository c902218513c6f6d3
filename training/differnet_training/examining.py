"""Looks at the good pictures before anything is learned: refuses, leaves out and warns by name."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from differnet_runtime.errors import DataError
from differnet_runtime.integrity.doubtful import Doubtful, act_on, refuse
from differnet_runtime.integrity.examination import (
    Finding,
    Measured,
    Weight,
    appearance,
    different_parts,
    examine,
    listed,
)
from differnet_runtime.metadata import Appearance, PictureSizes

from .datasets import Picture
from .features import FeatureReader

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

    pictures: tuple[Picture, ...]
    appearance: Appearance
    sizes: PictureSizes
    part_by_content: dict[str, str]
    content: dict[Path, str]
    findings: tuple[Finding, ...] = ()
    left_out: frozenset[Path] = field(default_factory=frozenset)

    def parts(self, contents: Sequence[str]) -> list[str]:
        """Returns the name of the part that each picture shows, by its file's SHA-256."""
        return [self.part_by_content[content] for content in contents]

    def with_strange(self, found: Sequence[Finding], left_out: Sequence[Picture]) -> Examined:
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
    reader: FeatureReader, pictures: Sequence[Picture], doubtful: Doubtful, *, grouped: bool = False
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
