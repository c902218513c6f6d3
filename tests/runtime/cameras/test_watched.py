"""A watched folder: what is given, what is waited for, what is remembered, and what leaves it."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from differnet_runtime.cameras import arrivals
from differnet_runtime.cameras.files import Remembered, UnreadablePictureError
from differnet_runtime.cameras.folder import JUDGED, WatchedFolder
from differnet_runtime.config.models import AfterVerdict
from differnet_runtime.errors import CameraError
from differnet_runtime.records import Frame, Origin
from differnet_runtime.text import file_name

Open = Callable[..., "Folder"]


class QuietError(Exception):
    """Nothing came for a while."""


class Memory(Remembered):
    """Waits for a second at most for the next picture."""

    def __init__(self) -> None:
        super().__init__(pause=self._pause)
        self.until_s = 0.0

    def _pause(self, seconds: float) -> None:
        if time.monotonic() > self.until_s:
            raise QuietError
        time.sleep(seconds)


class Folder(WatchedFolder):
    """A watched folder, with what it remembers."""

    def __init__(self, source: Path, memory: Memory, after: AfterVerdict) -> None:
        super().__init__(source, "auto", memory, after)
        self.memory = memory


def data(brightness: int, suffix: str = ".png") -> bytes:
    return cv2.imencode(suffix, np.full((8, 8, 3), brightness, np.uint8))[1].tobytes()


def put(path: Path, brightness: int, *, age_s: float = 60.0) -> None:
    """Puts a picture there that has not changed for a while."""
    path.write_bytes(data(brightness))
    os.utime(path, (time.time() - age_s, time.time() - age_s))


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    made: list[Folder] = []

    def open_folder(
        source: Path = tmp_path, memory: Memory | None = None, after: AfterVerdict = "keep"
    ) -> Folder:
        made.append(Folder(source, memory or Memory(), after))
        return made[-1]

    yield open_folder
    for folder in made:
        folder.close()


def taken(folder: Folder, within_s: float = 0.3, count: int = 1000) -> list[Frame]:
    """Takes pictures until none came for a moment, or so many."""
    frames = []
    while len(frames) < count:
        folder.memory.until_s = time.monotonic() + within_s
        try:
            frame = folder.read()
        except QuietError:
            break
        assert frame is not None
        frames.append(frame)
    return frames


def names(frames: list[Frame]) -> list[str]:
    return [frame.name for frame in frames]


def test_each_comes_once_with_what_tells_it_from_others(tmp_path: Path, opened: Open) -> None:
    put(tmp_path / "b.png", 5, age_s=90)
    put(tmp_path / "a.png", 5, age_s=60)
    memory = Memory()
    frames = taken(opened(memory=memory))
    assert names(frames) == ["b.png", "a.png"]
    assert [frame.waiting for frame in frames] == [1, 0]
    origins = [frame.origin for frame in frames if frame.origin]
    assert [origin.key for origin in origins] == [
        f"{name}|{stat.st_size}|{stat.st_mtime_ns}"
        for name in ("b.png", "a.png")
        for stat in [(tmp_path / name).stat()]
    ]
    assert origins[0].digest == origins[1].digest
    assert memory.keys == {origin.key for origin in origins}
    assert not taken(opened(memory=memory), 0.3)  # opened again, it gives none of them


def test_a_picture_that_is_moved_in_or_written_anew_comes(tmp_path: Path, opened: Open) -> None:
    folder = opened()
    put(tmp_path / ".part", 5, age_s=0)
    (tmp_path / ".part").rename(tmp_path / "a.png")
    assert names(taken(folder, 10, 1)) == ["a.png"]
    (tmp_path / "a.png").write_bytes(data(6))
    assert names(taken(folder, 10, 1)) == ["a.png"]
    shutil.copy2(tmp_path / "a.png", tmp_path / "b.png")
    os.link(tmp_path / "a.png", tmp_path / "c.png")
    (tmp_path / "d.png").symlink_to(tmp_path / "a.png")
    assert sorted(names(taken(folder, 10, 3))) == ["b.png", "c.png", "d.png"]
    assert not taken(folder)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as complete, or as damaged, after a time that a test can wait for."""
    monkeypatch.setattr(arrivals, "QUIET_S", 0.4)
    monkeypatch.setattr(arrivals, "_DOUBT_S", 0.4)
    monkeypatch.setattr(arrivals, "_DOUBT_FACTOR", 1.0)


@pytest.mark.usefixtures("hasty")
def test_a_writer_that_pauses_is_waited_for(tmp_path: Path, opened: Open) -> None:
    """The picture is complete as a file after each piece, but its writer holds it open."""
    folder, picture = opened(), data(5, ".bmp")
    with (tmp_path / "slow.bmp").open("wb") as file:
        for piece in (picture[:-60], picture[-60:]):
            file.write(piece)
            file.flush()
            assert not taken(folder, 1.0)
    assert names(taken(folder)) == ["slow.bmp"]


def test_a_writer_that_opens_it_again_makes_one_picture(tmp_path: Path, opened: Open) -> None:
    folder, picture = opened(), data(5)
    for piece in (picture[:30], picture[30:]):
        with (tmp_path / "slow.png").open("ab") as file:
            file.write(piece)
        frames = taken(folder, 0.7)
    assert names(frames) == ["slow.png"]


@pytest.fixture
def without_notices(monkeypatch: pytest.MonkeyPatch, hasty: None) -> None:
    """As on a share that another machine writes to."""
    monkeypatch.setitem(sys.modules, "watchdog.events", None)


@pytest.mark.usefixtures("without_notices")
def test_without_notices_it_is_looked_at(
    tmp_path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(arrivals, "_FULL_S", 0.5)
    folder = opened()
    assert "watchdog is not installed" in caplog.text
    put(tmp_path / "a.png", 5, age_s=0)
    assert names(taken(folder, 10, 1)) == ["a.png"]
    (tmp_path / "a.png").write_bytes(data(6))  # in its place, which changes nothing in the folder
    put(tmp_path / "b.png", 7, age_s=0)
    assert sorted(names(taken(folder, 10, 2))) == ["a.png", "b.png"]


@pytest.mark.usefixtures("without_notices")
def test_without_notices_it_waits_until_nothing_changes(tmp_path: Path, opened: Open) -> None:
    folder, picture = opened(), data(5, ".bmp")
    path = tmp_path / "slow.bmp"
    path.write_bytes(picture[:60])
    over = threading.Event()

    def grow() -> None:
        for at in range(60, len(picture), 20):
            over.wait(0.1)
            with path.open("ab") as file:
                file.write(picture[at : at + 20])

    writer = threading.Thread(target=grow)
    writer.start()
    frames = taken(folder, 10, 1)
    writer.join()
    assert names(frames) == ["slow.bmp"]
    assert frames[0].image.shape == (8, 8, 3)
    assert not taken(folder, 0.8)


def test_names_that_are_not_utf_8_stay_apart(tmp_path: Path, opened: Open) -> None:
    raw = [b"t\xff.png", b"t\xfe.png", b"t\\xff.png", "t\N{REPLACEMENT CHARACTER}.png".encode()]
    for number, name in enumerate(raw):
        put(tmp_path / os.fsdecode(name), number)
    memory = Memory()
    frames = taken(opened(memory=memory))
    assert sorted(names(frames)) == sorted(
        ["t\\xff.png", "t\\xfe.png", "t\\x5cxff.png", "t\N{REPLACEMENT CHARACTER}.png"]
    )
    for frame in frames:
        frame.name.encode()
    assert not taken(opened(memory=memory), 0.3)


def test_printable_names_are_unchanged_where_they_can_be() -> None:
    assert file_name("Teil \N{GREEK SMALL LETTER BETA} \\ 7.png") == (
        "Teil \N{GREEK SMALL LETTER BETA} \\ 7.png"
    )


@pytest.mark.usefixtures("hasty")
def test_a_picture_that_can_not_be_decoded_is_told_once(tmp_path: Path, opened: Open) -> None:
    (tmp_path / "a.png").write_bytes(data(5)[:40])
    os.utime(tmp_path / "a.png", (1e9, 1e9))
    memory, folder = Memory(), opened
    later: list[str] = []
    memory.later = later.append
    with pytest.raises(UnreadablePictureError) as told:
        taken(folder(memory=memory), 20)
    key = "a.png|40|1000000000000000000"
    assert told.value.origin == Origin("a.png", key, told.value.origin.digest)
    assert told.value.origin.digest
    assert later == [key]
    assert not taken(folder(memory=memory), 0.3)


def test_pictures_that_are_gone_are_forgotten(tmp_path: Path, opened: Open) -> None:
    for name in ("a.png", "b.png"):
        put(tmp_path / name, 5)
    memory, gone = Memory(), []
    memory.gone = gone.extend
    folder = opened(memory=memory)
    keys = [frame.origin.key for frame in taken(folder) if frame.origin]
    (tmp_path / "a.png").unlink()
    assert not taken(folder, 1.5)
    assert gone == keys[:1]
    assert memory.keys == set(keys[1:])


def test_an_empty_mount_point_makes_nothing_forgotten(tmp_path: Path, opened: Open) -> None:
    memory = Memory()
    memory.keys = {"a.png|7|7"}
    folder = opened(memory=memory)
    assert not taken(folder, 0.3)
    assert memory.keys == {"a.png|7|7"}
    put(tmp_path / "b.png", 5)
    taken(folder, 1.5)
    assert {key.split("|")[0] for key in memory.keys} == {"b.png"}


@pytest.mark.usefixtures("hasty")
def test_another_folder_in_its_place_is_watched(tmp_path: Path, opened: Open) -> None:
    source = tmp_path / "in"
    source.mkdir()
    folder = opened(source)
    assert not taken(folder, 0.1)
    source.rename(tmp_path / "away")
    with pytest.raises(CameraError, match="Look whether it is there"):
        taken(folder, 10)
    source.mkdir()
    put(source / "a.png", 5, age_s=0)
    assert names(taken(folder, 10, 1)) == ["a.png"]


def settle(folder: Folder, frames: list[Frame]) -> None:
    folder.memory.settled.extend(frame.origin.key for frame in frames if frame.origin)


def test_judged_pictures_are_moved(tmp_path: Path, opened: Open) -> None:
    put(tmp_path / "a.png", 5)
    memory = Memory()
    folder = opened(memory=memory, after="move")
    frames = taken(folder)
    assert (tmp_path / "a.png").exists()  # until its verdict is on disk
    settle(folder, frames)
    put(tmp_path / "a.png", 6)  # another picture of that name came meanwhile: it stays
    again = taken(folder, 10, 1)
    assert names(again) == ["a.png"]
    settle(folder, again)
    assert not taken(folder)
    assert (tmp_path / "judged" / "a.png").read_bytes() == data(6)
    assert not memory.keys
    put(tmp_path / "a.png", 7)
    settle(folder, taken(folder))
    assert not taken(folder)
    assert (tmp_path / "judged" / "a-2.png").read_bytes() == data(7)


def test_pictures_that_an_earlier_process_read_are_moved(tmp_path: Path, opened: Open) -> None:
    for name in ("a.png", "b.png"):
        put(tmp_path / name, 5)
    memory = Memory()
    frames = taken(opened(memory=memory, after="move"))
    settle(opened(memory=memory), frames)
    memory.settled.extend(frame.origin.key for frame in frames if frame.origin)
    taken(opened(memory=memory, after="move"), 0.3)
    assert sorted(path.name for path in (tmp_path / "judged").iterdir()) == ["a.png", "b.png"]


def test_judged_pictures_are_deleted(tmp_path: Path, opened: Open) -> None:
    put(tmp_path / "a.png", 5)
    folder = opened(after="delete")
    settle(folder, taken(folder))
    assert not taken(folder, 0.3)
    assert not list(tmp_path.iterdir())


def test_what_can_not_be_moved_is_said_once_and_stays(
    tmp_path: Path, opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.png", "b.png"):
        put(tmp_path / name, 5)
    (tmp_path / JUDGED).write_text("no folder")
    folder = opened(after="move")
    settle(folder, taken(folder))
    assert not taken(folder)
    assert caplog.text.count("judged, but can't be moved (File exists)") == 1
    assert (tmp_path / "b.png").exists()
