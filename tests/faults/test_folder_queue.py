"""A folder as a queue: each picture is judged once, whatever is killed, and none is lost."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from benchmarks import machine
from tests.fakes.running import RunningStation
from tests.fakes.usage import descendants

FOLDER = '[camera.top]\nsource = "{}"\n'
BACK_S = 120.0
"""After its restarts are used up, the engine waits up to a minute for the next."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def put(folder: Path, name: str, seed: int) -> None:
    """Puts a picture of noise into a folder, whole at once."""
    noise = np.random.RandomState(seed).normal(110, 9, (48, 64, 3)).clip(0, 255)
    partial = folder / f".{name}"
    partial.write_bytes(cv2.imencode(".png", noise.astype(np.uint8))[1].tobytes())
    long_ago_s = time.time() - 60 + seed * 1e-3
    os.utime(partial, (long_ago_s, long_ago_s))
    partial.rename(folder / name)


def inspections(station: RunningStation) -> list[dict[str, Any]]:
    """Returns an event a picture; one that was delivered twice counts once."""
    return list({event["id"]: event for event in station.events("inspection")}.values())


def names(station: RunningStation) -> list[str]:
    return sorted(event["frame"]["name"] for event in inspections(station) if event["frame"])


def engine(station: RunningStation) -> int | None:
    """Returns the engine process, if there is one."""
    for pid in descendants(station.process.pid):
        with contextlib.suppress(OSError):
            if "inference.child" in Path(f"/proc/{pid}/cmdline").read_text():
                return pid
    return None


def kill_engine(station: RunningStation) -> None:
    """Kills an engine that judges: waits for a verdict of it, so that each kill meets one."""
    before = len(names(station))
    station.wait(lambda: len(names(station)) > before, BACK_S, "a verdict")
    pid = engine(station)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def kill_station(station: RunningStation) -> None:
    station.kill()
    station.start()


@pytest.mark.parametrize(
    ("pictures", "engine_kills", "station_kills", "report"),
    [
        pytest.param(60, 2, 1, None, id="short"),
        pytest.param(1000, 10, 5, "folder_queue", id="1000", marks=pytest.mark.slow),
    ],
)
def test_each_picture_is_judged_once_whatever_is_killed(
    pictures: int,
    engine_kills: int,
    station_kills: int,
    report: str | None,
    tmp_path: Path,
    folder: Path,
) -> None:
    chance = random.Random(1)
    expected = [f"{number:04d}.png" for number in range(pictures)]
    for number, name in enumerate(expected):
        put(folder, name, number)
    kills: list[Callable[[RunningStation], None]] = [kill_engine] * engine_kills
    kills += [kill_station] * station_kills
    chance.shuffle(kills)
    begun = time.monotonic()
    with RunningStation(tmp_path, FOLDER.format(folder), model='backend = "fake:20ms"') as station:
        for number, kill in enumerate(kills, 1):
            least = chance.uniform(number - 1, number) * pictures / (len(kills) + 1)
            station.wait(lambda: len(names(station)) > least, BACK_S, "verdicts")  # noqa: B023
            time.sleep(chance.uniform(0.0, 0.1))
            kill(station)
        station.wait(lambda: len(set(names(station))) == pictures, BACK_S, "all verdicts")
        seconds = time.monotonic() - begun
        assert station.stop() < 5.0
        delivered = station.events("inspection")
        events = inspections(station)
    counted = Counter(names(station))
    found = {
        "pictures": pictures,
        "engine_kills": engine_kills,
        "station_kills": station_kills,
        "seconds": round(seconds, 1),
        "judged": len(counted),
        "lost": len(set(expected) - counted.keys()),
        "judged_twice": sum(count > 1 for count in counted.values()),
        "delivered_twice": len(delivered) - len(events),
        "verdicts": dict(Counter(event["verdict"] for event in events)),
        "codes": dict(Counter(event["code"] for event in events if event["code"])),
    }
    if report is not None:
        machine.write(report, found)
    assert sorted(counted) == expected
    assert (found["lost"], found["judged_twice"]) == (0, 0)
    assert found["verdicts"] == {"GOOD": pictures}
