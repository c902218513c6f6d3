"""When a picture counts as complete: on the word of its writer, or after some quiet."""

from __future__ import annotations

import pytest

from differnet_runtime.cameras.arrivals import OPEN_S, QUIET_S, SETTLE_S, Arrivals


def arrived(name: str = "a.png", stamp: int = 5) -> Arrivals:
    arrivals = Arrivals()
    arrivals.see(name, "one", stamp, 100.0)
    return arrivals


def due_at(arrivals: Arrivals, since_s: float = 100.0) -> float:
    """Returns after how many seconds the only file counts as complete."""
    for tenths in range(10_000):
        if arrivals.due(since_s + tenths / 10 + 1e-6):
            return tenths / 10
    raise AssertionError("never")


def test_a_file_that_was_closed_is_complete_at_once() -> None:
    arrivals = arrived()
    arrivals.complete("a.png", 100.0)
    assert due_at(arrivals) == pytest.approx(SETTLE_S)


def test_without_a_word_it_waits_for_quiet() -> None:
    assert due_at(arrived()) == QUIET_S


def test_a_file_that_is_held_open_is_waited_for() -> None:
    arrivals = arrived()
    arrivals.begin("a.png")
    for moment in range(1, 20):  # its writer pauses for longer than the usual quiet
        arrivals.see("a.png", f"{moment}", 5 + moment, 100.0 + 1.5 * QUIET_S * moment)
        assert not arrivals.due(100.0 + 1.5 * QUIET_S * (moment + 1) - 0.1)
    arrivals.complete("a.png", 300.0)
    assert due_at(arrivals, 300.0) == pytest.approx(SETTLE_S)


def test_a_writer_that_never_closes_does_not_hide_a_file_for_ever() -> None:
    arrivals = arrived()
    arrivals.begin("a.png")
    assert due_at(arrivals) == OPEN_S


def test_a_change_after_the_close_begins_the_wait_again() -> None:
    arrivals = arrived()
    arrivals.complete("a.png", 100.0)
    arrivals.see("a.png", "two", 6, 101.0)
    assert due_at(arrivals, 101.0) == QUIET_S


def test_a_time_that_a_copying_program_sets_is_no_writing() -> None:
    arrivals = arrived()
    arrivals.complete("a.png", 100.0)
    arrivals.see("a.png", "two", 1, 100.05)
    assert due_at(arrivals, 100.05) == pytest.approx(SETTLE_S)


def test_what_is_old_already_waits_no_longer() -> None:
    arrivals = Arrivals()
    arrivals.see("a.png", "one", 5, 100.0, age_s=QUIET_S)
    assert arrivals.due(100.0) == ["a.png"]


def test_each_comes_once_the_oldest_first() -> None:
    arrivals = arrived("b.png", 5)
    arrivals.see("a.png", "x", 9, 100.0)
    arrivals.see("c.png", "y", 5, 100.0)
    assert arrivals.due(200.0) == ["b.png", "c.png", "a.png"]
    assert not arrivals.due(300.0)
    arrivals.see("b.png", "one", 5, 300.0)
    assert not arrivals.due(400.0)


def test_one_that_can_not_be_decoded_is_waited_for_once_more() -> None:
    arrivals = arrived()
    arrivals.complete("a.png", 100.0)
    assert arrivals.due(101.0)
    assert arrivals.doubt("a.png", 101.0)
    assert due_at(arrivals, 101.0) == 3.0
    assert not arrivals.doubt("a.png", 104.0)


def test_after_a_picture_was_given_up_too_early_others_are_waited_for_longer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    arrivals, now_s = Arrivals(), 100.0
    waits = []
    for key in ("one", "two", "three"):
        arrivals.see("a.png", key, 5, now_s)
        arrivals.complete("a.png", now_s)
        arrivals.due(now_s + 1)
        assert arrivals.doubt("a.png", now_s)
        waits.append(due_at(arrivals, now_s))
        assert not arrivals.doubt("a.png", now_s + waits[-1])
        arrivals.drop("a.png")
        now_s += 100.0
    assert waits == [3.0, 6.0, 12.0]
    assert "renamed when they are complete" in caplog.text


def test_one_that_is_gone_is_forgotten() -> None:
    arrivals = arrived()
    arrivals.see("b.png", "x", 9, 100.0)
    arrivals.keep({"b.png"})
    assert arrivals.due(200.0) == ["b.png"]
    assert len(arrivals) == 1
