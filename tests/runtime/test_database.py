"""Databases: opened or named as damaged, changed whole or not at all; a clock that never leaps."""

import sqlite3
import time
from pathlib import Path

import pytest

from differnet_runtime.database import (
    DamagedError,
    Database,
    FullError,
    connect,
    mapped,
    set_aside,
    size,
    transaction,
)
from differnet_runtime.errors import StoreError

SCHEMA = "CREATE TABLE thing (name TEXT UNIQUE); CREATE TABLE other (number INTEGER)"


def open_at(path: Path, version: int = 1) -> sqlite3.Connection:
    return connect(path, SCHEMA, version, durable=True)


def names(path: Path) -> list[str]:
    connection = open_at(path)
    try:
        return [name for (name,) in connection.execute("SELECT name FROM thing ORDER BY name")]
    finally:
        connection.close()


def test_it_is_made_once_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "new" / "things.sqlite"
    connection = open_at(path)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    with transaction(connection):
        connection.execute("INSERT INTO thing VALUES ('a')")
    assert size(path) > 0
    connection.close()
    assert names(path) == ["a"]


def test_a_transaction_is_whole_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "things.sqlite"
    connection = open_at(path)
    with pytest.raises(StoreError, match="UNIQUE"), mapped(path), transaction(connection):
        connection.executemany("INSERT INTO thing VALUES (?)", [("a",), ("a",)])
    connection.close()
    assert names(path) == []


@pytest.mark.parametrize("content", [b"\7" * 8192, b"no database at all" * 1000])
def test_what_is_no_database_is_damaged_and_set_aside(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "things.sqlite"
    path.write_bytes(content)
    with pytest.raises(DamagedError, match=r"things\.sqlite"):
        open_at(path)
    aside = set_aside(path)
    assert aside.read_bytes() == content
    assert names(path) == []


def test_another_version_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "things.sqlite"
    open_at(path, 7).close()
    with pytest.raises(DamagedError, match="7, not 1"):
        open_at(path)


def test_a_full_database_is_told_from_a_damaged_one(tmp_path: Path) -> None:
    path = tmp_path / "things.sqlite"
    connection = open_at(path)
    connection.execute("PRAGMA max_page_count = 5")
    with pytest.raises(FullError, match="make room"), mapped(path), transaction(connection):
        connection.executemany(
            "INSERT INTO thing VALUES (?)", [(f"{number}" * 500,) for number in range(100)]
        )
    connection.close()
    assert names(path) == []


def test_a_folder_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file") as raised:
        open_at(tmp_path / "file" / "things.sqlite")
    assert not isinstance(raised.value, DamagedError)


def test_the_clock_counts_on_whatever_the_wall_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = "CREATE TABLE clock (seconds REAL NOT NULL); INSERT INTO clock VALUES (100)"
    path = tmp_path / "things.sqlite"
    database = Database(path, schema, 1, durable=True)
    monkeypatch.setattr(time, "time", lambda: 4e9)
    assert 100.0 <= database.now_s() < 110.0
    with database.writing() as writer:
        writer.execute("UPDATE clock SET seconds = ?", (stopped_s := database.now_s(),))
    database.close()
    again = Database(path, schema, 1, "CREATE TABLE IF NOT EXISTS later (n); ", durable=True)
    assert again.now_s() >= stopped_s
    assert again.read("SELECT count(*) FROM later") == [(0,)]
    again.close()
