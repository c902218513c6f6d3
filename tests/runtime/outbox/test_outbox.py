"""The outbox: order, cursors, caps, damage."""

import contextlib
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from differnet_runtime.config import EventsConfig
from differnet_runtime.events import EVENT, FrameRef, InspectionEvent, StateEvent
from differnet_runtime.outbox.outbox import Outbox
from differnet_runtime.sinks import Stored
from tests.runtime.waiting import wait_for

Make = Callable[..., Outbox]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Returns a function that opens the outbox of a folder, for sinks by name."""
    made: list[Outbox] = []

    def make(*sinks: str, **config: object) -> Outbox:
        for outbox in made:
            outbox.stop()
        outbox = Outbox(tmp_path / "outbox.sqlite", EventsConfig.model_validate(config))
        outbox.use_sinks(sinks)
        outbox.start()
        made.append(outbox)
        return outbox

    yield make
    for outbox in made:
        outbox.stop()


def state(number: int) -> StateEvent:
    return StateEvent(station="line", component="station", state=str(number))


def add(outbox: Outbox, numbers: range) -> None:
    before = outbox.status.committed
    for number in numbers:
        outbox.add(state(number))
    wait_for(lambda: outbox.status.committed == before + len(numbers))


def numbers(outbox: Outbox, sink: str, limit: int = 10_000) -> list[int]:
    return [int(json.loads(stored.text)["state"]) for stored in outbox.batch(sink, limit)]


def row(number: int) -> Stored:
    """The event of a row, in the first table that an outbox has opened."""
    return Stored(number, "", "", table=1)


def test_events_come_in_order_and_whole(make: Make) -> None:
    outbox = make("mqtt")
    event = InspectionEvent(
        station="line", camera="top", verdict="GOOD", reject=False, score=1.5, part="p-7"
    )
    outbox.add(event)
    wait_for(lambda: outbox.status.committed == 1)
    add(outbox, range(1, 1000))
    [first, *rest] = outbox.batch("mqtt", 5000)
    assert EVENT.validate_json(first.text) == event
    assert first.id == event.id
    assert [stored.row for stored in rest] == list(range(2, 1001))


def test_each_sink_goes_at_its_own_pace(make: Make) -> None:
    outbox = make("mqtt", "jsonl")
    add(outbox, range(10))
    outbox.delivered("mqtt", outbox.batch("mqtt", 4)[-1])
    assert numbers(outbox, "mqtt") == [4, 5, 6, 7, 8, 9]
    assert numbers(outbox, "jsonl", 2) == [0, 1]
    assert outbox.status.pending == {"mqtt": 6, "jsonl": 10}


def test_all_of_it_outlives_a_restart(make: Make) -> None:
    outbox = make("mqtt")
    add(outbox, range(10))
    outbox.delivered("mqtt", row(7))
    assert numbers(make("mqtt"), "mqtt") == [7, 8, 9]


def test_what_waits_is_written_at_the_stop(make: Make) -> None:
    outbox = make("mqtt")
    for number in range(5000):
        outbox.add(state(number))
    assert len(make("mqtt").batch("mqtt", 10_000)) == 5000


def test_what_was_flushed_is_on_disk(make: Make, tmp_path: Path) -> None:
    outbox = make("mqtt")
    for count in range(1, 4):
        outbox.add(state(count))
        assert outbox.flush(20.0)
        with contextlib.closing(sqlite3.connect(tmp_path / "outbox.sqlite")) as database:
            assert database.execute("SELECT count(*) FROM event").fetchone() == (count,)


def test_a_flush_says_so_where_the_disk_takes_nothing(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.sqlite", EventsConfig())  # nobody writes
    outbox.use_sinks(["mqtt"])
    assert outbox.flush(0.0)
    outbox.add(state(1))
    assert not outbox.flush(0.01)
    outbox.stop()


def test_a_mark_never_goes_back(make: Make) -> None:
    outbox = make("mqtt")
    add(outbox, range(10))
    outbox.delivered("mqtt", row(7))
    outbox.delivered("mqtt", row(3))
    outbox.delivered("nobody", row(3))
    assert numbers(outbox, "mqtt") == [7, 8, 9]


def test_rows_go_when_every_sink_has_them(make: Make, tmp_path: Path) -> None:
    outbox = make("mqtt", "jsonl")
    add(outbox, range(20))
    outbox.delivered("mqtt", row(20))
    outbox.delivered("jsonl", row(5))
    wait_for(lambda: rows(tmp_path) == 15)
    assert numbers(outbox, "jsonl") == list(range(5, 20))
    wait_for(lambda: outbox.status.oldest_age_s is not None)
    outbox.delivered("jsonl", row(20))
    wait_for(lambda: rows(tmp_path) == 0)
    wait_for(lambda: outbox.status.oldest_age_s is None)
    assert outbox.status.dropped == 0
    add(outbox, range(20, 22))
    assert [stored.row for stored in outbox.batch("mqtt", 5)] == [21, 22]  # no number comes twice


def rows(folder: Path) -> int:
    connection = sqlite3.connect(folder / "outbox.sqlite")
    try:
        return int(connection.execute("SELECT count(*) FROM event").fetchone()[0])
    finally:
        connection.close()


def test_a_removed_sink_holds_nothing_back_and_a_new_one_begins_now(
    make: Make, tmp_path: Path
) -> None:
    outbox = make("gone", "mqtt")
    add(outbox, range(10))
    outbox.delivered("mqtt", row(10))
    outbox.use_sinks(["mqtt", "new"])
    add(outbox, range(10, 13))
    wait_for(lambda: rows(tmp_path) == 3)
    assert numbers(outbox, "new") == numbers(outbox, "mqtt") == [10, 11, 12]
    assert outbox.batch("gone", 10) == []
    assert set(outbox.status.pending) == {"mqtt", "new"}


def test_cursors_wait_for_the_sinks_to_be_named(make: Make, tmp_path: Path) -> None:
    add(make("mqtt"), range(5))
    outbox = Outbox(tmp_path / "outbox.sqlite", EventsConfig())
    outbox.start()
    add(outbox, range(5, 8))
    outbox.use_sinks(["mqtt"])
    outbox.stop()
    assert numbers(make("mqtt"), "mqtt") == list(range(8))


def test_without_a_sink_nothing_is_stored(make: Make, tmp_path: Path) -> None:
    outbox = make()
    outbox.add(state(1))
    outbox.stop()
    assert rows(tmp_path) == 0


def test_caps_drop_the_oldest_and_count_them(make: Make, tmp_path: Path) -> None:
    outbox = make("mqtt", max_events=100)
    add(outbox, range(250))
    wait_for(lambda: outbox.status.dropped == 150)
    assert numbers(outbox, "mqtt") == list(range(150, 250))
    assert outbox.status.pending == {"mqtt": 100}
    outbox.config = EventsConfig(max_age_days=0.5 / 86400)
    time.sleep(0.6)
    wait_for(lambda: rows(tmp_path) == 0)
    wait_for(lambda: outbox.status.dropped == 250)
    start = time.monotonic()
    outbox.wait("mqtt", 0.5, threading.Event())  # there is nothing to be had
    assert time.monotonic() - start > 0.4


def test_a_leap_of_the_clock_deletes_nothing(make: Make) -> None:
    outbox = make("mqtt", max_age_days=1)
    for number, at_s in enumerate((0.0, 4e9, 1.0)):
        outbox.add(StateEvent(station="line", component="engine", state=str(number), at_s=at_s))
    time.sleep(1.5)  # longer than until the next tidying
    assert numbers(outbox, "mqtt") == [0, 1, 2]


def test_only_rejects(make: Make) -> None:
    outbox = make("mqtt", publish="rejects")
    for verdict in ("GOOD", "DEFECT", "NO_DECISION"):
        reject = verdict != "GOOD"
        outbox.add(InspectionEvent(station="a", camera="b", verdict=verdict, reject=reject))
    outbox.add(state(1))
    wait_for(lambda: outbox.status.committed == 3)


def test_a_name_that_is_no_unicode_is_no_reason_to_fail(make: Make) -> None:
    outbox = make("mqtt")
    frame = FrameRef(name="a\udcff.png", index=0, captured_at_s=1, age_ms=1, width=1, height=1)
    outbox.add(InspectionEvent(station="a", camera="b", verdict="GOOD", reject=False, frame=frame))
    wait_for(lambda: outbox.status.committed == 1)
    [stored] = outbox.batch("mqtt", 1)
    assert json.loads(stored.text)["frame"]["name"] == "a\\xff.png"


@pytest.mark.parametrize("damage", ["garbage", "torn", "newer"])
def test_a_damaged_database_is_set_aside(make: Make, tmp_path: Path, damage: str) -> None:
    add(make("mqtt"), range(2000))
    make("mqtt").stop()
    path = tmp_path / "outbox.sqlite"
    data = bytearray(path.read_bytes())
    if damage == "garbage":
        path.write_bytes(b"\7" * len(data))
    elif damage == "torn":  # found only when those rows are read
        data[4096:-4096] = b"\7" * (len(data) - 8192)
        path.write_bytes(data)
    else:
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA user_version = 99")
        connection.close()
    outbox = make("mqtt")
    outbox.batch("mqtt", 10_000)
    wait_for(lambda: len(list(tmp_path.glob("outbox.sqlite.damaged-*[0-9]"))) == 1)
    add(outbox, range(7, 9))
    wait_for(lambda: outbox.status.problem is None)
    assert numbers(outbox, "mqtt")[-2:] == [7, 8]


def test_a_late_word_on_a_damaged_table_says_nothing_of_the_new_one(
    make: Make, tmp_path: Path
) -> None:
    outbox = make("mqtt")
    add(outbox, range(2000))
    slow = outbox.batch("mqtt", 100)
    for name in ("outbox.sqlite", "outbox.sqlite-wal"):
        path = tmp_path / name
        with path.open("r+b") as file:
            file.write(b"\7" * path.stat().st_size)
    outbox.batch("mqtt", 10_000)
    wait_for(lambda: len(list(tmp_path.glob("outbox.sqlite.damaged-*[0-9]"))) == 1)
    add(outbox, range(2000, 2050))
    outbox.delivered("mqtt", slow[-1])
    assert numbers(outbox, "mqtt") == list(range(2000, 2050))
    outbox.delivered("mqtt", outbox.batch("mqtt", 10)[-1])
    assert numbers(outbox, "mqtt") == list(range(2010, 2050))


def test_a_folder_that_can_not_be_made_is_a_problem_and_no_crash(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    outbox = Outbox(tmp_path / "state" / "outbox.sqlite", EventsConfig())
    outbox.use_sinks(["mqtt"])
    outbox.start()
    try:
        outbox.add(state(1))
        wait_for(lambda: outbox.status.problem is not None)
        assert outbox.batch("mqtt", 1) == []
        assert outbox.status.waiting_in_memory == 1
        (tmp_path / "state").unlink()
        wait_for(lambda: outbox.status.committed == 1)
        assert numbers(outbox, "mqtt") == [1]
    finally:
        outbox.stop()
