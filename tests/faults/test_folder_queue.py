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


def test_a_restart_judges_only_what_is_new(tmp_path: Path, folder: Path) -> None:
    for number in range(3):
        put(folder, f"{number}.png", number)
    tables = FOLDER.format(folder) + "[evidence]\nkeep = 'all'\nmin_free_bytes = 0\n"
    with RunningStation(tmp_path, tables) as station:
        station.wait(lambda: len(inspections(station)) == 3, what="verdicts")
        assert station.stop() < 5.0
        station.start()
        station.wait(station.ready, what="ready")
        put(folder, "0.png", 0)
        put(folder, "copy.png", 1)
        station.wait(lambda: len(inspections(station)) == 5, what="two more verdicts")
        assert station.stop() < 5.0
        by_name = {event["frame"]["name"]: event for event in inspections(station)}
        assert names(station) == ["0.png", "0.png", "1.png", "2.png", "copy.png"]
        assert by_name["0.png"]["identical_to"] == "0.png"
        assert by_name["copy.png"]["identical_to"] == "1.png"
        assert by_name["2.png"]["identical_to"] is None
        # Its database lost, it judges all of them again, with the ids that they had.
        for path in (tmp_path / "state").glob("outbox.sqlite*"):
            path.unlink()
        station.start()
        station.wait(lambda: len(station.events("inspection")) == 9, what="repetitions")
        assert len(inspections(station)) == 5
        assert station.degraded() is False
        assert station.stop() < 5.0


def test_a_judged_picture_is_moved_away_though_the_station_was_killed(
    tmp_path: Path, folder: Path
) -> None:
    tables = FOLDER.format(folder)
    for number in range(3):
        put(folder, f"{number}.png", number)
    with RunningStation(tmp_path, tables) as station:
        station.wait(lambda: len(inspections(station)) == 3, what="verdicts")
        station.kill()
        station.write(tables + 'after = "move"\n')
        station.start()
        put(folder, "3.png", 3)
        judged = folder / "judged"
        station.wait(lambda: len(list(judged.glob("*.png"))) == 4, what="all moved")
        assert station.stop() < 5.0
    assert names(station) == ["0.png", "1.png", "2.png", "3.png"]
    assert [path.name for path in folder.iterdir()] == ["judged"]


def test_a_video_goes_on_where_the_station_was_killed(tmp_path: Path) -> None:
    clip = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for number in range(30):
        noise = np.random.RandomState(number).normal(110, 9, (48, 64, 3)).clip(0, 255)
        writer.write(noise.astype(np.uint8))
    writer.release()
    with RunningStation(tmp_path, FOLDER.format(clip), model='backend = "fake:20ms"') as station:
        station.wait(lambda: len(names(station)) > 5, what="verdicts")
        kill_engine(station)
        station.wait(lambda: len(names(station)) > 15, what="verdicts")
        kill_station(station)
        station.wait(lambda: station.camera("top").get("state") == "ended", what="the end")
        assert station.stop() < 5.0
    assert names(station) == sorted(f"clip.avi#{number}" for number in range(30))
    assert {event["verdict"] for event in inspections(station)} == {"GOOD"}


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


@pytest.mark.slow
def test_10000_known_pictures_cost_little(tmp_path: Path, folder: Path) -> None:
    known, seconds = 10_000, 30.0
    put(folder, "0.png", 0)
    data = (folder / "0.png").read_bytes()
    (folder / "0.png").unlink()
    for number in range(known):
        (folder / f"{number:05d}.png").write_bytes(data)
    with RunningStation(tmp_path, FOLDER.format(folder), model='backend = "fake"') as station:
        station.wait(lambda: station.camera("top").get("verdicts", {}).get("GOOD") == known, 600.0)
        pid = next(
            pid
            for pid in descendants(station.process.pid)
            if "capture.child" in Path(f"/proc/{pid}/cmdline").read_text()
        )
        cores = {}
        for what, every_s in (("idle", seconds), ("one_a_second", 1.0)):
            before_s = _cpu_s(pid)
            begun = time.monotonic()
            while time.monotonic() - begun < seconds:
                time.sleep(every_s)
                if every_s < seconds:
                    put(folder, f"new-{time.monotonic_ns()}.png", 7)
            cores[what] = round((_cpu_s(pid) - before_s) / (time.monotonic() - begun), 4)
        machine.write("folder_idle", {"known": known, "seconds": seconds, "cores": cores})
    assert cores["idle"] < 0.05
    assert cores["one_a_second"] < 0.1


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
