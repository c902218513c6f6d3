import argparse
import threading
from collections.abc import Callable

import pytest

from differnet_runtime import command as command_module
from differnet_runtime.command import Command, progress, step
from differnet_runtime.installation import advice
from tests.runtime.waiting import wait_for


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
    assert command(extra="train").remedy == advice("train")
    assert command(extra=None).remedy == advice("")


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


@pytest.fixture
def lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[], list[str]]:
    """What was said so far, with lines a hundredth of a second apart."""
    monkeypatch.setattr(command_module, "_LOG_INTERVAL_S", 0.01)
    said: list[str] = []

    def read() -> list[str]:
        said.extend(capsys.readouterr().err.splitlines())
        return said

    return read


def test_a_log_goes_on_while_one_item_takes_long(lines: Callable[[], list[str]]) -> None:
    for item in progress("ab", "letters"):
        done = f"letters: {'ab'.index(item)} of 2"
        wait_for(lambda done=done: sum(line.startswith(done) for line in lines()) >= 3)


def test_a_step_says_that_it_goes_on_and_is_silent_while_another_does(
    lines: Callable[[], list[str]],
) -> None:
    with step("outer"):
        wait_for(lambda: any(line == "outer: 0 s so far" for line in lines()))
        with step("inner"):
            wait_for(lambda: "inner: 0 s so far" in lines())
            before = lines().count("outer: 0 s so far")
            wait_for(lambda: lines().count("inner: 0 s so far") >= 5)
            assert lines().count("outer: 0 s so far") == before
        wait_for(lambda: lines().count("outer: 0 s so far") > before)
    assert not [one for one in threading.enumerate() if one.name == "progress"]


def test_a_quick_step_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with step("quick"):
        pass
    assert capsys.readouterr().err == ""


def test_progress_that_is_left_early_ends_its_thread() -> None:
    items = progress(range(3), "count")
    assert next(items) == 0
    assert [one for one in threading.enumerate() if one.name == "progress"]
    del items
    wait_for(lambda: not [one for one in threading.enumerate() if one.name == "progress"])
