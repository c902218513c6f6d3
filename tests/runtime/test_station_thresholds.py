"""Thresholds that were set on the station, asked for and changed at the same time."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from differnet_runtime.labels import LabelDatabase, ThresholdChange, Thresholds


class Interrupted(LabelDatabase):
    """Does something else right after its next transaction."""

    then: Callable[[], None] | None = None

    @contextlib.contextmanager
    def use(self) -> Iterator[sqlite3.Connection]:
        with super().use() as connection:
            yield connection
        then, self.then = self.then, None
        if then is not None:
            then()


def test_a_threshold_that_is_set_while_the_page_asks_for_the_history_counts(
    tmp_path: Path,
) -> None:
    book = Interrupted(tmp_path / "labels.sqlite")
    thresholds = Thresholds(book)
    change = ThresholdChange(
        at_s=1.0, by="page", camera="top", model="a" * 64, old=None, new=3.0, configured=None
    )
    book.then = lambda: thresholds.set(change)
    thresholds.history("top")
    assert thresholds.threshold("top", "a" * 64, None) == 3.0
