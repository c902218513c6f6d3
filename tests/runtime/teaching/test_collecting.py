"""Which frames become pictures, and what is known of them after a crash."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event

import cv2
import numpy as np
import pytest

from differnet_runtime.errors import TeachError
from differnet_runtime.images import read_image
from differnet_runtime.inspection.image_checks import IntegrityGate
from differnet_runtime.model_file.contract import Region
from differnet_runtime.records import Frame
from differnet_runtime.teaching import dataset as dataset_module
from differnet_runtime.teaching.dataset import Dataset, FrameOutcome
from differnet_runtime.teaching.files import FOLDER
from differnet_runtime.teaching.records import Record
from differnet_runtime.teaching.teaching import Teaching, UnknownError
from tests.fakes.teaching import FakeSite, frame_of_part, trainer
from tests.runtime.waiting import wait_for

Again = Callable[[FakeSite], Teaching]
REGION = Region(x=16, y=16, width=96, height=96)


@pytest.fixture
def site(tmp_path: Path) -> FakeSite:
    return FakeSite(tmp_path, live=False)


@pytest.fixture
def teaching(site: FakeSite) -> Iterator[Teaching]:
    teaching = Teaching(site, trainer("pass"))
    teaching.start()
    yield teaching
    teaching.stop()


@pytest.fixture
def again() -> Iterator[Again]:
    """Starts a station, after a crash too: the one before is not told to stop."""
    started: list[Teaching] = []

    def start(site: FakeSite) -> Teaching:
        started.append(Teaching(site, trainer("pass")))
        started[-1].start()
        return started[-1]

    yield start
    for one in started:
        one.stop()


def recorded(site: FakeSite) -> Record:
    """Returns the record of `ring` as it is on disk."""
    path = site.config.station.state / FOLDER / "ring" / "record.json"
    return Record.model_validate_json(path.read_bytes())


def taken(teaching: Teaching, site: FakeSite, name: str, seed: int, noise: int = 0) -> str | None:
    site.frames["left"] = frame_of_part(seed, noise=noise)
    return teaching.take(name).why


def test_twelve_parts_in_many_noisy_frames_are_twelve_parts(
    teaching: Teaching, site: FakeSite, again: Again
) -> None:
    teaching.create("ring", "left", REGION)
    teaching.collect("ring", on=True)
    for seed in range(12):
        for noise in range(4):
            teaching.offer("left", frame_of_part(seed, noise=noise))
    teaching.offer("right", frame_of_part(99))  # another camera's
    wait_for(lambda: teaching.dataset("ring").repeats == 36, 20)
    view = teaching.dataset("ring")
    assert (view.parts, len(view.pictures), view.thrown_out) == (12, 12, 0)
    picture = read_image(teaching.picture("ring", view.pictures[3].id))
    assert np.array_equal(picture, frame_of_part(3).image)  # whole, and without loss
    wait_for(lambda: recorded(site).repeats == 36, 5)
    assert again(site).dataset("ring").repeats == 36


def test_a_frame_that_is_not_whole_or_not_fresh_or_dark_is_not_taken(
    teaching: Teaching, site: FakeSite
) -> None:
    teaching.create("ring", "left", None)
    for frame, why in (
        (None, "has given no frame yet"),
        (frame_of_part(1, damage="a packet was lost"), "a packet was lost"),
        (
            replace(frame_of_part(1), image=np.zeros((128, 128, 3), np.uint8)),
            "the picture is black",
        ),
    ):
        site.frames = {} if frame is None else {"left": frame}
        view = teaching.take("ring")
        assert not view.taken
        assert why in str(view.why)
        assert view.pictures == []


def test_an_old_frame_of_a_live_camera_is_not_taken(tmp_path: Path, again: Again) -> None:
    site = FakeSite(tmp_path)
    teaching = again(site)
    teaching.create("ring", "left", None)
    site.frames["left"] = frame_of_part(1, age_s=30.0)
    assert "no frame for 30 s" in str(teaching.take("ring").why)
    site.frames["left"] = frame_of_part(1)
    assert teaching.take("ring").taken


def test_of_a_live_camera_the_newest_frame_wins_and_nobody_waits(
    tmp_path: Path, again: Again
) -> None:
    site = FakeSite(tmp_path)
    teaching = again(site)
    teaching.create("ring", "left", None)
    teaching.collect("ring", on=True)
    with teaching.find("ring").lock:  # as if the disk were slow
        for seed in range(100):
            teaching.offer("left", frame_of_part(seed, size=64))
    newest = frame_of_part(99, size=64).image

    def pictures() -> list[np.ndarray]:
        found = teaching.dataset("ring").pictures
        return [read_image(teaching.picture("ring", one.id)) for one in found]

    wait_for(lambda: any(np.array_equal(one, newest) for one in pictures()), 10)
    assert len(pictures()) <= 2


def test_waiting_pictures_outlive_changes_of_other_data_sets(
    teaching: Teaching, monkeypatch: pytest.MonkeyPatch
) -> None:
    consider, begun = Dataset.consider, Event()

    def noted(dataset: Dataset, frame: Frame, gate: IntegrityGate) -> FrameOutcome:
        begun.set()
        return consider(dataset, frame, gate)

    monkeypatch.setattr(Dataset, "consider", noted)
    for name, camera in (("ring", "left"), ("cover", "right"), ("old", "left")):
        teaching.create(name, camera, None)
    teaching.collect("ring", on=True)
    teaching.collect("cover", on=True)
    with teaching.find("ring").lock:  # as if the disk were slow
        teaching.offer("left", frame_of_part(50))
        assert begun.wait(10)
        for seed in range(8):
            teaching.offer("right", frame_of_part(seed))
        teaching.delete("old")
    wait_for(lambda: teaching.dataset("cover").parts == 8, 20)


def test_a_picture_that_was_thrown_out_is_not_taken_again_and_can_be_put_back(
    teaching: Teaching, site: FakeSite
) -> None:
    teaching.create("ring", "left", None)
    for seed in range(3):
        assert taken(teaching, site, "ring", seed) is None
    assert taken(teaching, site, "ring", 1, noise=1) == dataset_module.REPEAT
    view = teaching.keep("ring", "000002", kept=False)
    assert (view.parts, view.thrown_out) == (2, 1)
    assert taken(teaching, site, "ring", 1, noise=2) == dataset_module.REPEAT
    assert teaching.keep("ring", "000002", kept=True).parts == 3
    with pytest.raises(UnknownError, match="no picture 000009"):
        teaching.keep("ring", "000009", kept=False)


def test_a_blurred_picture_is_strange(teaching: Teaching, site: FakeSite, again: Again) -> None:
    teaching.create("ring", "left", None)
    for seed in range(20):
        assert taken(teaching, site, "ring", seed) is None
    frame = frame_of_part(30)
    blurred = cv2.GaussianBlur(frame.image, (0, 0), 9)
    site.frames["left"] = replace(frame, image=blurred)
    assert teaching.take("ring").taken
    wait_for(lambda: teaching.dataset("ring").strange == 1, 10)
    (odd,) = [one for one in teaching.dataset("ring").pictures if one.strange]
    assert odd.id == "000021"
    assert str(odd.cause).startswith("blurred: ")
    assert again(site).dataset("ring").strange == 1


def test_pictures_have_one_size_and_hold_the_region(teaching: Teaching, site: FakeSite) -> None:
    site.frames["left"] = frame_of_part(1, size=64)
    with pytest.raises(TeachError, match="does not lie inside the camera's frame of 64 x 64"):
        teaching.create("ring", "left", REGION)
    teaching.create("ring", "left", None)
    assert teaching.take("ring").taken
    site.frames["left"] = frame_of_part(2, size=96)
    assert "now have 96 x 96 pixels, but the pictures 64 x 64" in str(teaching.take("ring").why)


@pytest.mark.parametrize(
    ("limits", "why"),
    [({"max_bytes": 1 << 20}, "at most 1 MiB"), ({}, "1000 pictures at most")],
)
def test_bounds_end_the_collecting_and_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: dict[str, int], why: str, again: Again
) -> None:
    if limits:
        size = 320
    else:
        size = 64
        monkeypatch.setattr(dataset_module, "MOST_PICTURES", 2)
        why = "2 pictures at most"
    site = FakeSite(tmp_path, live=False, **limits)
    teaching = again(site)
    teaching.create("ring", "left", None)
    teaching.collect("ring", on=True)
    for seed in range(12):
        teaching.offer("left", frame_of_part(seed, size=size))
    wait_for(lambda: not teaching.dataset("ring").collecting, 20)
    view = teaching.dataset("ring")
    assert why in str(view.problem)
    assert 2 <= len(view.pictures) < 12
    assert why in str(again(site).dataset("ring").problem)


def test_a_full_disk_takes_no_picture_and_keeps_those_there_are(
    teaching: Teaching, site: FakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    teaching.create("ring", "left", None)
    assert taken(teaching, site, "ring", 1) is None
    evidence = site.config.evidence.model_copy(update={"min_free_bytes": 1 << 60})
    monkeypatch.setattr(site, "config", site.config.model_copy(update={"evidence": evidence}))
    assert "must stay free" in str(taken(teaching, site, "ring", 2))
    assert len(teaching.dataset("ring").pictures) == 1


def test_names_and_cameras_are_refused_with_a_reason(teaching: Teaching) -> None:
    teaching.create("ring", "left", None)
    with pytest.raises(TeachError, match="there is a data set ring already"):
        teaching.create("ring", "right", None)
    with pytest.raises(TeachError, match="no camera 'middle'"):
        teaching.create("nut", "middle", None)
    teaching.create("nut", "left", None)
    teaching.collect("ring", on=True)
    with pytest.raises(TeachError, match="ring is collecting from camera left"):
        teaching.collect("nut", on=True)
    with pytest.raises(UnknownError):
        teaching.dataset("bolt")


def test_collecting_goes_on_after_a_crash(teaching: Teaching, site: FakeSite, again: Again) -> None:
    teaching.create("ring", "left", None)
    teaching.collect("ring", on=True)
    teaching.offer("left", frame_of_part(1))
    wait_for(lambda: len(teaching.dataset("ring").pictures) == 1, 10)
    after = again(site)
    after.offer("left", frame_of_part(1, noise=1))  # the same part as before the crash
    after.offer("left", frame_of_part(2))
    wait_for(lambda: len(after.dataset("ring").pictures) == 2, 10)
    assert after.dataset("ring").repeats == 1


def test_a_deleted_data_set_leaves_nothing(teaching: Teaching, site: FakeSite) -> None:
    teaching.create("ring", "left", None)
    assert taken(teaching, site, "ring", 1) is None
    teaching.delete("ring")
    assert list((site.config.station.state / FOLDER).iterdir()) == []
    assert teaching.view().datasets == []
    teaching.create("ring", "left", None)


def test_what_a_crash_left_behind_goes_at_the_next_start(
    teaching: Teaching, site: FakeSite, again: Again
) -> None:
    teaching.create("ring", "left", None)
    assert taken(teaching, site, "ring", 1) is None
    root = site.config.station.state / FOLDER
    pictures = root / "ring" / "pictures"
    shutil.copy(pictures / "000001.png", pictures / "000002.png")  # its record was not written
    (pictures / ".000003.png.0123.partial").write_bytes(b"\x89PNG")
    (root / "ring" / "job" / "model").mkdir(parents=True)
    (root / ".deleted-0123" / "pictures").mkdir(parents=True)
    (root / "damaged").mkdir()
    (root / "damaged" / "record.json").write_text("{", encoding="utf-8")
    after = again(site)
    assert [one.name for one in after.view().datasets] == ["ring"]
    assert [path.name for path in pictures.iterdir()] == ["000001.png"]
    assert {path.name for path in root.iterdir()} == {"ring", "damaged"}


def test_a_region_travels_with_the_zip(teaching: Teaching, site: FakeSite, tmp_path: Path) -> None:
    teaching.create("ring", "left", REGION)
    for seed in range(3):
        assert taken(teaching, site, "ring", seed) is None
    teaching.keep("ring", "000002", kept=False)
    (tmp_path / "ring.zip").write_bytes(b"".join(teaching.pictures("ring")))
    shutil.unpack_archive(tmp_path / "ring.zip", tmp_path / "out")
    found = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*")}
    assert found == {"ring/capture.json", "ring/good/000001.png", "ring/good/000003.png"}
    from differnet_runtime.inspection.capture_record import read_capture

    record = read_capture(tmp_path / "out" / "ring")
    assert record is not None
    assert (record.roi, record.frame_size) == (REGION, (128, 128))


CHILD = """
    import sys
    from pathlib import Path
    from differnet_runtime.teaching.teaching import Teaching, UnknownError
    from tests.fakes.teaching import FakeSite, frame_of_part, trainer

    site = FakeSite(Path(sys.argv[1]))
    teaching = Teaching(site, trainer("pass"))
    teaching.start()
    if not teaching.view().datasets:
        teaching.create("ring", "left", None)
    first = int(sys.argv[2])
    for seed in range(first, first + 1000):
        site.frames["left"] = frame_of_part(seed, size=64)
        view = teaching.take("ring")
        if view.taken:
            print(view.pictures[-1].id, flush=True)
"""


def test_a_station_that_is_killed_loses_no_picture_that_it_told_of(
    tmp_path: Path, again: Again
) -> None:
    told: set[str] = set()
    for life in range(4):
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(CHILD), str(tmp_path), str(1000 * life)],
            stdout=subprocess.PIPE, text=True,
        ) as child:  # fmt: skip
            assert child.stdout is not None
            told |= {child.stdout.readline().strip() for _ in range(4 + life)}
            child.kill()
            told |= {line.strip() for line in child.stdout.read().split("\n")[:-1]}
        teaching = again(FakeSite(tmp_path))
        found = {one.id for one in teaching.dataset("ring").pictures}
        assert told <= found
        for one in found:
            assert read_image(teaching.picture("ring", one)).shape == (64, 64, 3)
        assert len(found - told) <= life + 1  # on disk, and the telling was cut off
        teaching.stop()
    assert len(told) >= 20
