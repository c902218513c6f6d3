"""Thresholds that were set on the station: who, when, old, new; each can be undone.

A label and a change of threshold, as they are stored.

The database of what people enter: a file of its own, which no cap of others touches.

Labels: a row a picture, committed before the person is answered.

What labels say of a model: its false rejects and misses, and what another threshold would do.

What people say of the station's verdicts: labels, and thresholds that were set here.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, Field

from .database import DamagedError, connect, mapped, set_aside, transaction
from .errors import StoreError
from .inspection.operating_points import OperatingPoint, operating_points
from .model_file.contract import StrictModel
from .names import Lines, in_words
from .text import UNPRINTABLE

Label = Literal["good", "defect"]
LONGEST_KIND, LONGEST_COMMENT = 64, 1000
_RESERVED = ("good", "ground_truth", "groundtruth", "gt", "mask", "masks")
_MASKS = ("_mask", "_masks")
_NOT_IN_NAMES = rf'/\\:*?"<>|{UNPRINTABLE}'


def _own_folder(kind: str) -> str:
    if kind.casefold() in _RESERVED or kind.casefold().endswith(_MASKS):
        raise ValueError(f"{kind} names another folder of a data set; choose another word")
    return kind


Kind = Annotated[
    str,
    Field(
        min_length=1,
        max_length=LONGEST_KIND,
        pattern=f"^[^ .\\-{_NOT_IN_NAMES}](?:[^{_NOT_IN_NAMES}]*[^ .{_NOT_IN_NAMES}])?$",
        description=f"No folder of a data set's own: {', '.join(_RESERVED)}, or one that ends with "
        f"{' or '.join(_MASKS)}.",
    ),
    in_words(
        'write printable characters without / \\ : * ? " < > |, no space, dot or dash at the start '
        "and no space or dot at the end: it names a folder"
    ),
    AfterValidator(_own_folder),
]
"""Of a defect: the folder that the export puts its pictures into."""
Comment = Annotated[Lines, Field(max_length=LONGEST_COMMENT)]


class Labelled(StrictModel):
    """A picture that a person has labelled, with all that must be known when the picture is gone.

    Args:
        id: Of the kept picture, and of its event.
        label: What the part really is.
        kind: Of the defect; None where it was not said.
        comment: Of the person.
        labelled_at_s: Wall clock, seconds since the epoch.
        labelled_by: As in the audit trail.
        at_s: Of the verdict.
        camera: Name.
        part: Id of the part that came with the trigger.
        first: Id of the event on the part's first frame.
        verdict: That the station gave.
        score: None where there was none; likewise threshold.
        threshold: See score.
        model: Content hash of the model that judged.
        view: What it sees of the frame, as JSON (`capture_record.View`).
    """

    id: str
    label: Label
    kind: str | None = None
    comment: str | None = None
    labelled_at_s: float
    labelled_by: str
    at_s: float
    camera: str
    part: str | None = None
    first: str | None = None
    verdict: str
    score: float | None = None
    threshold: float | None = None
    model: str | None = None
    view: str | None = None

    @property
    def rejected(self) -> bool:
        """Whether the station rejected it."""
        return self.verdict != "GOOD"

    @property
    def wrong(self) -> bool:
        """Whether the verdict was a false reject or a miss."""
        return self.rejected == (self.label == "good")


class ThresholdChange(StrictModel):
    """A threshold that was set on the station.

    Args:
        at_s: Wall clock, seconds since the epoch.
        by: Who, as in the audit trail.
        camera: Whose verdicts it decides.
        model: Content hash of the model that it is for.
        old: What was valid before.
        new: What is valid since.
        configured: The configuration's own threshold at that time. Where that is changed later, the
            configuration counts again.
        undone: It was taken back.
    """

    at_s: float
    by: str
    camera: str
    model: str
    old: float | None
    new: float
    configured: float | None
    undone: bool = False


FILE = "station.sqlite"
"""Below the state folder of a station."""

_VERSION = 1
_SCHEMA = """
CREATE TABLE label (
    id TEXT PRIMARY KEY,
    label TEXT NOT NULL,
    kind TEXT,
    comment TEXT,
    labelled_at_s REAL NOT NULL,
    labelled_by TEXT NOT NULL,
    at_s REAL NOT NULL,
    camera TEXT NOT NULL,
    part TEXT,
    first TEXT,
    verdict TEXT NOT NULL,
    score REAL,
    threshold REAL,
    model TEXT,
    view TEXT
);
CREATE TABLE threshold (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    at_s REAL NOT NULL,
    by TEXT NOT NULL,
    camera TEXT NOT NULL,
    model TEXT NOT NULL,
    old REAL,
    new REAL NOT NULL,
    configured REAL,
    undone INTEGER NOT NULL DEFAULT 0
)
"""


class LabelDatabase:
    """Opens the database when it is first needed; any thread may use it. A commit outlives a crash.

    Args:
        path: Of the file; a damaged one is set aside and a new one begun.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self.problem: str | None = None
        """Why nothing can be entered; None after what went well."""

    @contextlib.contextmanager
    def use(self) -> Iterator[sqlite3.Connection]:
        """Gives the database for one transaction.

        Raises:
            StoreError: It can't be opened, read or written.
        """
        with self._lock:
            try:
                with mapped(self._path):
                    connection = self._opened()
                    with transaction(connection):
                        yield connection
                self.problem = None
            except DamagedError as error:
                self.problem = str(error)
                self._set_aside()
                raise
            except StoreError as error:
                self.problem = str(error)
                raise

    def close(self) -> None:
        """Closes it."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            try:
                self._connection = connect(self._path, _SCHEMA, _VERSION, durable=True)
            except DamagedError:
                set_aside(self._path)
                self._connection = connect(self._path, _SCHEMA, _VERSION, durable=True)
        return self._connection

    def _set_aside(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        with contextlib.suppress(StoreError):
            set_aside(self._path)


_THRESHOLD_FIELDS = tuple(ThresholdChange.model_fields)
_THRESHOLD_COLUMNS = ", ".join(_THRESHOLD_FIELDS)
_ADD = (
    f"INSERT INTO threshold ({_THRESHOLD_COLUMNS}) "  # noqa: S608 - no value is in it
    f"VALUES ({', '.join('?' * len(_THRESHOLD_FIELDS))})"
)
_LIST = f"SELECT {_THRESHOLD_COLUMNS} FROM threshold ORDER BY row"  # noqa: S608 - likewise
_UNDO = """
UPDATE threshold SET undone = 1 WHERE row =
(SELECT max(row) FROM threshold WHERE camera = ? AND model = ? AND NOT undone)
"""

log = logging.getLogger(__name__)


class Thresholds:
    """The thresholds of one station, by camera and model; model files stay untouched.

    Args:
        book: The database.
    """

    def __init__(self, book: LabelDatabase) -> None:
        self._book = book
        self._valid: dict[tuple[str, str], ThresholdChange] = {}
        try:
            self._read()
        except StoreError as error:
            log.warning("thresholds that were set on this station are not used: %s", error)

    def valid(self, camera: str, model: str, configured: float | None) -> ThresholdChange | None:
        """Returns the change that holds now; None where configuration or model decide.

        Args:
            camera: Whose verdicts are decided.
            model: Content hash of the model that judges.
            configured: The configuration's own threshold: one that was changed since counts again.
        """
        change = self._valid.get((camera, model))
        return change if change is not None and change.configured == configured else None

    def threshold(self, camera: str, model: str, configured: float | None) -> float | None:
        """Returns the threshold that is used in place of the model's; None for the model's."""
        change = self.valid(camera, model, configured)
        return configured if change is None else change.new

    def set(self, change: ThresholdChange) -> None:
        """Stores a change; it holds from the next frame on.

        Raises:
            StoreError: It can't be written; nothing changes.
        """
        with self._book.use() as connection:
            connection.execute(_ADD, tuple(change.model_dump().values()))
        self._read()

    def undo(self, camera: str, model: str) -> None:
        """Takes the latest change of a camera and a model back; the one before holds again.

        Raises:
            StoreError: It can't be written; nothing changes.
        """
        with self._book.use() as connection:
            connection.execute(_UNDO, (camera, model))
        self._read()

    def history(self, camera: str) -> list[ThresholdChange]:
        """Returns a camera's changes, the latest first.

        Raises:
            StoreError: They can't be read.
        """
        return [change for change in reversed(self._read()) if change.camera == camera]

    def _read(self) -> list[ThresholdChange]:
        with self._book.use() as connection:
            rows = connection.execute(_LIST).fetchall()
            changes = [
                ThresholdChange.model_validate(dict(zip(_THRESHOLD_FIELDS, row, strict=True)))
                for row in rows
            ]
            # Within the transaction: an earlier reading must not take the place of a later one.
            self._valid = {
                (change.camera, change.model): change for change in changes if not change.undone
            }
        return changes


def changed(
    camera: str, model: str, by: str, *, old: float | None, new: float, configured: float | None
) -> ThresholdChange:
    """Returns a change that is made now; see `ThresholdChange`."""
    return ThresholdChange(
        at_s=time.time(), by=by, camera=camera, model=model, old=old, new=new,
        configured=configured,
    )  # fmt: skip


_LABEL_FIELDS = tuple(Labelled.model_fields)
_LABEL_COLUMNS = ", ".join(_LABEL_FIELDS)
_SET = (
    f"INSERT OR REPLACE INTO label ({_LABEL_COLUMNS}) "  # noqa: S608 - no value is in it
    f"VALUES ({', '.join('?' * len(_LABEL_FIELDS))})"
)
LIST = f"SELECT {_LABEL_COLUMNS} FROM label ORDER BY labelled_at_s DESC, id"  # noqa: S608 - likewise


class LabelStore:
    """The labels of one station.

    Args:
        book: The database.
    """

    def __init__(self, book: LabelDatabase) -> None:
        self._book = book

    def set(self, labelled: Labelled) -> None:
        """Stores a label; an earlier one of the same picture is replaced.

        Raises:
            StoreError: It can't be written.
        """
        with self._book.use() as connection:
            connection.execute(_SET, tuple(labelled.model_dump().values()))

    def remove(self, id_: str) -> None:
        """Takes a label back.

        Raises:
            StoreError: It can't be written.
        """
        with self._book.use() as connection:
            connection.execute("DELETE FROM label WHERE id = ?", (id_,))

    def find(self, id_: str) -> Labelled | None:
        """Returns the label of a picture.

        Raises:
            StoreError: It can't be read.
        """
        with self._book.use() as connection:
            query = f"SELECT {_LABEL_COLUMNS} FROM label WHERE id = ?"  # noqa: S608 - no value is in it
            row = connection.execute(query, (id_,)).fetchone()
        return None if row is None else read(row)

    def all(self) -> list[Labelled]:
        """Returns every label, the latest first.

        Raises:
            StoreError: They can't be read.
        """
        with self._book.use() as connection:
            rows = connection.execute(LIST).fetchall()
        return [read(row) for row in rows]

    def ids(self) -> list[str]:
        """Returns the id of every labelled picture.

        Raises:
            StoreError: They can't be read.
        """
        with self._book.use() as connection:
            return [id_ for (id_,) in connection.execute("SELECT id FROM label")]


def read(row: tuple[object, ...]) -> Labelled:
    """Returns a row as a label."""
    return Labelled.model_validate(dict(zip(_LABEL_FIELDS, row, strict=True)))


class Point(StrictModel):
    """A threshold, and what it does to the labelled parts; see `OperatingPoint`."""

    threshold: float
    false_rejects: int
    misses: int


class LabelCounts(StrictModel):
    """What the labels of one camera say of one model.

    Args:
        good: Parts labelled good that have a score by this model.
        defect: Parts labelled defective; likewise.
        unscored: Labelled parts without a score: they had no decision.
        false_rejects: Good parts that were rejected.
        misses: Defective parts that were judged good.
        points: What each threshold that changes a verdict would have done, the lowest first.
    """

    good: int
    defect: int
    unscored: int
    false_rejects: int
    misses: int
    points: list[Point]


def misses(labels: Iterable[Labelled], camera: str, model: str, threshold: float) -> int:
    """Returns how many labelled defects of a camera a threshold lets pass."""
    return sum(
        one.label == "defect" and one.score is not None and one.score <= threshold
        for one in labels
        if (one.camera, one.model) == (camera, model)
    )


def summary(
    labels: Iterable[Labelled], camera: str, model: str, in_use: float | None
) -> LabelCounts:
    """Sums up the labels on a camera's verdicts by a model.

    Args:
        labels: All there are.
        camera: Name.
        model: Content hash.
        in_use: The threshold that judges now; it gets a point of its own.
    """
    found = [one for one in labels if (one.camera, one.model) == (camera, model)]
    scored = [one for one in found if one.score is not None]
    good, defect = (
        np.array([one.score for one in scored if one.label == label], np.float64)
        for label in ("good", "defect")
    )
    points: Sequence[OperatingPoint] = operating_points(good, defect, in_use)
    return LabelCounts(
        good=len(good),
        defect=len(defect),
        unscored=len(found) - len(scored),
        false_rejects=sum(one.wrong and one.label == "good" for one in scored),
        misses=sum(one.wrong and one.label == "defect" for one in scored),
        points=[Point(**point.model_dump(exclude={"cost"})) for point in points],
    )


__all__ = [
    "FILE",
    "Label",
    "LabelCounts",
    "LabelDatabase",
    "LabelStore",
    "Labelled",
    "ThresholdChange",
    "Thresholds",
    "changed",
    "misses",
    "summary",
]
