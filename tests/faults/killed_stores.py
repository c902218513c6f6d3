"""Kills a process with an outbox and a store of evidence at random moments, and looks at the rest.

Arguments: folder, how many times, seed. Prints what it saw, as JSON. One process is forked again
and again, before it has any thread: an interpreter's start would take most of the time.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import sys
import time
from pathlib import Path

import numpy as np

from differnet_runtime.config import EventsConfig, EvidenceConfig
from differnet_runtime.events import InspectionEvent
from differnet_runtime.evidence.index import open_index
from differnet_runtime.evidence.store import EvidenceStore
from differnet_runtime.outbox.outbox import Outbox

CAPS = EvidenceConfig(max_count=12, min_free_bytes=0)
"""So low that most pictures push another one out."""


def work(folder: Path, ready: int) -> None:
    """Adds events and pictures, and takes events away again, until it is killed."""
    box = Outbox(folder / "outbox.sqlite", EventsConfig())
    box.use_sinks(["jsonl"])
    box.start()
    store = EvidenceStore(folder / "evidence", CAPS)
    store.start()
    picture = np.full((120, 160, 3), 90, np.uint8)
    os.write(ready, b"1")
    while True:
        event = InspectionEvent(station="line", camera="top", verdict="DEFECT", reject=True)
        store.add(event, picture)
        box.add(event)
        if taken := box.batch("jsonl", 5):
            box.delivered("jsonl", taken[-1])
        time.sleep(0.002)


def integrity(path: Path) -> bool:
    connection = sqlite3.connect(path)
    try:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        connection.close()


def rows(folder: Path) -> set[str]:
    connection = sqlite3.connect(folder / "evidence" / "index.sqlite")
    try:
        return {id_ for (id_,) in connection.execute("SELECT id FROM picture")}
    finally:
        connection.close()


def files(folder: Path) -> dict[str, int]:
    """Number of files by id; what is no picture's counts by its name."""
    found: dict[str, int] = {}
    for path in (folder / "evidence").glob("??/*"):
        id_ = path.name.partition(".")[0] or path.name
        found[id_] = found.get(id_, 0) + 1
    return found


def main() -> None:
    folder, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    chance = random.Random(seed)
    damaged = unswept = orphans = left_over = 0
    for _ in range(kills):
        reading, ready = os.pipe()
        child = os.fork()
        if child == 0:
            work(folder, ready)
        os.read(reading, 1)
        time.sleep(chance.uniform(0.0, 0.25))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
        os.close(ready)
        names = ("outbox.sqlite", "evidence/index.sqlite")
        damaged += sum(not integrity(folder / name) for name in names)
        known, there = rows(folder), files(folder)
        left_over += there.keys() != known or any(count != 2 for count in there.values())
        open_index(folder / "evidence").close()  # a process with threads must not fork
        known, there = rows(folder), files(folder)
        orphans += len(known - there.keys())
        unswept += len(there.keys() - known)
    found = {
        "kills": kills,
        "damaged": damaged,
        "orphan_rows": orphans,
        "unswept_files": unswept,
        "kills_that_left_something": left_over,
        "kept": len(rows(folder)),
        "set_aside": len(list(folder.glob("**/*.damaged-*"))),
    }
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
