"""Thresholds that were set on the station: who, when, old, new; each can be undone."""

from __future__ import annotations

import logging
import time

from ..errors import StoreError
from .book import Book
from .records import ThresholdChange

_FIELDS = tuple(ThresholdChange.model_fields)
_COLUMNS = ", ".join(_FIELDS)
_ADD = (
    f"INSERT INTO threshold ({_COLUMNS}) "  # noqa: S608 - no value is in it
    f"VALUES ({', '.join('?' * len(_FIELDS))})"
)
_LIST = f"SELECT {_COLUMNS} FROM threshold ORDER BY row"  # noqa: S608 - likewise
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

    def __init__(self, book: Book) -> None:
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
                ThresholdChange.model_validate(dict(zip(_FIELDS, row, strict=True))) for row in rows
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
