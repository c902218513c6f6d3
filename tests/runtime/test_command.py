import argparse

import pytest

from differnet_runtime.command import Command, progress
from differnet_runtime.installation import install_line


def command(*modules: str, extra: str | None = "train") -> Command:
    return Command("x", "does x", lambda _: None, lambda _: 0, extra=extra, modules=modules)


def test_missing_names_only_what_is_not_there() -> None:
    assert command("json", "argparse").missing == ()
    assert command("json", "no_such_module", "json.no", "no_such.inner").missing == (
        "no_such_module",
        "json.no",
        "no_such.inner",
    )


def test_the_remedy_names_the_extra() -> None:
    assert command(extra="train").remedy == install_line("train")
    assert command(extra=None).remedy == install_line()


def test_a_command_can_not_be_changed() -> None:
    with pytest.raises(AttributeError):
        command().name = "y"  # type: ignore[misc]
    assert command().run(argparse.Namespace()) == 0


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_passes_every_item_on(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    assert list(progress(iter("abc"), "letters", total=3, unit="letters")) == ["a", "b", "c"]
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "letters" in shown.err
    assert "3" in shown.err


def test_a_log_gets_lines_and_no_carriage_returns(capsys: pytest.CaptureFixture[str]) -> None:
    list(progress(range(5000), "count"))
    shown = capsys.readouterr().err
    assert "\r" not in shown
    assert shown.endswith("\n")
    assert 1 <= len(shown.splitlines()) <= 3
    assert "count: 5000 of 5000" in shown


def test_progress_of_unknown_length_and_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress(iter(range(4)), "stream", unit="frames")) == [0, 1, 2, 3]
    assert list(progress([], "nothing")) == []
    assert "4" in capsys.readouterr().err
