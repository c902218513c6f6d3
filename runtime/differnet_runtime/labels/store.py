"""Labels: a row a picture, committed before the person is answered."""

from __future__ import annotations

from .book import Book
from .records import Labelled

_FIELDS = tuple(Labelled.model_fields)
_COLUMNS = ", ".join(_FIELDS)
_SET = (
    f"INSERT OR REPLACE INTO label ({_COLUMNS}) "  # noqa: S608 - no value is in it
    f"VALUES ({', '.join('?' * len(_FIELDS))})"
)
LIST = f"SELECT {_COLUMNS} FROM label ORDER BY labelled_at_s DESC, id"  # noqa: S608 - likewise


class Labels:
    """The labels of one station.

    Args:
        book: The database.
    """

    def __init__(self, book: Book) -> None:
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
            query = f"SELECT {_COLUMNS} FROM label WHERE id = ?"  # noqa: S608 - no value is in it
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
    return Labelled.model_validate(dict(zip(_FIELDS, row, strict=True)))
