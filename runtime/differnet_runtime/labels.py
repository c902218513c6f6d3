"""What people say about verdicts: labels, and thresholds set on the station, in a database."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import numpy as np
from pydantic import AfterValidator, Field

from .database import DamagedError, connect, mapped, open_or_replace, set_aside, transaction
from .errors import StoreError
from .inspection.operating_points import operating_points
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
"""Kind of a defect, which is also the name of the folder that its pictures are exported to."""
Comment = Annotated[Lines, Field(max_length=LONGEST_COMMENT)]


class Labelled(StrictModel):
    """A labelled picture, with everything that must be known when the picture is gone.

    Args:
        id: Id of the kept picture, and of its event.
        label: What the part really is.
        kind: Kind of the defect; None if not given.
        comment: Comment of that person.
        labelled_at_s: Time of the label, seconds since the epoch.
        labelled_by: Who labelled it, as in the audit trail.
        at_s: Time of the verdict, seconds since the epoch.
        camera: Name of the camera.
        part: Id of the part that came with the trigger.
        first: Id of the event on the part's first frame.
        verdict: Verdict of the station.
        score: Score of the frame; None if there was none.
        threshold: Threshold at that time; None if there was none.
        model: Content hash of the model that judged.
        view: The region of the frame that the model sees, as JSON (`capture_record.View`).
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
        """Whether the station rejected the part."""
        return self.verdict != "GOOD"

    @property
    def wrong(self) -> bool:
        """Whether the verdict was a false reject or a miss."""
        return self.rejected == (self.label == "good")


class ThresholdChange(StrictModel):
    """A threshold that was set on the station.

    Args:
        at_s: Wall clock, seconds since the epoch.
        by: Who set it, as in the audit trail.
        camera: Name of the camera whose verdicts it decides.
        model: Content hash of the model that it is for.
        old: Threshold before; None if there was none.
        new: Threshold from then on.
        configured: The configuration's own threshold at that time. If that is changed later, the
            configuration counts again.
        undone: Whether it was taken back.
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
"""Name of the database in a station's state folder."""

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
    """The database of what people enter, apart from all others, so that no cap deletes from it.

    It is opened when first needed; any thread may use it. A commit survives a power cut.

    Args:
        path: File of the database; a damaged one is set aside, and a new one created.

    Example:
        >>> book = LabelDatabase(state / FILE)  # doctest: +SKIP
        >>> LabelStore(book).set(labelled)  # doctest: +SKIP
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self.problem: str | None = None
        """Why nothing can be stored; None after the last access worked."""

    @contextlib.contextmanager
    def use(self) -> Iterator[sqlite3.Connection]:
        """Yields the connection within one transaction.

        Raises:
            StoreError: It can't be opened, read or written.
        """
        with self._lock:
            try:
                with mapped(self._path):
                    if self._connection is None:
                        open_it = partial(connect, self._path, _SCHEMA, _VERSION, durable=True)
                        self._connection = open_or_replace(self._path, open_it)
                    with transaction(self._connection):
                        yield self._connection
                self.problem = None
            except StoreError as error:
                self.problem = str(error)
                if isinstance(error, DamagedError):
                    self._close()
                    with contextlib.suppress(StoreError):
                        set_aside(self._path)
                raise

    def execute(self, query: str, *values: object) -> list[tuple[object, ...]]:
        """Executes a statement in a transaction of its own; returns the rows that it gives.

        Raises:
            StoreError: It can't be opened, read or written.
        """
        with self.use() as connection:
            return connection.execute(query, values).fetchall()

    def close(self) -> None:
        """Closes the database."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _columns(record: type[StrictModel]) -> tuple[str, str]:
    """Returns the columns of a table that are a record's fields, and placeholders for them."""
    fields = tuple(record.model_fields)
    return ", ".join(fields), ", ".join("?" * len(fields))


_CHANGE_COLUMNS, _CHANGE_PLACES = _columns(ThresholdChange)
_ADD = f"INSERT INTO threshold ({_CHANGE_COLUMNS}) VALUES ({_CHANGE_PLACES})"  # noqa: S608 - no value is in it
_LIST = f"SELECT {_CHANGE_COLUMNS} FROM threshold ORDER BY row"  # noqa: S608 - likewise
_UNDO = """
UPDATE threshold SET undone = 1 WHERE row =
(SELECT max(row) FROM threshold WHERE camera = ? AND model = ? AND NOT undone)
"""

log = logging.getLogger(__name__)
R = TypeVar("R", bound=StrictModel)


class Thresholds:
    """Thresholds that were set on a station, by camera and model; model files stay untouched.

    Args:
        book: Database of the station.
    """

    def __init__(self, book: LabelDatabase) -> None:
        self._book = book
        self.set_here: Mapping[tuple[str, str, float | None], float] = {}
        """The thresholds that apply, by camera, content hash of the model, and the configuration's
        own threshold, beside which they were set; for others the configuration or the model
        decides."""
        try:
            self._read()
        except StoreError as error:
            log.warning("thresholds that were set on this station are not used: %s", error)

    def threshold(self, camera: str, model: str, configured: float | None) -> float | None:
        """Returns the threshold that replaces the model's own; None to use the model's."""
        return self.set_here.get((camera, model, configured), configured)

    def set(self, change: ThresholdChange) -> None:
        """Stores a change, which applies from the next frame on.

        Raises:
            StoreError: It can't be written; nothing changes.
        """
        self._book.execute(_ADD, *change.model_dump().values())
        self._read()

    def undo(self, camera: str, model: str) -> None:
        """Takes back the latest change of a camera and a model; the one before applies again.

        Raises:
            StoreError: It can't be written; nothing changes.
        """
        self._book.execute(_UNDO, camera, model)
        self._read()

    def history(self, camera: str) -> list[ThresholdChange]:
        """Returns the changes of a camera, latest first.

        Raises:
            StoreError: They can't be read.
        """
        return [change for change in reversed(self._read()) if change.camera == camera]

    def _read(self) -> list[ThresholdChange]:
        with self._book.use() as connection:
            changes = [_record(ThresholdChange, row) for row in connection.execute(_LIST)]
            # Within the transaction: an earlier reading must not take the place of a later one.
            latest = {(one.camera, one.model): one for one in changes if not one.undone}
            self.set_here = {(*key, one.configured): one.new for key, one in latest.items()}
        return changes


_LABEL_COLUMNS, _LABEL_PLACES = _columns(Labelled)
_SET = f"INSERT OR REPLACE INTO label ({_LABEL_COLUMNS}) VALUES ({_LABEL_PLACES})"  # noqa: S608 - no value is in it
LIST = f"SELECT {_LABEL_COLUMNS} FROM label ORDER BY labelled_at_s DESC, id"  # noqa: S608 - likewise
_FIND = f"SELECT {_LABEL_COLUMNS} FROM label WHERE id = ?"  # noqa: S608 - likewise


class LabelStore:
    """The labels of a station, one row per picture.

    Args:
        book: Database of the station.
    """

    def __init__(self, book: LabelDatabase) -> None:
        self._book = book

    def set(self, labelled: Labelled) -> None:
        """Stores a label in place of an earlier one of the same picture.

        Raises:
            StoreError: It can't be written.
        """
        self._book.execute(_SET, *labelled.model_dump().values())

    def remove(self, id_: str) -> None:
        """Removes a label.

        Raises:
            StoreError: It can't be written.
        """
        self._book.execute("DELETE FROM label WHERE id = ?", id_)

    def find(self, id_: str) -> Labelled | None:
        """Returns the label of a picture.

        Raises:
            StoreError: It can't be read.
        """
        rows = self._book.execute(_FIND, id_)
        return _record(Labelled, rows[0]) if rows else None

    def all(self) -> list[Labelled]:
        """Returns every label, latest first.

        Raises:
            StoreError: They can't be read.
        """
        return [_record(Labelled, row) for row in self._book.execute(LIST)]

    def ids(self) -> list[str]:
        """Returns the id of every labelled picture.

        Raises:
            StoreError: They can't be read.
        """
        return [str(id_) for (id_,) in self._book.execute("SELECT id FROM label")]


def _record(kind: type[R], row: tuple[object, ...]) -> R:
    return kind.model_validate(dict(zip(kind.model_fields, row, strict=True)))


class Point(StrictModel):
    """A threshold, and what it would do to the labelled parts; see `OperatingPoint`."""

    threshold: float
    false_rejects: int
    misses: int


class LabelCounts(StrictModel):
    """What the labels of one camera say about one model.

    Args:
        good: Number of parts labelled good with a score by this model.
        defect: Number of parts labelled defective with a score by this model.
        unscored: Number of labelled parts without a score, since they had no decision.
        false_rejects: Number of good parts that were rejected.
        misses: Number of defective parts that were judged good.
        points: What each threshold that changes a verdict would have done, lowest first.
    """

    good: int
    defect: int
    unscored: int
    false_rejects: int
    misses: int
    points: list[Point]


def misses(labels: Iterable[Labelled], camera: str, model: str, threshold: float) -> int:
    """Returns the number of labelled defects of a camera that a threshold lets pass."""
    return sum(
        one.label == "defect" and one.score is not None and one.score <= threshold
        for one in labels
        if (one.camera, one.model) == (camera, model)
    )


def summary(
    labels: Iterable[Labelled], camera: str, model: str, in_use: float | None
) -> LabelCounts:
    """Summarises the labels on a camera's verdicts by a model.

    Args:
        labels: All labels of the station.
        camera: Name of the camera.
        model: Content hash of the model.
        in_use: Threshold that judges now, which gets a point of its own; None without one.
    """
    found = [one for one in labels if (one.camera, one.model) == (camera, model)]
    scored = [one for one in found if one.score is not None]
    good, defect = (
        np.array([one.score for one in scored if one.label == label], np.float64)
        for label in ("good", "defect")
    )
    points = operating_points(good, defect, in_use)
    return LabelCounts(
        good=len(good),
        defect=len(defect),
        unscored=len(found) - len(scored),
        false_rejects=sum(one.wrong and one.label == "good" for one in scored),
        misses=sum(one.wrong and one.label == "defect" for one in scored),
        points=[Point(**point.model_dump(exclude={"cost"})) for point in points],
    )
