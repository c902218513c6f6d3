"""Runs outbox and evidence on a disk that is really full; prints what it saw, as JSON.

Argument: a folder on a small file system of its own. Run by test_disk.py below `unshare -m`.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from differnet_runtime.config import EventsConfig, EvidenceConfig
from differnet_runtime.events import InspectionEvent, StateEvent
from differnet_runtime.evidence.store import EvidenceStore
from differnet_runtime.outbox.outbox import Outbox

MEMORY = 10_000
ROOM_MADE = 10
"""Pictures that must have given way to others."""
RANDOM = np.random.default_rng(7)


def wait_for(condition: Callable[[], bool], what: str, within_s: float = 30.0) -> None:
    until = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.01)


def fill(path: Path) -> None:
    """Takes all the room that is left, to the last byte that a file can have."""
    with path.open("ab", buffering=0) as file:
        for block in (1 << 20, 1 << 12, 1):
            with suppress(OSError):
                while True:
                    file.write(b"\1" * block)


def integrity(path: Path) -> str:
    connection = sqlite3.connect(path)
    try:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])
    finally:
        connection.close()


def timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def state(number: int) -> StateEvent:
    return StateEvent(station="line", component="station", state=str(number))


def outbox(folder: Path) -> dict[str, object]:
    filler = folder / "filler"
    fill(filler)  # it is full before the first start
    box = Outbox(folder / "outbox.sqlite", EventsConfig())
    box.use_sinks(["mqtt"])
    box.start()
    wait_for(lambda: box.status.problem is not None, "no problem at the start")
    at_start = box.status.problem
    box.add(state(0))
    filler.unlink()
    wait_for(lambda: box.status.committed == 1, "no commit once there was room")
    fill(filler)
    longest = max(timed(lambda number=number: box.add(state(number))) for number in range(1, 3001))
    wait_for(lambda: box.status.problem is not None, "no problem")
    said = box.status.problem
    for number in range(3001, 15_001):
        longest = max(longest, timed(lambda: box.add(state(number))))  # noqa: B023
    # Those that it is about to write are counted with them.
    wait_for(lambda: box.status.waiting_in_memory == MEMORY, "not the greatest number")
    full = box.status
    filler.unlink()
    wait_for(lambda: box.status.waiting_in_memory == 0, "no recovery")
    wait_for(lambda: box.status.problem is None, "the problem stays")
    events = box.batch("mqtt", 20_000)
    numbers = [int(json.loads(event.text)["state"]) for event in events]
    end = box.status
    box.stop()
    return {
        "at_start": at_start,
        "said": said,
        "longest_s": longest,
        "waiting": full.waiting_in_memory,
        "dropped": end.dropped,
        "in_order": numbers == sorted(set(numbers)),
        "complete": len(numbers) + end.dropped == 15_001,
        "latest": numbers[-1],
        "integrity": integrity(folder / "outbox.sqlite"),
    }


def rejected(store: EvidenceStore) -> tuple[str | None, float]:
    event = InspectionEvent(station="line", camera="top", verdict="DEFECT", reject=True)
    picture = RANDOM.integers(0, 256, (180, 320, 3), np.uint8)
    start = time.perf_counter()
    kept = store.add(event, picture)
    return kept, time.perf_counter() - start


def evidence(folder: Path) -> dict[str, object]:
    filler = folder / "filler"
    fill(filler)
    store = EvidenceStore(folder / "evidence", EvidenceConfig(jpeg_quality=0, min_free_bytes=0))
    store.start()
    wait_for(lambda: store.status.problem is not None, "no problem at the start")
    at_start = store.status.problem
    filler.unlink()
    wait_for(lambda: store.status.problem is None, "no recovery at the start", 10)
    longest = 0.0
    for _ in range(3000):  # until more was taken than fits
        longest = max(longest, rejected(store)[1])
        time.sleep(0.02)
        if store.status.deleted > ROOM_MADE:
            break
    wait_for(lambda: store.status.deleted > ROOM_MADE, "nothing made room")
    own = store.status
    for _ in range(3000):  # somebody else takes what is left, and whatever is given up
        fill(filler)
        longest = max(longest, rejected(store)[1])
        time.sleep(0.01)
        if store.status.problem is not None:
            break
    said = store.status.problem
    still_there = store.status.count
    filler.unlink()
    wait_for(lambda: store.status.problem is None, "no recovery", 10)
    wait_for(lambda: (kept := rejected(store)[0]) is not None and _there(store, kept), "not kept")
    store.stop()
    return {
        "at_start": at_start,
        "problem_while_own_fill": own.problem,
        "count": own.count,
        "said": said,
        "still_there": still_there,
        "longest_s": longest,
        "integrity": integrity(folder / "evidence" / "index.sqlite"),
    }


def _there(store: EvidenceStore, kept: str) -> bool:
    time.sleep(0.2)
    return store.path(kept) is not None and store.list(limit=1)[0].id == kept


if __name__ == "__main__":
    place = Path(sys.argv[1])
    found = {"outbox": outbox(place)}
    for path in place.iterdir():
        path.unlink()
    found["evidence"] = evidence(place)
    sys.stdout.write(json.dumps(found))
    sys.stdout.flush()
    os._exit(0)
