"""What meets teaching: a disk that is full, a reload, another data set, another camera's model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Thread

import pytest

from differnet_runtime.errors import DifferNetError, OutputError, TeachError
from differnet_runtime.model_file.contract import PictureSizes, Region
from differnet_runtime.model_file.metadata import ModelMetadata
from differnet_runtime.teaching import dataset as looking_module
from differnet_runtime.teaching import files as files_module
from differnet_runtime.teaching.dataset import Dataset
from differnet_runtime.teaching.files import FOLDER, DatasetFiles
from differnet_runtime.teaching.records import Record
from differnet_runtime.teaching.teaching import Teaching
from tests.fakes.teaching import FakeSite, frame_of_part, trainer
from tests.runtime.teaching.test_collecting import Again, again, recorded, site, taken, teaching
from tests.runtime.teaching.test_training import Line, line
from tests.runtime.waiting import wait_for

__all__ = ["again", "line", "site", "teaching"]


def test_two_data_sets_at_once_read_no_picture_again(
    teaching: Teaching, site: FakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def counted(path: Path) -> bytes:
        read.append(path)
        return path.read_bytes()

    monkeypatch.setattr(looking_module, "read_bytes", counted)
    for name, camera in (("ring", "left"), ("nut", "right")):
        teaching.create(name, camera, None)
        teaching.collect(name, on=True)
    for seed in range(3):
        for place, camera in enumerate(("left", "right")):
            teaching.offer(camera, frame_of_part(10 * place + seed, size=64))
        wait_for(
            lambda count=seed + 1: all(
                one.parts == count and not teaching.find(one.name).due
                for one in teaching.datasets()
            ),
            20,
        )
    assert read == []


def test_frames_do_not_wait_for_a_look_at_all_pictures(teaching: Teaching, site: FakeSite) -> None:
    teaching.create("ring", "left", None)
    for seed in range(3):
        assert taken(teaching, site, "ring", seed) is None
    before = teaching.find("ring")
    dataset = Dataset(before.files, before.record, lambda _: None)  # as after a start
    dataset.remember(parts=0)
    dataset.due = True
    for left in (True, True, False):  # a look reads one picture at least
        dataset.look(within_s=0.0)
        assert dataset.due is left
    assert dataset.record.parts == 3


def test_a_data_set_that_could_not_be_made_can_be_made_later(
    teaching: Teaching, site: FakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, _data: bytes, **_: bool) -> None:
        path.parent.mkdir(parents=True)  # as a full disk, or a crash, leaves it
        raise OutputError("no space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(files_module, "write_bytes", full)
        with pytest.raises(OutputError):
            teaching.create("ring", "left", None)
    assert teaching.create("ring", "left", None).name == "ring"
    root = site.config.station.state / FOLDER
    (root / "nut").mkdir()
    (root / "nut" / "record.json").write_text("{", encoding="utf-8")
    with pytest.raises(TeachError, match="nut holds a data set that can't be read"):
        teaching.create("nut", "left", None)


def test_the_page_may_ask_before_the_station_has_started(
    teaching: Teaching, site: FakeSite
) -> None:
    teaching.create("ring", "left", None)
    assert [one.name for one in Teaching(site, trainer("pass")).view().datasets] == ["ring"]


def test_a_camera_that_a_reload_removes_ends_the_collecting_and_says_so(
    teaching: Teaching, site: FakeSite
) -> None:
    teaching.create("ring", "left", None)
    teaching.collect("ring", on=True)
    cameras = {"right": site.config.camera["right"]}
    site.config = site.config.model_copy(update={"camera": cameras})
    teaching.renew()
    view = teaching.dataset("ring")
    assert (view.collecting, view.problem) == (False, "there is no camera 'left' any more")
    for change in (partial(teaching.collect, on=True), teaching.take, teaching.train):
        with pytest.raises(TeachError):
            change("ring")


def test_a_disk_that_can_not_be_written_holds_no_start_up(
    teaching: Teaching, site: FakeSite, monkeypatch: pytest.MonkeyPatch, again: Again
) -> None:
    teaching.create("ring", "left", None)
    left = site.config.station.state / FOLDER / "ring" / ".record.json.0123.partial"
    left.touch()

    def read_only(path: Path, missing_ok: bool = False) -> None:
        raise OSError(30, "Read-only file system", str(path), missing_ok)

    monkeypatch.setattr(Path, "unlink", read_only)
    assert [one.name for one in again(site).view().datasets] == ["ring"]


def test_what_goes_wrong_again_and_again_is_told_once(
    teaching: Teaching, site: FakeSite, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    teaching.create("ring", "left", None)
    teaching.collect("ring", on=True)
    teaching.offer("left", frame_of_part(1))
    wait_for(lambda: teaching.dataset("ring").parts == 1, 10)
    tries: list[Record] = []

    def full(_files: DatasetFiles, record: Record) -> None:
        tries.append(record)
        raise OutputError("no space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(DatasetFiles, "write", full)
        teaching.offer("left", frame_of_part(1, noise=1))  # a repeat: the count is to be written
        wait_for(lambda: len(tries) >= 3, 20)
    assert sum("no space left" in line for line in caplog.messages) == 1
    wait_for(lambda: recorded(site).repeats == 1, 10)


def test_a_disk_that_hangs_holds_no_stop_up(
    tmp_path: Path, again: Again, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = FakeSite(tmp_path, live=False)
    teaching = again(site)
    teaching.create("ring", "left", None)
    ring, stopping = teaching.find("ring"), Thread(target=teaching.stop, args=(0.2,))

    def full(*_: object) -> None:
        raise OutputError("no space left on device")

    with ring.lock:  # as by a write that does not return
        with monkeypatch.context() as broken:
            broken.setattr(DatasetFiles, "write", full)
            with pytest.raises(OutputError):
                ring.remember(repeats=1)
        stopping.start()
        wait_for(lambda: not stopping.is_alive(), 10)


def test_a_model_that_could_judge_no_frame_of_the_camera_is_refused(
    line: Callable[..., Line], tiny_model: Callable[..., Path], metadata: ModelMetadata
) -> None:
    ours = line("pass")
    region = metadata.input.model_copy(update={"region": Region(x=0, y=0, width=100, height=100)})
    sizes = PictureSizes.of([(640, 480)] * 20)
    for changes, why in (
        ({"input": region}, r"region .* does not lie inside the camera's frame of 64 x 64"),
        ({"picture_sizes": sizes}, "knows the picture size 640 x 480, but the camera's is 64"),
    ):
        with pytest.raises(TeachError, match=f"for another camera or region: .*{why}"):
            ours.teaching.add_model("ring", tiny_model(**changes))
    assert ours.site.stored() == []
    assert ours.teaching.dataset("ring").model is None


def test_a_disk_that_gets_full_ends_a_training_and_takes_no_model(
    line: Callable[..., Line], sound_model: Callable[..., Path]
) -> None:
    ours = line("import time; time.sleep(600)")
    ours.teaching.train("ring")
    before = ours.site.config
    evidence = before.evidence.model_copy(update={"min_free_bytes": 1 << 60})
    ours.site.config = before.model_copy(update={"evidence": evidence})
    ended = ours.ended()
    assert ended.state == "failed"
    assert "the training was ended: only" in str(ended.error)
    ours.nothing_is_left()
    assert "must stay free" in str(ours.teaching.view().reason)
    for refused in (lambda: ours.teaching.train("ring"),
                    lambda: ours.teaching.add_model("ring", sound_model())):  # fmt: skip
        with pytest.raises(DifferNetError, match="must stay free"):
            refused()
    assert ours.site.stored() == []


def test_the_end_of_a_training_is_known_where_the_disk_can_not_be_written(
    line: Callable[..., Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = "import os, time\nwhile not os.path.exists(FOLDER + '/go'): time.sleep(0.01)\n"
    ours = line(wait + "raise ValueError('no such thing')")
    ours.teaching.train("ring")

    def full(_files: DatasetFiles, _record: Record) -> None:
        raise OutputError("no space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(DatasetFiles, "write", full)
        (ours.folder / "job" / "go").touch()
        assert ours.ended().state == "failed"
    stored = ours.folder / "record.json"
    wait_for(lambda: '"state":"failed"' in stored.read_text(), 10)


def test_a_training_can_be_cancelled_after_teaching_was_switched_off(
    line: Callable[..., Line],
) -> None:
    ours = line("import time; time.sleep(600)")
    ours.teaching.train("ring")
    off = ours.site.config.teach.model_copy(update={"enabled": False})
    ours.site.config = ours.site.config.model_copy(update={"teach": off})
    ours.teaching.renew()
    ours.teaching.cancel("ring")
    assert ours.ended().state == "cancelled"
