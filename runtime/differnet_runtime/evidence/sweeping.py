"""After a crash: files that no row knows go, and rows whose files are gone."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from .index import Index
from .pictures import file_names, find, id_of
from .records import EvidenceItem

UNKNOWN = "UNKNOWN"
"""Verdict of a picture whose row is lost."""

log = logging.getLogger(__name__)


def sweep(folder: Path, index: Index) -> tuple[int, int]:
    """Brings files and rows together.

    Returns:
        How many files were deleted, and how many rows.
    """
    known, seen, files = index.ids(), set(), 0
    for path in _files(folder):
        id_ = id_of(path)
        if id_ not in known:
            path.unlink(missing_ok=True)
            files += 1
        elif ".heat." not in path.name and ".small." not in path.name:
            seen.add(id_)
    lost = sorted(known - seen)
    for id_ in lost:
        for name in file_names(id_):
            (folder / name).unlink(missing_ok=True)
    if lost:
        index.delete(lost)
    if files or lost:
        log.warning("%s: %d files without a row, %d rows without files", folder, files, len(lost))
    return files, len(lost)


def adopt(folder: Path, index: Index) -> None:
    """Makes rows for pictures whose index was lost; what else was known of them stays lost."""
    items = []
    for id_ in {id_of(path) for path in _files(folder)} - {""}:
        if (image := find(folder, id_, "input")) is None:
            continue
        at_s = image.stat().st_mtime
        paths = [folder / name for name in file_names(id_) if (folder / name).exists()]
        size = sum(path.stat().st_size for path in paths)
        heatmap = find(folder, id_, "heatmap") is not None
        items.append(EvidenceItem(id_, at_s, "", None, UNKNOWN, None, None, None, heatmap, size))
    if items:
        index.add(sorted(items, key=lambda item: item.at_s))
        log.warning("%s: %d pictures without an index have one again", folder, len(items))


def _files(folder: Path) -> Iterator[Path]:
    for shard in folder.glob("[0-9a-f][0-9a-f]"):
        yield from shard.iterdir()
