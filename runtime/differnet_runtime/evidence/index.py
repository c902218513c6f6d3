"""The kept inspections: their image files, and an SQLite index with one row for each."""

from __future__ import annotations

import builtins
import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from ..database import Database, mapped, open_or_replace
from ..errors import OutputError, StoreError
from ..events import InspectionEvent
from ..inspection.capture_record import View
from ..inspection.drawing import eight_bit_colour, jpeg, with_heatmap
from ..model_file.metadata import ModelMetadata
from ..records import Image, Verdict


@dataclass(frozen=True)
class EvidenceItem:
    """A kept inspection.

    Args:
        id: Id of its event, and name of its image files.
        at_s: Wall clock of the verdict, in seconds since the epoch.
        camera: Name of the camera; empty if the index was lost.
        part: Id of the part, if it came with the trigger.
        verdict: GOOD, DEFECT or NO_DECISION; UNKNOWN if the index was lost.
        code: The reason for NO_DECISION.
        score: The anomaly score that was compared with the threshold.
        threshold: The threshold at that time.
        heatmap: Whether a heatmap is kept.
        bytes: Size of all its files.
        head: Name of the head with the greatest score; None if the model has no heads.
        model: Content hash of the model; None if no model judged.
        view: The region and fit of the model's input, as JSON (`capture_record.View`).
        first: Id of the event on the part's first frame.
        frames: Number of frames of the same part, of which this is the worst.
    """

    id: str
    at_s: float
    camera: str
    part: str | None
    verdict: str
    code: str | None
    score: float | None
    threshold: float | None
    heatmap: bool
    bytes: int
    head: str | None = None
    model: str | None = None
    view: str | None = None
    first: str | None = None
    frames: int = 1


def item_of(
    event: InspectionEvent, metadata: ModelMetadata | None, files: Mapping[str, bytes]
) -> EvidenceItem:
    """Returns the index entry of an inspection.

    Args:
        event: The event with the verdict.
        metadata: Metadata of the model that judged; None if none did.
        files: The image files, by name.
    """
    seen = metadata.input if metadata is not None else None
    return EvidenceItem(
        id=event.id,
        at_s=event.at_s,
        camera=event.camera,
        part=event.part,
        verdict=event.verdict,
        code=event.code,
        score=event.score,
        threshold=event.threshold,
        heatmap=any(".heat." in name for name in files),
        bytes=sum(len(data) for data in files.values()),
        head=event.head,
        model=event.model.hash if event.model else None,
        view=View(roi=seen.region, fit=seen.fit).model_dump_json() if seen is not None else None,
        first=event.first_event or event.id,
        frames=event.part_frame,
    )


NoteColumn = Literal["frames", "labelled"]
"""Columns that are updated after a picture was kept."""

_VERSION = 1
_SCHEMA = """
CREATE TABLE picture (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    at_s REAL NOT NULL,
    camera TEXT NOT NULL,
    part TEXT,
    verdict TEXT NOT NULL,
    code TEXT,
    score REAL,
    threshold REAL,
    heatmap INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    clock_s REAL NOT NULL
);
CREATE INDEX picture_camera ON picture (camera, row);
CREATE INDEX picture_verdict ON picture (verdict, row);
CREATE TABLE clock (seconds REAL NOT NULL);
INSERT INTO clock VALUES (0)
"""
_SUMS = "SELECT count(*), coalesce(sum(bytes), 0) FROM picture"
_SIZE = "SELECT bytes, verdict FROM picture WHERE id = ?"
_ADDED = {
    "head": "TEXT",
    "model": "TEXT",
    "view": "TEXT",
    "first": "TEXT",
    "frames": "INTEGER NOT NULL DEFAULT 1",
    "labelled": "INTEGER NOT NULL DEFAULT 0",
}
"""Columns that later releases added, without a new version of the schema."""
_COLUMNS = ", ".join(field.name for field in fields(EvidenceItem))
_PLACES = ", ".join("?" * (len(fields(EvidenceItem)) + 1))


@dataclass(frozen=True)
class Deletable:
    """A picture that retention may delete.

    Args:
        id: Id of its event.
        bytes: Size of all its files.
        age_s: Its age, in seconds that the station has run.
        labelled: Whether a person has labelled it; labelled pictures are deleted last.
    """

    id: str
    bytes: int
    age_s: float
    labelled: bool


@dataclass(frozen=True)
class Sum:
    """A number of pictures, and the bytes of all their files."""

    count: int = 0
    bytes: int = 0

    def plus(self, count: int, bytes_: int) -> Sum:
        """Returns the sum with more pictures, or with fewer if the numbers are negative."""
        return Sum(self.count + count, self.bytes + bytes_)


class Index(Database):
    """The index database, which one thread writes and any thread reads.

    Args:
        path: The path of the database file.

    Raises:
        DamagedError: It is damaged.
        StoreError: It can't be opened.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, _SCHEMA, _VERSION, durable=False)
        self._add_columns()
        self.kept = Sum(*self.read(_SUMS)[0])
        self.undecided = Sum(*self.read(f"{_SUMS} WHERE verdict = ?", Verdict.NO_DECISION)[0])

    def add(self, items: Sequence[EvidenceItem], replacing: Sequence[str] = ()) -> None:
        """Adds rows and deletes those that they replace (by id), in one transaction."""
        now_s = self.now_s()
        with self.writing() as writer:
            deleted = self._delete(replacing)
            writer.executemany(
                f"INSERT INTO picture ({_COLUMNS}, clock_s) VALUES ({_PLACES})",  # noqa: S608 - no value is in it
                [(*astuple(item), now_s) for item in items],
            )
            writer.execute("UPDATE clock SET seconds = ?", (now_s,))
        for item in items:
            self._count(item.verdict, 1, item.bytes)
        self._count_deleted(deleted)

    def delete(self, ids: Sequence[str]) -> None:
        """Deletes rows in one transaction."""
        with self.writing():
            deleted = self._delete(ids)
        self._count_deleted(deleted)

    def _delete(self, ids: Sequence[str]) -> list[tuple[int, str]]:
        """Deletes rows within a transaction; returns the bytes and the verdict of each."""
        deleted = [row for id_ in ids for row in self._writer.execute(_SIZE, (id_,))]
        self._writer.executemany("DELETE FROM picture WHERE id = ?", [(id_,) for id_ in ids])
        return deleted

    def _count_deleted(self, deleted: list[tuple[int, str]]) -> None:
        for size, verdict in deleted:
            self._count(verdict, -1, -size)

    def _count(self, verdict: str, count: int, size: int) -> None:
        self.kept = self.kept.plus(count, size)
        if verdict == Verdict.NO_DECISION:
            self.undecided = self.undecided.plus(count, size)

    def update(self, column: NoteColumn, values: Mapping[str, int]) -> None:
        """Sets a column of the rows with these ids, in one transaction."""
        with self.writing() as writer:
            writer.executemany(
                f"UPDATE picture SET {column} = ? WHERE id = ?",  # noqa: S608 - no value is in it
                [(value, id_) for id_, value in values.items()],
            )

    def has(self, id_: str, *, labelled: bool = False) -> bool:
        """Returns whether a picture is kept; with `labelled`, whether it has a label too."""
        rows = self.read("SELECT labelled FROM picture WHERE id = ?", id_)
        return bool(rows) and (bool(rows[0][0]) or not labelled)

    def ids(self) -> set[str]:
        """Returns the id of every picture."""
        return {id_ for (id_,) in self.read("SELECT id FROM picture")}

    def oldest(self, limit: int, *, undecided: bool = False) -> list[Deletable]:
        """Returns the oldest pictures, labelled ones last.

        Args:
            limit: Greatest number of pictures.
            undecided: Only those with NO_DECISION and without a label.
        """
        now_s = self.now_s()
        query = (
            "SELECT id, bytes, clock_s, labelled FROM picture"  # noqa: S608 - no value is in it
            f"{' WHERE verdict = ? AND NOT labelled' if undecided else ''}"
            " ORDER BY labelled, row LIMIT ?"
        )
        values = (Verdict.NO_DECISION, limit) if undecided else (limit,)
        return [
            Deletable(id_, size, now_s - clock_s, bool(labelled))
            for id_, size, clock_s, labelled in self.read(query, *values)
        ]

    def list(
        self, limit: int, before: str | None, camera: str | None, verdict: str | None
    ) -> list[EvidenceItem]:
        """Returns the latest pictures first; see `EvidenceStore.list`."""
        filters = {
            "row < (SELECT row FROM picture WHERE id = ?)": before,
            "camera = ?": camera,
            "verdict = ?": verdict,
        }
        given = {clause: value for clause, value in filters.items() if value is not None}
        where = " AND ".join(["1", *given])
        return self._select(f"{where} ORDER BY row DESC LIMIT ?", *given.values(), limit)

    def find(self, id_: str) -> EvidenceItem | None:
        """Returns the picture of that id; None if it is not kept, or no longer."""
        return next(iter(self._select("id = ?", id_)), None)

    def _select(self, where: str, *values: str | int) -> builtins.list[EvidenceItem]:
        query = f"SELECT {_COLUMNS} FROM picture WHERE {where}"  # noqa: S608 - no value is in it
        items = [EvidenceItem(*row) for row in self.read(query, *values)]
        return [replace(item, heatmap=bool(item.heatmap)) for item in items]

    def _add_columns(self) -> None:
        """Adds the columns that an older index lacks; older releases can still use it."""
        known = {name for _, name, *_ in self.read("PRAGMA table_info(picture)")}
        with mapped(self._path):
            for name in _ADDED.keys() - known:
                self._writer.execute(f"ALTER TABLE picture ADD COLUMN {name} {_ADDED[name]}")
            self._writer.execute(
                "CREATE INDEX IF NOT EXISTS picture_going ON picture (labelled, row)"
            )


Kind = Literal["input", "heatmap", "thumbnail"]
Files = dict[str, bytes]
"""Content by file name below the store's folder."""

UNKNOWN = "UNKNOWN"
"""Verdict of a picture whose row is lost."""

_THUMBNAIL = 320
"""Longer side, in pixels."""
_THUMBNAIL_QUALITY, _HEATMAP_QUALITY = 80, 92
_INFIXES: dict[Kind, str] = {"input": "", "heatmap": ".heat", "thumbnail": ".small"}
_SUFFIXES = ("jpg", "png")

log = logging.getLogger(__name__)


def encode(
    id_: str,
    image: Image,
    heatmap: NDArray[np.float32] | None,
    metadata: ModelMetadata | None,
    quality: int,
) -> Files:
    """Encodes the files of an inspection.

    Args:
        id_: Id of its event.
        image: The frame as the camera gave it; 16 bits are kept, as PNG.
        heatmap: `(rows, columns) float32`; None if there is none.
        metadata: Metadata of the model that judged, with its region and colour scale.
        quality: JPEG quality, 1 to 100; 0 for PNG.

    Raises:
        OutputError: OpenCV can't encode the frame.
    """
    suffix = "png" if quality == 0 or image.dtype != np.uint8 else "jpg"
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix == "jpg" else []
    try:
        plain = eight_bit_colour(image)
        small = _THUMBNAIL / max(plain.shape[:2])
        frame = cv2.imencode(f".{suffix}", image, options)[1].tobytes()
        files = {
            file_name(id_, "input", suffix): frame,
            file_name(id_, "thumbnail", "jpg"): jpeg(plain, _THUMBNAIL_QUALITY, small),
        }
        if (drawn := with_heatmap(plain, heatmap, metadata)) is not None:
            files[file_name(id_, "heatmap", "jpg")] = jpeg(drawn, quality or _HEATMAP_QUALITY)
    except cv2.error as error:
        raise OutputError(
            f"a picture of shape {image.shape} and type {image.dtype} can't be kept ({error.err})"
        ) from error
    return files


def file_name(id_: str, kind: Kind, suffix: str) -> str:
    """Returns a file's name below the store's folder; 256 subfolders keep each one small."""
    return f"{id_[:2]}/{id_}{_INFIXES[kind]}.{suffix}"


def file_names(id_: str) -> list[str]:
    """Returns the names of all files that a picture may have."""
    return [file_name(id_, kind, suffix) for kind in _INFIXES for suffix in _SUFFIXES]


def find(folder: Path, id_: str, kind: Kind) -> Path | None:
    """Returns the file of a picture, or None if there is none."""
    paths = (folder / file_name(id_, kind, suffix) for suffix in _SUFFIXES)
    return next((path for path in paths if path.is_file()), None)


def open_index(folder: Path, *, damaged: bool = False) -> Index:
    """Opens a store's index, and brings files and rows together after a crash.

    Args:
        folder: Folder of the store; created if it does not exist.
        damaged: Whether the index is known to be damaged; it is then replaced.

    Raises:
        StoreError: It can't be opened, or the files can't be read.
    """
    path = folder / "index.sqlite"
    index = open_or_replace(path, partial(Index, path), damaged=damaged)
    with contextlib.ExitStack() as undo:
        undo.callback(index.close)
        try:
            if index.kept.count == 0:
                _adopt(folder, index)
            _sweep(folder, index)
        except OSError as error:
            raise StoreError(f"{folder}: {error.strerror or error}") from error
        undo.pop_all()
    return index


def _sweep(folder: Path, index: Index) -> None:
    """Deletes files without a row and rows without files, which a crash has left."""
    known, seen, files = index.ids(), set(), 0
    for path in _paths(folder):
        id_ = _id_of(path)
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


def _adopt(folder: Path, index: Index) -> None:
    """Adds rows for pictures whose index was lost; their verdict is UNKNOWN."""
    items = []
    for id_ in {_id_of(path) for path in _paths(folder)} - {""}:
        if (image := find(folder, id_, "input")) is None:
            continue
        paths = [folder / name for name in file_names(id_) if (folder / name).exists()]
        size = sum(path.stat().st_size for path in paths)
        heatmap, at_s = find(folder, id_, "heatmap") is not None, image.stat().st_mtime
        items.append(EvidenceItem(id_, at_s, "", None, UNKNOWN, None, None, None, heatmap, size))
    if items:
        index.add(sorted(items, key=lambda item: item.at_s))
        log.warning("%s: %d pictures without an index have one again", folder, len(items))


def _paths(folder: Path) -> Iterator[Path]:
    for shard in folder.glob("[0-9a-f][0-9a-f]"):
        yield from shard.iterdir()


def _id_of(path: Path) -> str:
    return path.name.partition(".")[0]
