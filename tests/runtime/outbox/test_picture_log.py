"""What was judged of a folder: committed with its event, once, and known after a restart."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from differnet_runtime.config import EventsConfig
from differnet_runtime.database import read_rows
from differnet_runtime.events import InspectionEvent
from differnet_runtime.outbox import table as pictures
from differnet_runtime.outbox.outbox import Outbox, PictureLog
from differnet_runtime.outbox.table import JudgedPicture
from differnet_runtime.records import Origin
from tests.runtime.waiting import wait_for

Make = Callable[..., Outbox]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Returns a function that opens the outbox of a folder, for sinks by name."""
    made: list[Outbox] = []

    def make(*sinks: str, publish: str = "all", started: bool = True) -> Outbox:
        for outbox in made:
            outbox.stop()
        config = EventsConfig.model_validate({"publish": publish})
        made.append(Outbox(tmp_path / "outbox.sqlite", config))
        made[-1].use_sinks(sinks)
        if started:
            made[-1].start()
        return made[-1]

    yield make
    for outbox in made:
        outbox.stop()


def event(name: str, verdict: str = "GOOD") -> InspectionEvent:
    return InspectionEvent.model_validate(
        {"station": "line", "camera": "top", "verdict": verdict, "reject": verdict != "GOOD"}
        | {"id": name}
    )


def origin(name: str, digest: str = "d1") -> Origin:
    return Origin(name, f"{name}|7|8", digest)


def judge(outbox: Outbox, *origins: Origin, source: str = "/in", verdict: str = "GOOD") -> None:
    """Has pictures judged, and waits until that is on disk."""
    committed: list[Origin] = []
    for one in origins:
        entry = JudgedPicture("top", source, one, verdict, partial(committed.append, one))
        outbox.add(event(one.name, verdict), entry)
    wait_for(lambda: committed == list(origins))


def ids(outbox: Outbox) -> list[str]:
    return [stored.id for stored in outbox.batch("jsonl", 100)]


def test_what_was_judged_is_known_after_a_restart(make: Make) -> None:
    judge(make("jsonl"), origin("a"), origin("b"))
    judge(make("jsonl"), origin("c"), verdict="DEFECT")
    log = PictureLog(make("jsonl"), "top", "/in")
    assert log.judged() == {"a|7|8": "GOOD", "b|7|8": "GOOD", "c|7|8": "DEFECT"}
    assert not PictureLog(make("jsonl"), "top", "/elsewhere").judged()
    assert not PictureLog(make("jsonl"), "side", "/in").judged()


def test_a_repetition_makes_no_second_event(make: Make) -> None:
    outbox = make("jsonl")
    judge(outbox, origin("a"), origin("a"))
    judge(outbox, origin("a"), origin("b"))
    assert ids(outbox) == ["a", "b"]
    assert outbox.status.committed == 2


def test_a_picture_that_was_gone_and_is_back_is_judged_again(make: Make) -> None:
    outbox = make("jsonl")
    judge(outbox, origin("a"), origin("b"))
    log = PictureLog(outbox, "top", "/in")
    log.forget(("a|7|8",))
    judge(outbox, origin("c"))
    assert set(log.judged()) == {"b|7|8", "c|7|8"}
    judge(outbox, origin("a"))
    assert ids(outbox) == ["a", "b", "c", "a"]


@pytest.mark.parametrize(("sinks", "publish"), [((), "all"), (("jsonl",), "rejects")])
def test_it_is_remembered_though_nobody_gets_its_event(
    sinks: tuple[str, ...], publish: str, make: Make
) -> None:
    outbox = make(*sinks, publish=publish)
    judge(outbox, origin("a"))
    assert PictureLog(outbox, "top", "/in").judged() == {"a|7|8": "GOOD"}
    assert not ids(outbox)


def test_the_same_content_is_found_on_disk_and_on_its_way(make: Make) -> None:
    judge(make("jsonl"), origin("a", "d1"), origin("b", "d1"), origin("c", "d2"))
    outbox = make("jsonl", started=False)
    log = PictureLog(outbox, "top", "/in")
    assert log.identical(origin("z", "d1")) == "b"
    assert log.identical(origin("c", "d2")) is None  # itself
    assert PictureLog(outbox, "top", "/elsewhere").identical(origin("c", "d2")) == "c"
    assert PictureLog(outbox, "side", "/in").identical(origin("z", "d1")) is None
    outbox.add(event("y"), JudgedPicture("top", log.source, origin("y", "d3"), "GOOD"))
    assert log.identical(origin("z", "d3")) == "y"
    assert log.identical(origin("y", "d3")) is None
    assert log.identical(origin("z", "")) is None


def test_whoever_can_wait_is_told_to_while_nothing_is_written(make: Make) -> None:
    outbox = make("jsonl", started=False)
    log = PictureLog(outbox, "top", "/in")
    while log.outbox.has_room:
        outbox.add(event("a"))
        assert outbox.status.waiting_in_memory < 5000
    outbox.start()
    wait_for(lambda: log.outbox.has_room)


def test_the_table_is_bounded(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MOST_GONE", 5)
    monkeypatch.setattr(pictures, "MOST", 12)
    monkeypatch.setattr(pictures, "_PRUNE_EVERY", 1)
    outbox = make("jsonl")
    log = PictureLog(outbox, "top", "/in")
    judge(outbox, *(origin(f"{number:02d}") for number in range(10)))
    log.forget(tuple(f"{number:02d}|7|8" for number in range(8)))
    judge(outbox, origin("10", "new"))
    assert set(log.judged()) == {"08|7|8", "09|7|8", "10|7|8"}
    gone = read_rows(tmp_path / "outbox.sqlite", "SELECT key FROM judged WHERE NOT present")
    assert len(list(gone)) == 5
    judge(outbox, *(origin(f"{number:02d}") for number in range(11, 30)))
    assert len(log.judged()) == 12


def test_a_database_of_before_takes_pictures(make: Make, tmp_path: Path) -> None:
    outbox = make("jsonl")
    outbox.add(event("old"))
    wait_for(lambda: outbox.status.committed == 1)
    outbox.stop()
    with closing(sqlite3.connect(tmp_path / "outbox.sqlite")) as before:
        before.execute("DROP TABLE judged")
    outbox = make("jsonl")
    judge(outbox, origin("a"))
    assert ids(outbox) == ["old", "a"]
    assert not list(tmp_path.glob("*.damaged-*"))
    assert json.loads(outbox.batch("jsonl", 1)[0].text)["id"] == "old"
