"""What the daemon remembers of a folder's pictures while capture processes come and go."""

from __future__ import annotations

import socket

import pytest

from differnet_runtime.cameras.files import KEYS_PER_MESSAGE, Remembered
from differnet_runtime.capture.messages import Settled
from differnet_runtime.capture.pictures import Pictures, restore


def told(pictures: Pictures) -> Remembered:
    """Returns what a new capture process is told."""
    remembered = Remembered()
    restore(pictures.write(), remembered)
    return remembered


def test_a_new_process_is_told_what_was_read_and_what_is_settled() -> None:
    pictures = Pictures(["a|1|1", "\\xff b|2|2"], ["a|1|1"])
    pictures.given("c|3|3")
    pictures.settle("c|3|3")
    remembered = told(pictures)
    assert remembered.keys == {"a|1|1", "\\xff b|2|2", "c|3|3"}
    assert sorted(remembered.settled) == ["a|1|1", "c|3|3"]
    pictures.forget(("a|1|1",))
    pictures.read_later("c|3|3")
    assert told(pictures).keys == {"\\xff b|2|2"}
    assert Pictures().write() is None


def test_a_process_is_told_some_at_a_time_and_only_when_it_listens() -> None:
    pictures = Pictures()
    keys = [f"{number}|1|1" for number in range(KEYS_PER_MESSAGE + 2)]
    for key in keys:
        pictures.settle(key)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        theirs.setblocking(False)
        got: list[str] = []
        for heard in (False, True):
            pictures.send_settled(ours)
            pictures.send_settled(ours)
            got += Settled.model_validate_json(theirs.recv(65536)).keys
            with pytest.raises(BlockingIOError):
                theirs.recv(65536)
            if not heard:
                pictures.received()
        assert got == keys


def test_what_a_dead_process_was_told_the_next_is_told_again() -> None:
    pictures = Pictures(["a|1|1"])
    pictures.settle("a|1|1")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.close()
    with ours:
        pictures.send_settled(ours)
    assert list(told(pictures).settled) == ["a|1|1"]


def test_those_that_are_gone_are_passed_on() -> None:
    gone: list[str] = []
    Pictures(["a|1|1"], gone=gone.extend).forget(("a|1|1", "b|1|1"))
    assert gone == ["a|1|1", "b|1|1"]
