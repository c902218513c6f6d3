"""Pictures that can't be read, in a watched folder: each a named error, none lost, none judged."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from pathlib import Path

import cv2
import pytest

from differnet_runtime.capture.process import CaptureProcess
from differnet_runtime.errors import ImageReadError
from tests.drawn import draw_part
from tests.faults.capturing import capture

TRUNCATED, GOOD = 500, 50
SUFFIXES = (".jpg", ".png", ".bmp", ".tiff", ".webp", ".pgm")
SAVED = {".webp": [cv2.IMWRITE_WEBP_QUALITY, 101], ".tiff": [cv2.IMWRITE_TIFF_COMPRESSION, 5]}


def encoded(number: int, suffix: str) -> bytes:
    image = cv2.resize(draw_part(number), (64, 64))
    if suffix == ".pgm":
        image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    return cv2.imencode(suffix, image, SAVED.get(suffix, []))[1].tobytes()


def take(process: CaptureProcess, count: int, within_s: float) -> tuple[list[str], list[str]]:
    """Takes so many pictures, good or bad, and returns the names of both."""
    good: list[str] = []
    bad: list[str] = []
    until = time.monotonic() + within_s
    while len(good) + len(bad) < count and time.monotonic() < until:
        if not process.wait(0.1):
            continue
        try:
            frame = process.take()
        except ImageReadError as error:
            bad.append(error.name)
        else:
            assert frame is not None
            good.append(frame.name)
    return good, bad


def write_truncated(folder: Path, count: int, seed: int) -> set[str]:
    chance = random.Random(seed)
    names = set()
    for number in range(count):
        suffix = SUFFIXES[number % len(SUFFIXES)]
        data = encoded(number % 20, suffix)
        cut = chance.randrange(len(data))
        name = f"bad-{number:04d}{suffix}"
        (folder / name).write_bytes(data[:cut])
        names.add(name)
    return names


def test_500_truncated_pictures_are_500_named_errors(tmp_path: Path) -> None:
    wrong = write_truncated(tmp_path, TRUNCATED, seed=1)
    right = {f"good-{number:03d}.png" for number in range(GOOD)}
    with capture(tmp_path) as process:
        for number, name in enumerate(sorted(right)):
            (tmp_path / name).write_bytes(encoded(number % 20, ".png"))
        good, bad = take(process, TRUNCATED + GOOD, 60)
        pid = process.status.pid
        assert not process.wait(0.5)  # each once
        assert process.status.pid == pid
    assert sorted(bad) == sorted(wrong)
    assert sorted(good) == sorted(right)


def test_a_picture_that_is_still_written_is_waited_for(tmp_path: Path) -> None:
    data = encoded(3, ".png")
    with capture(tmp_path) as process, (tmp_path / "slow.png").open("wb") as file:
        for at in range(0, len(data), len(data) // 8 + 1):
            file.write(data[at : at + len(data) // 8 + 1])
            file.flush()
            time.sleep(0.15)
        assert take(process, 1, 10) == (["slow.png"], [])
        assert not process.wait(0.5)


def test_pictures_that_vanish_are_no_error(tmp_path: Path) -> None:
    over = threading.Event()

    def come_and_go() -> None:
        number = 0
        while not over.is_set():
            path = tmp_path / f"brief-{number % 10}.png"
            path.write_bytes(encoded(1, ".png")[: 200 + number])
            time.sleep(0.03)
            path.unlink()
            number += 1

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        with capture(tmp_path) as process:
            time.sleep(0.5)
            (tmp_path / "stays.png").write_bytes(encoded(2, ".png"))
            good, bad = take(process, 1, 10)
            assert (good, bad) == (["stays.png"], [])
    finally:
        over.set()
        thread.join()


def test_no_picture_is_lost_or_taken_twice_when_the_process_is_killed(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number:02d}.png").write_bytes(encoded(number % 20, ".png"))
    with capture(tmp_path) as process:
        good: list[str] = []
        bad: list[str] = []
        for _ in range(4):
            more = take(process, 10, 20)
            good, bad = good + more[0], bad + more[1]
            pid = process.status.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)
        assert not process.wait(1.5)
    # The one that was being read when the process died is told: it may have been the reason.
    assert sorted(good + bad) == sorted(path.name for path in tmp_path.iterdir())


def test_an_unmounted_share_does_not_make_its_pictures_new(tmp_path: Path) -> None:
    share, away = tmp_path / "share", tmp_path / "away"
    share.mkdir()
    (share / "a.png").write_bytes(encoded(1, ".png"))
    with capture(share) as process:
        assert take(process, 1, 10)[0] == ["a.png"]
        share.rename(away)
        deadline = time.monotonic() + 10
        while process.status.state.value != "lost":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        away.rename(share)
        (share / "b.png").write_bytes(encoded(2, ".png"))
        assert take(process, 1, 10)[0] == ["b.png"]
        assert not process.wait(0.5)


@pytest.mark.slow
def test_truncated_anywhere(tmp_path: Path) -> None:
    wrong = write_truncated(tmp_path, 5000, seed=2)
    with capture(tmp_path) as process:
        good, bad = take(process, len(wrong), 600)
    assert not good
    assert sorted(bad) == sorted(wrong)
