"""The one printer of tables."""

from __future__ import annotations

import io

import pytest

from differnet_runtime.text import coloured, table


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_columns_are_as_wide_as_their_widest_cell_and_lines_have_no_blanks_at_the_end() -> None:
    assert table([("a", "bb", "c"), ("aaa", "b", "")]) == "a    bb  c\naaa  b"


def test_numbers_are_aligned_to_the_right_and_columns_have_a_least_width() -> None:
    rows = [("name", "ms"), ("x", "1.25")]
    assert table(rows, least=(6,), right={1}) == "name      ms\nx       1.25"


def test_a_long_last_cell_is_wrapped_below_itself() -> None:
    shown = table([("no", "this reason is longer than a line"), ("ok", "")], wrap=26)
    assert shown.splitlines() == ["no  this reason is longer", "    than a line", "ok"]


def test_a_coloured_cell_takes_no_more_room(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    red = coloured("WRONG", "bad", Terminal())
    shown = table([(red, "x"), ("ok", "y")])
    assert red != "WRONG"
    assert shown.replace(red, "WRONG") == "WRONG  x\nok     y"


def test_nothing_is_no_table() -> None:
    assert table([]) == ""
